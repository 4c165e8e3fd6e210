"""The machine: clock, file descriptors, locks between processes, memory."""
