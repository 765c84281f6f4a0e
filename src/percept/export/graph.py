"""The towers in the form that torch.export can trace: tensors in, a tuple of float32 tensors out.

They run the blocks of the eager towers. What those decide with Python while they run (is this the grid the positions
were learned on? has this table been made before?) is decided here once, when the graph is made.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from percept.models.onnx import layer_name
from percept.models.text import TextTower
from percept.models.vision import VisionTower
from percept.nn.posembed import interpolate_positions
from percept.nn.rope import rope_2d
from percept.nn.stack import run_stack


class ImageGraph(nn.Module):
    """A vision tower for pictures of one size, or with `dynamic` of any: positions and rotations follow the shape."""

    def __init__(self, tower: VisionTower, *, dynamic: bool, layers: bool) -> None:
        super().__init__()
        self.tower = tower
        self.dynamic = dynamic
        self.layers = range(tower.config.layers if layers else 0)

    @property
    def outputs(self) -> list[str]:
        """Names of what `forward` returns."""
        vector = [] if self.tower.config.pool == "none" else ["vector"]
        return [*vector, "tokens", *map(layer_name, self.layers)]

    def forward(self, image: Float[Tensor, "b 3 y x"]) -> tuple[Tensor, ...]:
        """Return the vector, not of unit length, where the model has one, the normed tokens, and those after each block."""
        tower = self.tower
        patches, grid = tower.embed_patches(image.to(tower.patch.weight.dtype))
        x = tower.norm_pre(self._placed(patches, grid))
        head_dim, prefix = tower.config.width // tower.config.heads, tower.prefix
        rope = rope_2d(grid, head_dim, prefix=prefix, first=prefix, device=x.device) if tower.config.rope else None
        table = None if rope is None else lambda _: rope
        out = run_stack(tower.blocks, x, prefix=prefix, layers=self.layers, rope=table)
        tokens = tower.norm_post(out.tokens)
        vector = tower.pooled(tokens, prefix)
        return _floats([] if vector is None else [vector], tokens, out.hidden)

    def _placed(self, patches: Float[Tensor, "b n w"], grid: tuple[int, int]) -> Float[Tensor, "b m w"]:
        """Put the class token in front and add the positions of the grid."""
        tower = self.tower
        if not self.dynamic or tower.positions is None:
            return tower.add_positions(patches, grid)
        if tower.class_token is not None:
            patches = torch.cat([tower.class_token.expand(patches.shape[0], 1, -1), patches], dim=1)
        nominal = (tower.config.grid, tower.config.grid)
        return patches + interpolate_positions(tower.positions, nominal, grid, prefix=tower.prefix)


class TextGraph(nn.Module):
    """A text tower for ids of any length up to the context."""

    def __init__(self, tower: TextTower, *, layers: bool) -> None:
        super().__init__()
        self.tower = tower
        self.layers = range(tower.config.layers if layers else 0)

    @property
    def outputs(self) -> list[str]:
        """Names of what `forward` returns."""
        return ["vector", "tokens", *map(layer_name, self.layers)]

    def forward(self, ids: Int[Tensor, "b n"]) -> tuple[Tensor, ...]:
        """Return the vector, not of unit length, the normed tokens, and those after each block."""
        out = self.tower(embeddings=self.tower.embedding(ids), ends=ids.argmax(dim=-1), layers=self.layers)
        return _floats([out.pooled], out.tokens, out.hidden)


def _floats(vectors: list[Tensor], tokens: Tensor, hidden: dict[int, Tensor]) -> tuple[Tensor, ...]:
    return tuple(one.float() for one in (*vectors, tokens, *hidden.values()))
