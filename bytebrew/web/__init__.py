"""The HTTP side of the engine."""
