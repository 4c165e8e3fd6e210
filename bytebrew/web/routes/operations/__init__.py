"""Routes about the engine itself: its plugins, its environment and its backups."""
