"""Keys and values of a batch of token rows, kept between calls: rows may have different lengths, stop, and be cut or copied.

Each row has slots of its own, and a token's slot is its position. New tokens of a batch come as one padded tensor together with
the number of real ones in each row; padding is never seen, because the slots after the end of a row are hidden until they are
overwritten.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept.core.errors import PerceptError


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where the new tokens of a call go, and what they may see."""

    positions: Int[Tensor, "*b m"]
    """Positions of the new tokens: [m] if they are the same in all rows, else [b, m]."""
    bias: Float[Tensor, "b 1 m n"] | None
    """Hides the keys after each query; None where the causal order of the last m of n tokens says it."""
    slots: Int[Tensor, "b m"] | None
    """Slots of the new tokens; None if they start at the same slot in all rows."""
    start: int
    """The first of these slots, if it is the same in all rows."""
    end: int
    """Slots in use after the call, in the longest row."""
    lengths: tuple[int, ...]
    """Tokens of each row after the call."""


class KVCache:
    """Preallocated keys and values for `capacity` tokens per row in each of `layers` attention layers."""

    def __init__(
        self,
        *,
        layers: int,
        batch: int,
        heads: int,
        head_dim: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        shape = (batch, heads, capacity + 1, head_dim)  # the last slot takes padding
        self.capacity = capacity
        # zeros, because a hidden slot is multiplied by 0, which not every number survives
        with torch.inference_mode(False):  # what is made in inference mode could not be written to outside of it
            self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
            self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.lengths: tuple[int, ...] = (0,) * batch
        """Tokens of each row so far."""
        self.step: Step | None = None
        self.layers = [LayerCache(self, index) for index in range(layers)]
        """One `percept.nn.context.Cache` for each attention layer."""

    @property
    def batch(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Memory of all keys and values in bytes."""
        return sum(buffer.nbytes for buffer in (*self.keys, *self.values))

    def begin(self, width: int, counts: Sequence[int] | None = None) -> Step:
        """Plan a call with `width` tokens per row; `finish` has to follow when every layer has appended its own.

        Args:
            counts: real tokens of each row, first in the row, the rest is padding; all are real if None. A row with 0
                stays as it is.

        Raises:
            PerceptError: a row would have more tokens than the capacity.
        """
        counts = [width] * self.batch if counts is None else list(counts)
        assert len(counts) == self.batch
        assert all(0 <= count <= width for count in counts)
        lengths = tuple(length + count for length, count in zip(self.lengths, counts, strict=True))
        if max(lengths) > self.capacity:
            raise PerceptError(
                f"{max(lengths)} tokens do not fit a cache for {self.capacity}. Make it with a larger capacity."
            )
        start = self.lengths[0]
        if start + width <= self.capacity and set(self.lengths) == {start}:
            positions = torch.arange(start, start + width, device=self.keys[0].device)
            step = Step(positions=positions, bias=None, slots=None, start=start, end=start + width, lengths=lengths)
        else:
            step = self._ragged(width, counts, lengths)
        self.step = step
        return step

    def _ragged(self, width: int, counts: list[int], lengths: tuple[int, ...]) -> Step:
        """Plan a call whose rows start at different slots."""
        device = self.keys[0].device
        index = torch.arange(width)
        positions = torch.tensor(self.lengths)[:, None] + index
        slots = torch.where(index < torch.tensor(counts)[:, None], positions, self.capacity)
        hidden = torch.arange(max(lengths)) > positions[..., None]
        bias = torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))[:, None]
        positions, slots, bias = positions.to(device), slots.to(device), bias.to(device, self.keys[0].dtype)
        return Step(positions=positions, bias=bias, slots=slots, start=-1, end=max(lengths), lengths=lengths)

    def finish(self) -> None:
        """Count the tokens that were appended since `begin`."""
        assert self.step is not None
        self.lengths, self.step = self.step.lengths, None

    def truncate(self, lengths: int | Sequence[int]) -> None:
        """Forget the tokens after the first `lengths` of each row; shorter rows stay as they are."""
        most = [lengths] * self.batch if isinstance(lengths, int) else lengths
        self.lengths = tuple(min(pair) for pair in zip(self.lengths, most, strict=True))

    @classmethod
    def joined(cls, rows: "Sequence[tuple[KVCache, int, int]]", *, capacity: int) -> "KVCache":
        """Return a cache whose rows are copies of the beginnings of rows of others of the same model.

        Args:
            rows: (cache, number of the row in it, tokens to copy) for each new row.
        """
        first, used = rows[0][0], max(length for _, _, length in rows)
        assert used <= capacity
        heads, head_dim = first.keys[0].shape[1], first.keys[0].shape[3]
        new = cls(
            layers=len(first.layers), batch=len(rows), heads=heads, head_dim=head_dim, capacity=capacity,
            dtype=first.keys[0].dtype, device=first.keys[0].device,
        )  # fmt: skip
        for place, (old, row, length) in enumerate(rows):
            for mine, theirs in zip((*new.keys, *new.values), (*old.keys, *old.values), strict=True):
                mine[place, :, :length] = theirs[row, :, :length]
        new.lengths = tuple(length for _, _, length in rows)
        return new

    def take(self, rows: Sequence[int], *, capacity: int | None = None) -> "KVCache":
        """Return a copy of some rows in the given order, each as often as it is named.

        Args:
            capacity: of the copy; the same if None.
        """
        lengths = tuple(self.lengths[row] for row in rows)
        capacity = self.capacity if capacity is None else capacity
        used = max(lengths)
        assert used <= capacity
        heads, head_dim = self.keys[0].shape[1], self.keys[0].shape[3]
        copy = KVCache(
            layers=len(self.layers), batch=len(rows), heads=heads, head_dim=head_dim, capacity=capacity,
            dtype=self.keys[0].dtype, device=self.keys[0].device,
        )  # fmt: skip
        index = torch.tensor(list(rows), device=self.keys[0].device)
        for new, old in zip((*copy.keys, *copy.values), (*self.keys, *self.values), strict=True):
            new[:, :, :used] = old[:, :, :used].index_select(0, index)
        copy.lengths = lengths
        return copy

    def clone(self, *, capacity: int | None = None) -> "KVCache":
        """Return a copy of all rows; see `take`."""
        return self.take(range(self.batch), capacity=capacity)


class LayerCache:
    """The part of a `KVCache` that belongs to one attention layer; a `percept.nn.context.Cache`."""

    def __init__(self, whole: KVCache, index: int) -> None:
        self.whole = whole
        self.index = index

    def append(
        self, key: Float[Tensor, "b h m e"], value: Float[Tensor, "b h m e"]
    ) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h n e"]]:
        """Store the new tokens in the slots of the current step; return all slots in use."""
        step = self.whole.step
        assert step is not None, "call KVCache.begin first"
        stored = []
        for buffer, new in ((self.whole.keys[self.index], key), (self.whole.values[self.index], value)):
            if step.slots is None:
                buffer[:, :, step.start : step.end] = new
            else:
                rows = torch.arange(len(new), device=new.device)[:, None]
                buffer[rows, :, step.slots] = new.transpose(1, 2)
            stored.append(buffer[:, :, : step.end])
        return stored[0], stored[1]


class SharedStart:
    """Keys and values of tokens with which groups of rows begin; a `percept.nn.context.Cache`.

    The first call has one row for each group and is kept, with its gradients. In later calls, every row continues the start of its group.
    """

    def __init__(self) -> None:
        self.kept: tuple[Tensor, Tensor] | None = None

    def append(
        self, key: Float[Tensor, "b h m e"], value: Float[Tensor, "b h m e"]
    ) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h n e"]]:
        """Keep the tokens of the first call; return those of later ones behind the start of each row."""
        if self.kept is None:
            self.kept = key, value
            return key, value
        first, second = (part.repeat_interleave(len(key) // len(part), dim=0) for part in self.kept)
        return torch.cat([first, key], dim=2), torch.cat([second, value], dim=2)
