"""Runs outside the engine, and imports nothing of it: extracts text from files and splits it into chunks."""
