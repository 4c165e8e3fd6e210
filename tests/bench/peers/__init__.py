"""What people would pick instead, beside floor and engine in one run: `make bench-peers`.

Environments of their own, which setup.sh makes, run the modules `*_server`; each prints a port on which it then serves.
"""
