"""Checking a source without training on it: which rows cannot be used, what the others hold, and what repeats."""

from percept.data.check.run import Findings, check_source

__all__ = ["Findings", "check_source"]
