"""Wrappers of the towers that torch.export can trace: tensors in, a tuple of float32 tensors out.

They call the eager towers. Choices that a tower makes in Python for each image (does the grid equal the learned grid? is
the rotation table cached?) are made once here, when the graph is traced.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.models.config import PE
from percept.models.onnx import layer_name
from percept.models.text import TextTower
from percept.models.towers import ImageTower
from percept.models.vision import VisionTower
from percept.nn.context import Rope
from percept.nn.posembed import interpolate_positions
from percept.nn.rope import rope_2d


class ImageGraph(nn.Module):
    """An image tower for images of one size or, if `dynamic`, of any size: positions and rotations follow the shape."""

    def __init__(self, tower: ImageTower, *, dynamic: bool, layers: bool) -> None:
        super().__init__()
        if not isinstance(tower, VisionTower):
            raise PerceptError(f"image towers of kind {tower.config.kind!r} cannot be exported; only {PE!r} can")
        self.tower = tower
        self.dynamic = dynamic
        self.layers = range(tower.config.layers if layers else 0)

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs of `forward`."""
        vector = [] if self.tower.config.pool == "none" else ["vector"]
        return [*vector, "tokens", *map(layer_name, self.layers)]

    def forward(self, image: Float[Tensor, "b 3 y x"]) -> tuple[Tensor, ...]:
        """Return the vector (if any, not normalised), the tokens after the final norm, and the tokens after each block."""
        config = self.tower.config
        grid = (image.shape[-2] // config.patch_size, image.shape[-1] // config.patch_size)
        positions, nominal = self.tower.positions if self.dynamic else None, (config.grid, config.grid)
        if positions is not None:  # interpolated for the nominal grid too: a graph cannot branch on the size
            positions = interpolate_positions(positions, nominal, grid, prefix=config.prefix)
        out = self.tower(
            image, layers=self.layers, positions=positions, rope=lambda prefix: self._rope(grid, prefix, image.device)
        )
        return _floats([] if out.pooled is None else [out.pooled], out.tokens, out.hidden)

    def _rope(self, grid: tuple[int, int], prefix: int, device: torch.device) -> Rope:
        config = self.tower.config
        head_dim, reference = config.width // config.heads, config.rope_grid
        return rope_2d(grid, head_dim, prefix=prefix, first=config.prefix, reference=reference, device=device)


class TextGraph(nn.Module):
    """A text tower for ids of any length up to the context."""

    def __init__(self, tower: TextTower, *, layers: bool) -> None:
        super().__init__()
        self.tower = tower
        self.layers = range(tower.config.layers if layers else 0)

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs of `forward`."""
        return ["vector", "tokens", *map(layer_name, self.layers)]

    def forward(self, ids: Int[Tensor, "b n"]) -> tuple[Tensor, ...]:
        """Return the vector (not normalised), the tokens after the final norm, and the tokens after each block."""
        out = self.tower(embeddings=self.tower.embedding(ids), ends=ids.argmax(dim=-1), layers=self.layers)
        return _floats([out.pooled], out.tokens, out.hidden)


def _floats(vectors: list[Tensor], tokens: Tensor, hidden: dict[int, Tensor]) -> tuple[Tensor, ...]:
    return tuple(tensor.float() for tensor in (*vectors, tokens, *hidden.values()))
