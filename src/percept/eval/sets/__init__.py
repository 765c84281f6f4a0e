"""Evaluation sets that people have, recognised from their layout; samples are read one at a time and never held together."""

from percept.eval.sets.item import EvaluationSet, Item, Request
from percept.eval.sets.open import open_set

__all__ = ["EvaluationSet", "Item", "Request", "open_set"]
