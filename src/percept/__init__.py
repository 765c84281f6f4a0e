"""percept: perception encoders and perception language models, from training to search.

>>> import percept
>>> encoder = percept.load("nano")                      # doctest: +SKIP
>>> encoder.classify("cat.jpg", ["cat", "dog"])         # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from percept.core.errors import PerceptError
    from percept.infer.assistant import Assistant, assistant
    from percept.infer.encoder import Encoder
    from percept.infer.load import load
    from percept.search.index import Index

from percept.core import VERSION as __version__

__all__ = ["Assistant", "Encoder", "Index", "PerceptError", "__version__", "assistant", "load"]

_HOMES = {
    "load": "percept.infer.load", "Encoder": "percept.infer.encoder", "assistant": "percept.infer.assistant",
    "Assistant": "percept.infer.assistant", "PerceptError": "percept.core.errors", "Index": "percept.search.index",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `import percept` itself costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'percept' has no attribute {name!r}; it offers {', '.join(__all__)}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what can be asked for, loaded or not."""
    return sorted({*globals(), *__all__})
