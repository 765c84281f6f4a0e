"""A bridge: how queries of a new model search vectors of an old one, and how the scores of both are compared."""

import struct
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from percept.core.errors import PerceptError
from percept.nn.across import MapAcross

FLAT = 1e-6
"""Standard deviation of scores below which they do not tell anchors apart."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Turns a score of the old space into one of the new space: slope * score + offset, with a slope above 0."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return scores on the scale of the new model."""
        return (self.slope * scores + self.offset).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bridge:
    """The map from the new space to the old one, and images whose vectors are known in both."""

    map: MapAcross
    new: Float[np.ndarray, "a d"]
    """Anchors: images that did not take part in learning the map, as the new model sees them."""
    old: Float[np.ndarray, "a e"]
    """The same images as the old model saw them."""

    @torch.no_grad()
    def mapped(self, vectors: Float[Tensor, "*b d"]) -> Float[Tensor, "*b e"]:
        """Return unit vectors of the new model as unit vectors of the old space."""
        return self.map(vectors)

    def calibration(self, query: Float[np.ndarray, " d"], mapped: Float[np.ndarray, " e"]) -> Calibration:
        """Return the line that gives the anchors the same mean score, and the same spread, in both spaces.

        A line per query: a query of one word has other scores than a long one, and an image other scores than a text.

        Args:
            query: unit vector of the new model.
            mapped: the same query in the old space.
        """
        now, then = self.new @ query, self.old @ mapped
        slope = float(now.std() / then.std()) if min(now.std(), then.std()) > FLAT else 1.0
        return Calibration(slope=slope, offset=float(now.mean() - slope * then.mean()))

    def data(self) -> bytes:
        """Return the bridge as the bytes of a safetensors file."""
        from safetensors.torch import save

        anchors = {"new": torch.from_numpy(self.new), "old": torch.from_numpy(self.old)}
        tensors = {f"map.{name}": value for name, value in self.map.state_dict().items()} | anchors
        return save({name: value.detach().float().contiguous() for name, value in tensors.items()})

    @classmethod
    def read(cls, data: bytes) -> "Bridge":
        """Return the bridge that `data` returned as bytes.

        Raises:
            PerceptError: damaged.
        """
        from safetensors.torch import load

        try:
            tensors = load(data)
            anchors = tensors.pop("new").numpy(), tensors.pop("old").numpy()
            state = {name.removeprefix("map."): value for name, value in tensors.items()}
            d_out, d_in = state["linear.weight"].shape
            hidden = len(state["mlp.0.weight"]) if "mlp.0.weight" in state else 0
            with torch.device("meta"):  # no random numbers are drawn
                across = MapAcross(d_in, d_out, hidden=hidden)
            across.load_state_dict(state, assign=True)
        except (SafetensorError, KeyError, RuntimeError, ValueError, struct.error):
            raise PerceptError(
                "the map of an upgraded index is damaged. Restore the index from a copy, or index again with --index OTHER."
            ) from None
        return cls(map=across.eval().requires_grad_(False), new=anchors[0], old=anchors[1])
