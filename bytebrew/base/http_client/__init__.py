"""The HTTP client: transport, pools, timeouts, address policy."""
