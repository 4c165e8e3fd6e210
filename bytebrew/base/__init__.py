"""What knows nothing of agents."""
