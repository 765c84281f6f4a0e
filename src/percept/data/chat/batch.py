"""Batches of conversations: rows of ids padded on the right, and the tiles of all rows in one tensor."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from percept.data.batch import SHARED, Batch
from percept.data.chat.processor import Prepared

B = TypeVar("B", bound="ChatBatch")


@dataclass(frozen=True, kw_only=True, eq=False)
class ChatBatch(Batch):
    """Conversations to learn from."""

    ids: Int[Tensor, "b n"]
    """Token ids; what follows the end of a row has no meaning."""
    learned: Bool[Tensor, "b n"]
    """True for the tokens to learn; False after the end of a row."""
    lengths: Int[Tensor, " b"]
    """Tokens of each row."""
    tile_counts: Int[Tensor, " b"]
    """Tiles and frames of each row."""
    tiles: UInt8[Tensor, "k 3 y x"] = field(metadata=SHARED)
    """Tiles and frames of all rows in the order of the rows; values 0 to 255."""

    def rows(self: B, part: slice) -> B:
        """Return the rows of a slice with their tiles, cut to the longest of them."""
        chosen = super().rows(part)
        start, stop, _ = part.indices(len(self))
        first = int(self.tile_counts[:start].sum())
        last = first + int(self.tile_counts[start:stop].sum())
        longest = int(chosen.lengths.max()) if len(chosen.lengths) else 0
        changes: dict[str, Any] = {"ids": chosen.ids[:, :longest], "learned": chosen.learned[:, :longest]}
        return replace(chosen, tiles=self.tiles[first:last], **changes)


def chat_batch(samples: Sequence[Prepared]) -> ChatBatch:
    """Make a batch of prepared conversations."""
    ids = [torch.tensor(sample.rendered.ids) for sample in samples]
    learned = [torch.tensor(sample.rendered.learned) for sample in samples]
    tiles = [sample.stacked for sample in samples if sample.tiles]
    return ChatBatch(
        ids=pad_sequence(ids, batch_first=True),
        learned=pad_sequence(learned, batch_first=True),
        lengths=torch.tensor([len(sample) for sample in samples]),
        tile_counts=torch.tensor([sum(len(part) for part in sample.tiles) for sample in samples]),
        tiles=torch.cat(tiles) if tiles else torch.empty(0, 3, 1, 1, dtype=torch.uint8),
    )
