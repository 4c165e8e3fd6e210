"""The nodes that share a database: what they signal to each other."""
