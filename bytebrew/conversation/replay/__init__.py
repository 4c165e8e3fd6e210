"""Replays: recorded conversations with another agent, model or prompt, and what differs."""
