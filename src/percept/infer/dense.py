"""What a model sees where: tokens of any layer, as maps, and where the pooling head looks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from jaxtyping import Float
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.models.vision import VisionOut

Tower: TypeAlias = Any
"""A `VisionTower`, or what stands in for one: an exported graph gives the same `VisionOut`."""


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


def run(tower: Tower, pack: Sequence[Tensor], layers: Sequence[int] = ()) -> list[VisionOut]:
    """Run preprocessed batches, of one size each, without pooling: one batch densely, several as one packed row."""
    if len(pack) == 1:
        return [tower(pack[0], layers=layers, pool=False)]
    return tower.packed(pack, layers=layers, pool=False)


def hidden_of(tower: Tower, pack: Sequence[Tensor], layers: Sequence[int], norm: bool) -> list[Hidden]:
    """Return what each picture is after the layers, in float32 on the CPU; with `norm`, through the final norm."""
    finish = final_norm(tower) if norm else nn.Identity()
    rows = []
    for out in run(tower, pack, layers):
        tokens = {layer: finish(state).float().cpu() for layer, state in out.hidden.items()}
        rows += [
            Hidden(tokens={layer: tokens[layer][row] for layer in layers}, prefix=out.prefix, grid=out.grid)
            for row in range(len(out.tokens))
        ]
    return rows


def final_norm(tower: Tower) -> Callable[[Tensor], Tensor]:
    """Return the norm after the last block.

    Raises:
        PerceptError: the model ends without one.
    """
    if not hasattr(tower, "norm_post"):
        raise PerceptError("an exported graph gives tokens without the final norm; load the model it was made of")
    if not tower.config.norm_post:
        raise PerceptError("this model ends without a norm (PE-Lang, PE-Spatial and cut models do); leave norm out")
    return tower.norm_post


def attention_of(tower: Tower, pack: Sequence[Tensor]) -> list[PoolAttention]:
    """Return where the pooling head looks in each picture, in float32 on the CPU.

    Raises:
        PerceptError: the model pools in another way, or not at all.
    """
    if not hasattr(tower, "pool"):
        raise PerceptError("an exported graph does not show where its pooling looks; load the model it was made of")
    if tower.pool is None:
        how = {"none": "gives tokens and pools nothing", "class": "takes its class token", "average": "takes the mean"}
        raise PerceptError(
            f"this model {how[tower.config.pool]}, so there is no pooling head whose attention could be shown; "
            "nano and the PE-Core models have one"
        )
    rows = []
    for out in run(tower, pack):
        weights = tower.pool.weights(out.tokens).cpu()
        maps, shares = weights[..., out.prefix :].unflatten(-1, out.grid), weights[..., : out.prefix].sum(dim=-1)
        rows += [PoolAttention(maps=one, class_token=share) for one, share in zip(maps, shares, strict=True)]
    return rows
