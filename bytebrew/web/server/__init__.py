"""The HTTP server: hypercorn, with patches."""
