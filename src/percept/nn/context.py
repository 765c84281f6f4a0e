"""What travels with the tokens through a stack of blocks: positions, masks, packing and a cache, in one value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from percept.nn.packing import Segments

Rope = tuple[Tensor, Tensor]
"""Cosines and sines of the rotation angles, [n, head_dim] or [b, 1, n, head_dim]; see `percept.nn.rope` and `rope_1d`."""


@runtime_checkable
class Cache(Protocol):
    """Keys and values of the tokens that one attention layer has seen so far."""

    def append(
        self, key: Float[Tensor, "b h m e"], value: Float[Tensor, "b h m e"]
    ) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h n e"]]:
        """Store the keys and values of m new tokens; return those of all n tokens so far, the new ones last."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """Everything a block may need besides the tokens. What does not apply is None or False."""

    rope: Rope | None = None
    """Rotation table of these tokens, applied to queries and keys."""
    bias: Float[Tensor, "... #m n"] | None = None
    """Added to the attention logits; -inf hides a key."""
    causal: bool = False
    """A token attends to itself and the tokens before it only."""
    segments: Segments | None = None
    """The tokens are one packed row of these sequences, which do not attend to each other. Excludes bias and cache."""
    biases: Sequence[Float[Tensor, "_ _"] | None] | None = None
    """With segments: the bias of each run that has one, in place of `causal`."""
    cache: Cache | None = None
    """Keys and values of earlier tokens; these tokens are appended to it."""


EMPTY = Context()
"""Nothing travels with the tokens."""
