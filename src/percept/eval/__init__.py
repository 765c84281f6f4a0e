"""Evaluation: encoders in, scores with intervals out; evaluators know contracts, never a method."""
