"""Identity of vectors: the model's name, the hash of all that decides its vectors, and their length."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, init=False)
class Identity:
    """Vectors of two models are comparable only if their identities are equal."""

    name: str
    """Name by which the model was loaded."""
    fingerprint: str
    """Hash of weights, configuration, tokenizer and preprocessing, equal in all layouts."""
    dim: int
    """Length of the vectors; 0 for a model that gives tokens only."""

    def __init__(self, *, name: str, fingerprint: str | Callable[[], str], dim: int) -> None:
        """Take the fingerprint, or a function that returns it and is called once, when it is first read."""
        values = {"name": name, "dim": dim, "fingerprint" if isinstance(fingerprint, str) else "_compute": fingerprint}
        self.__dict__.update(values)

    def __getattr__(self, attribute: str) -> Any:
        """Compute the fingerprint; Python calls this for attributes that are not set yet."""
        if attribute != "fingerprint" or "_compute" not in self.__dict__:
            raise AttributeError(attribute)
        return self.__dict__.setdefault("fingerprint", self.__dict__["_compute"]())

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint[:8]}, {self.dim} numbers)"

    def __deepcopy__(self, _: Any) -> "Identity":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _identity, (self.name, self.fingerprint, self.dim)


def _identity(name: str, fingerprint: str, dim: int) -> Identity:
    return Identity(name=name, fingerprint=fingerprint, dim=dim)
