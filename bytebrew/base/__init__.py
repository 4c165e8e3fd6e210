"""Building blocks without knowledge of agents."""
