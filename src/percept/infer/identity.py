"""Which model made a vector: vectors are comparable only if their identities are equal."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Identity of an encoder's vectors."""

    name: str
    """What the model was loaded as; not part of the comparison of spaces."""
    image: str
    """Hash of what decides the vector of an image: weights, configuration, current preprocessing."""
    text: str | None
    """Hash of what decides the vector of a text: weights, configuration, tokenizer; None without a text tower."""
    dim: int
    """Length of the vectors; 0 for a model that gives tokens only."""

    def __str__(self) -> str:
        return f"{self.name} ({self.image[:8]}, {self.dim} numbers)"
