"""The recording of the first minute, of the real program: `make recording` makes it anew."""
