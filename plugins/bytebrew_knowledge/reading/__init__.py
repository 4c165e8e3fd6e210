"""What runs outside the engine: text out of files, cut into chunks; it imports nothing of the engine."""
