"""Training: one core for all families."""
