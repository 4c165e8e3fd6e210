"""What plugin authors meet: hooks, and the types that they take and give."""
