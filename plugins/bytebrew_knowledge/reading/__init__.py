"""Extracts text from files and splits it into chunks; runs outside the engine and imports nothing of it."""
