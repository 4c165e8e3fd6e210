"""Sessions that other nodes run: their turns as seen from here, and what is asked of the nodes."""
