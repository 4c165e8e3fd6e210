"""The commands for plugin authors, and for operators who install plugins."""
