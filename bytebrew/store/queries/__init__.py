"""Queries that only read, or rewrite rows without changing what they say."""
