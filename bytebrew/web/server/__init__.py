"""The server: hypercorn, and what of it is replaced."""
