"""What a store must do that holds the engine's data, and the migrations of its tables."""
