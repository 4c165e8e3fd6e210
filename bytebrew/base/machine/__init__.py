"""The machine that the process runs on: clock, descriptors, files that only one process may hold."""
