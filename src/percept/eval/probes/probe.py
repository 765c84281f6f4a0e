"""What a probe offers to `percept.eval.layers`, and the table of probes; importing this file does not import torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

from percept.core.errors import unknown_name

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from percept.eval.probes.head import Head
    from percept.eval.probes.outcome import Outcome
    from percept.eval.probes.stream import Frame

Task: TypeAlias = Literal["classes", "captions", "masks", "depth", "boxes", "tracks", "points", "words"]

PROBES: dict[str, dict[str, str]] = {
    "classes": {"linear": "percept.eval.probes.linear:Classes", "knn": "percept.eval.probes.knn:Neighbours"},
    "captions": {"projection": "percept.eval.probes.retrieval:Captions"},
    "masks": {"linear": "percept.eval.probes.dense:Masks"},
    "depth": {"linear": "percept.eval.probes.dense:Depth", "dpt": "percept.eval.probes.dpt:Depth"},
    "boxes": {"fcos": "percept.eval.probes.fcos:Boxes"},
    "tracks": {"propagation": "percept.eval.probes.matching:Tracks"},
    "points": {"correspondence": "percept.eval.probes.matching:Points"},
    "words": {"ctc": "percept.eval.probes.reading:Words"},
}
"""Task: its probes; the first one is the default."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a probe knows about the encoder and the labels before it sees a sample."""

    frame: "Frame"
    classes: tuple[str, ...] = ()
    unit: Literal["m", ""] = ""
    """Unit of depth."""
    device: str = "cpu"
    """Where heads are trained."""
    tokens: int = 0
    """Patches of a training image that are kept; 0 for all."""


@runtime_checkable
class Fitted(Protocol):
    """A probe after training on one layer."""

    def judge(self, features: "Sequence[Tensor]", targets: Sequence[Any]) -> "Mapping[str, Outcome]":
        """Return the outcome by name of the measure; the first one chooses the layer."""
        ...

    def head(self, layer: int) -> "Head | None":
        """Return the trained head; None for a probe without one that can be saved."""
        ...


@runtime_checkable
class Probe(Protocol):
    """One way to measure a layer. Created with a `Setup`."""

    trains: bool
    """False for a measure that needs no training samples."""
    whole: bool
    """True if all held-out samples are judged together, as retrieval is; False to judge them as they come."""

    def reduce(self, tokens: "Tensor", prefix: int, grid: tuple[int, int]) -> "Tensor":
        """Return what is kept of the tokens [b, n, w] of a layer."""
        ...

    def thin(
        self, features: "dict[int, Tensor]", target: Any, rng: "np.random.Generator"
    ) -> "tuple[dict[int, Tensor], Any]":
        """Return what is kept of one training sample; the same places in every layer."""
        ...

    def fit(self, features: "Sequence[Tensor]", targets: Sequence[Any], *, seed: int) -> Fitted:
        """Train on one layer. Settings such as the weight decay are chosen on a part of these samples."""
        ...


def find_probe(task: str, name: str | None = None) -> tuple[str, Any]:
    """Return the name and the class of a probe of a task; its default probe if no name is given.

    Raises:
        PerceptError: the task or the probe is not in the table.
    """
    if task not in PROBES:
        raise unknown_name("task", task, PROBES)
    name = name or next(iter(PROBES[task]))
    if name not in PROBES[task]:
        raise unknown_name(f"probe of {task}", name, PROBES[task])
    module, attribute = PROBES[task][name].split(":")
    return name, getattr(import_module(module), attribute)


def held_out(count: int, seed: int) -> "tuple[np.ndarray, np.ndarray]":
    """Return the numbers of three quarters of the samples, and of the rest, on which settings are chosen."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(count)
    rest = max(1, count // 4) if count > 1 else 0
    return np.sort(order[rest:]), np.sort(order[:rest])
