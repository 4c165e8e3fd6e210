"""Moves all rows of a database into another one of either kind, and compares both."""
