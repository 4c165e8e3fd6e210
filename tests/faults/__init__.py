"""Faults that are planted between the engine and the system, and what must hold all the same."""
