"""Who made a vector: the model's name, the hash of all that decides its vectors, their length."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Vectors of two models are comparable only when their identities are equal."""

    name: str
    """What the model was loaded by."""
    fingerprint: str
    """Hash of weights, configuration, tokenizer and preprocessing, equal however the model is stored."""
    dim: int
    """Length of the vectors; 0 for a model that gives tokens only."""

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint[:8]}, {self.dim} numbers)"
