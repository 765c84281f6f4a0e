"""Batches of conversations: rows of ids padded on the right, and the tiles of all rows in one tensor."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
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
    """Tiles and frames; values 0 to 255."""
    tile_places: Int[Tensor, " t"] | None = field(default=None, metadata=SHARED)
    """Places in `tiles` of the tiles and frames of all rows, in the order of the rows; None if they stand in that order, each once."""

    @property
    def places(self) -> Int[Tensor, " t"]:
        """Places in `tiles` of the tiles and frames of all rows, in the order of the rows."""
        given = self.tile_places
        return torch.arange(len(self.tiles), device=self.ids.device) if given is None else given

    def rows(self: B, part: slice) -> B:
        """Return the rows of a slice with their tiles, cut to the longest of them."""
        chosen = super().rows(part)
        start, stop, _ = part.indices(len(self))
        first = int(self.tile_counts[:start].sum())
        last = first + int(self.tile_counts[start:stop].sum())
        longest = int(chosen.lengths.max()) if len(chosen.lengths) else 0
        changes: dict[str, Any] = {"ids": chosen.ids[:, :longest], "learned": chosen.learned[:, :longest]}
        if self.tile_places is None:
            return replace(chosen, tiles=self.tiles[first:last], **changes)
        used, places = self.tile_places[first:last].unique(return_inverse=True)
        return replace(chosen, tiles=self.tiles[used], tile_places=places, **changes)

    def sorted_by_length(self: B) -> B:
        """Return the batch with the shortest row first, so that rows of one length are neighbours; rows about the same images stay together."""
        parts = self.places.split(self.tile_counts.tolist())
        lengths = self.lengths.tolist()
        alike: dict[tuple[int, ...], list[int]] = {}
        for row, part in enumerate(parts):
            alike.setdefault(tuple(part.tolist()) or (-1 - row,), []).append(row)
        groups = [sorted(rows, key=lengths.__getitem__) for rows in alike.values()]
        groups.sort(key=lambda rows: lengths[rows[-1]])
        order = torch.tensor([row for rows in groups for row in rows], device=self.lengths.device)
        return replace(
            self,
            ids=self.ids[order],
            learned=self.learned[order],
            lengths=self.lengths[order],
            tile_counts=self.tile_counts[order],
            tile_places=torch.cat([parts[place] for place in order.tolist()]) if len(self.tiles) else None,
        )


def chat_batch(samples: Sequence[Prepared]) -> ChatBatch:
    """Make a batch of prepared conversations. Tiles that several of them share, as one tensor, are in it once."""
    ids = [torch.tensor(sample.rendered.ids) for sample in samples]
    learned = [torch.tensor(sample.rendered.learned) for sample in samples]
    parts = [part for sample in samples for part in sample.tiles]
    unique = {id(part): part for part in parts}
    starts = dict(zip(unique, accumulate(map(len, unique.values()), initial=0), strict=False))
    places = [torch.arange(len(part)) + starts[id(part)] for part in parts]
    return ChatBatch(
        ids=pad_sequence(ids, batch_first=True),
        learned=pad_sequence(learned, batch_first=True),
        lengths=torch.tensor([len(sample) for sample in samples]),
        tile_counts=torch.tensor([sum(len(part) for part in sample.tiles) for sample in samples]),
        tiles=torch.cat(list(unique.values())) if unique else torch.empty(0, 3, 1, 1, dtype=torch.uint8),
        tile_places=torch.cat(places) if len(unique) < len(parts) else None,
    )
