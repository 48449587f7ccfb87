"""What runs a model: one file a backend."""
