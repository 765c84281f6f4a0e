"""Weights: where a model is, how its files are laid out, and how they become a model and files again."""
