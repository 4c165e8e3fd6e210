"""Modules that know nothing of agents."""
