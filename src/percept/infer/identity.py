"""Which model made a vector: vectors are comparable only if their identities are equal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from percept.fast import weights_state
from percept.weights.fingerprint import hash_tensors


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


class WeightHashes:
    """{name: hash} of a model's weights, computed when first called and after a change.

    The hashes are those of the weights as stored, until a module or a tensor is replaced or PyTorch counts a write to one;
    then those of the weights as they are. Writes through `weight.data` are not counted.
    """

    def __init__(self, model: nn.Module, stored: Callable[[], Mapping[str, str]]) -> None:
        self._model, self._stored = model, stored
        self._loaded = weights_state(model)
        self._known: dict[Any, Mapping[str, str]] = {}

    def __call__(self) -> Mapping[str, str]:
        """Return the hashes; seconds for a large model, once."""
        state = weights_state(self._model)
        if state not in self._known:
            self._known = {state: self._stored() if state == self._loaded else hash_tensors(self._model.state_dict())}
        return self._known[state]

    def __getstate__(self) -> dict[str, Any]:
        """Copy or pickle the hashes in place of what computes them."""
        return {"model": self._model, "hashes": self()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy, whose tensors are different objects."""
        self._model, self._loaded = state["model"], weights_state(state["model"])
        self._known = {self._loaded: state["hashes"]}
        self._stored = lambda: state["hashes"]
