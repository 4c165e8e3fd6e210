"""The contract with plugins: hooks, and the types that they take and return."""
