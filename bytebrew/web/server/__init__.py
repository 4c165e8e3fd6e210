"""The HTTP server: HTTP/1.1 of its own, and hypercorn's HTTP/2 with patches."""
