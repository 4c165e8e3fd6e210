"""Turns: the agent loop, the queue of turns, their recording and their recovery."""
