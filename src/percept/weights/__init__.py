"""Weight files in, state dicts of our modules out: one key map per source format."""

from percept.weights.layouts.official import from_official, read_official, to_official

__all__ = ["from_official", "read_official", "to_official"]
