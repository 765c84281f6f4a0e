"""What a model computes at each place of an image: tokens of any layer, as maps, and where the pooling head looks."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.models.towers import ImageTower, VisionOut
from percept.nn.stack import resolve_layer

Layer: TypeAlias = int | np.integer
Layers: TypeAlias = Iterable[Layer] | Layer


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """One image inside a model, after some of its blocks."""

    tokens: dict[int, Float[Tensor, "n w"]]
    """By layer, numbered as the caller numbered it: the class token first where the model has one, then the patches."""
    prefix: int
    """Tokens before the patches: 1 with a class token, else 0."""
    grid: tuple[int, int]
    """Patches down and across."""

    def patches(self, layer: int) -> Float[Tensor, "n w"]:
        """Return the patch tokens, row by row."""
        return self.tokens[layer][self.prefix :]

    def map(self, layer: int) -> Float[Tensor, "y x w"]:
        """Return the patch tokens at their places in the image."""
        return self.patches(layer).unflatten(0, self.grid)

    def class_token(self, layer: int) -> Float[Tensor, " w"]:
        """Return the class token.

        Raises:
            PerceptError: a model without one.
        """
        if not self.prefix:
            raise PerceptError("this model has no class token; use its patches")
        return self.tokens[layer][0]


@dataclass(frozen=True, kw_only=True)
class PoolAttention:
    """Where the heads of the pooling query look in one image."""

    maps: Float[Tensor, "h y x"]
    """Share of each patch."""
    class_token: Float[Tensor, " h"]
    """Share of the class token, 0 in a model without one; with it the shares of a head sum to 1."""


def check_layers(layers: Layers, num_layers: int) -> list[int]:
    """Return one layer or several as a list.

    Raises:
        PerceptError: no layers, not an integer, or there is no such layer.
    """
    numbers = [layers] if isinstance(layers, int | np.integer) else list(layers)
    if not numbers:
        raise PerceptError("no layers were given; -1 is the last one")
    for layer in numbers:
        if not isinstance(layer, int | np.integer):
            raise PerceptError(f"a layer must be an integer, counted from either end; got {layer!r}")
        resolve_layer(int(layer), num_layers)
    return [int(layer) for layer in numbers]


def run(tower: ImageTower, group: Sequence[Tensor], layers: Sequence[int] = ()) -> list[VisionOut]:
    """Run batches of one shape each without pooling: one batch densely, several as one packed row."""
    if len(group) == 1:
        return [tower(group[0], layers=layers, pool=False)]
    return tower.packed(group, layers=layers, pool=False)


def hidden_of(
    tower: ImageTower, group: Sequence[Tensor], layers: Sequence[int], finish: Callable[[Tensor], Tensor] | None = None
) -> list[Hidden]:
    """Return what each image is after the layers, in float32 on the CPU.

    Args:
        tower: an image tower.
        group: batches that run together.
        layers: blocks, counted from either end.
        finish: applied to the tokens, for example the tower's final norm.
    """
    rows = []
    for out in run(tower, group, layers):
        states = {layer: finish(state) if finish else state for layer, state in out.hidden.items()}
        tokens = {layer: state.float().cpu() for layer, state in states.items()}
        rows += [
            Hidden(tokens={layer: tokens[layer][row].clone() for layer in layers}, prefix=out.prefix, grid=out.grid)
            for row in range(len(out.tokens))
        ]
    return rows


def attention_of(tower: ImageTower, group: Sequence[Tensor]) -> list[PoolAttention]:
    """Return where the pooling head looks in each image, in float32 on the CPU.

    Raises:
        PerceptError: the model pools without attention, or not at all.
    """
    rows = []
    for out in run(tower, group):
        weights = tower.pool_weights(out.tokens).cpu()
        maps, shares = weights[..., out.prefix :].unflatten(-1, out.grid), weights[..., : out.prefix].sum(dim=-1)
        rows += [PoolAttention(maps=heads, class_token=share) for heads, share in zip(maps, shares, strict=True)]
    return rows


def stacked(rows: list[Tensor], what: str) -> Tensor:
    """Stack one tensor per image.

    Raises:
        PerceptError: no images, or images of different shapes.
    """
    if not rows:
        raise PerceptError(f"no images were given, so there are no {what}")
    if any(row.shape != rows[0].shape for row in rows):
        raise PerceptError(
            f"images of different sizes give {what} of different shapes; give one size at a time, or use encoder.hidden"
        )
    return torch.stack(rows)
