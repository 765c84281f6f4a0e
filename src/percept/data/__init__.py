"""Data: reading images and videos, preprocessing, tokenizers, folders of files, and sources of training data."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from percept.data.sources import mix, open_rows, open_source

__all__ = ["mix", "open_rows", "open_source"]


def __getattr__(name: str) -> Any:
    """Import the functions for sources when they are first used."""
    if name not in __all__:
        raise AttributeError(f"module 'percept.data' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module("percept.data.sources"), name)
