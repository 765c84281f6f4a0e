"""Evaluation: models in, scores with intervals out; evaluations know contracts, never a method."""
