"""Errors, configuration, files, seeds, the machine and terminal output: no layer, no model."""

VERSION = "0.1.0"
"""Version of the package; `percept.__version__` is the same."""
