"""What is called at moments of a training, one callback a file."""
