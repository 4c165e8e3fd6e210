"""The HTTP client: transport, pools, time limits, address policy."""
