"""The nodes that share a database: which of them live, who leads, what they tell each other."""
