"""Tool calls of a turn, the questions to a person about them, and their long results."""
