"""Clients of engines that are disturbed, and what they saw: for tests/chaos and tests/cluster."""
