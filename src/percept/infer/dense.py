"""What a model sees where: tokens of any layer, as maps, and where the pooling head looks."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.models.towers import ImageTower, VisionOut


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """One picture inside a model, after the blocks asked for."""

    tokens: dict[int, Float[Tensor, "n w"]]
    """By layer, with its number as it was asked for: the class token first where the model has one, then the patches."""
    prefix: int
    """Tokens in front of the patches: 1 with a class token, else 0."""
    grid: tuple[int, int]
    """Patches down and across."""

    def patches(self, layer: int) -> Float[Tensor, "n w"]:
        """Return the patch tokens, row by row."""
        return self.tokens[layer][self.prefix :]

    def map(self, layer: int) -> Float[Tensor, "y x w"]:
        """Return the patch tokens where they lie in the picture."""
        return self.patches(layer).unflatten(0, self.grid)

    def class_token(self, layer: int) -> Float[Tensor, " w"]:
        """Return the class token.

        Raises:
            PerceptError: a model without one.
        """
        if not self.prefix:
            raise PerceptError("this model has no class token; take its patches")
        return self.tokens[layer][0]


@dataclass(frozen=True, kw_only=True)
class PoolAttention:
    """Where the heads of the pooling query look in one picture."""

    maps: Float[Tensor, "h y x"]
    """Share of each patch."""
    class_token: Float[Tensor, " h"]
    """Share of the class token, 0 in a model without one; with it the shares of a head add up to 1."""


def run(tower: ImageTower, pack: Sequence[Tensor], layers: Sequence[int] = ()) -> list[VisionOut]:
    """Run preprocessed batches, of one size each, without pooling: one batch densely, several as one packed row."""
    if len(pack) == 1:
        return [tower(pack[0], layers=layers, pool=False)]
    return tower.packed(pack, layers=layers, pool=False)


def hidden_of(tower: ImageTower, pack: Sequence[Tensor], layers: Sequence[int], norm: bool) -> list[Hidden]:
    """Return what each picture is after the layers, in float32 on the CPU; with `norm`, through the final norm."""
    rows = []
    for out in run(tower, pack, layers):
        states = {layer: tower.normed(state) if norm else state for layer, state in out.hidden.items()}
        tokens = {layer: state.float().cpu() for layer, state in states.items()}
        rows += [
            Hidden(tokens={layer: tokens[layer][row] for layer in layers}, prefix=out.prefix, grid=out.grid)
            for row in range(len(out.tokens))
        ]
    return rows


def attention_of(tower: ImageTower, pack: Sequence[Tensor]) -> list[PoolAttention]:
    """Return where the pooling head looks in each picture, in float32 on the CPU.

    Raises:
        PerceptError: the model does not pool by attention.
    """
    rows = []
    for out in run(tower, pack):
        weights = tower.pool_weights(out.tokens).cpu()
        maps, shares = weights[..., out.prefix :].unflatten(-1, out.grid), weights[..., : out.prefix].sum(dim=-1)
        rows += [PoolAttention(maps=one, class_token=share) for one, share in zip(maps, shares, strict=True)]
    return rows
