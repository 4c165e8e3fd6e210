"""Turns: the agent loop, and what runs, records and takes up turns."""
