"""The encode engine: plan, run, collect. It never asks which family it serves."""
