"""Sequences of different lengths in one row, one after the other, without padding.

Linear layers and norms process a packed row as it is; only attention needs the boundaries of the sequences. The idea is
Patch n' Pack of Dehghani et al. 2023, arXiv:2307.06304. Here each run of equal lengths attends as one dense batch, so no
mask over the whole row is needed.
"""

from collections.abc import Sequence
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

Segments = Sequence[tuple[int, int]]
"""Runs of a packed row, in order: (number of sequences, tokens of each)."""


def pack(parts: Sequence[Float[Tensor, "_ _ w"]]) -> Float[Tensor, "1 n w"]:
    """Concatenate batches of sequences of different lengths into one row."""
    return torch.cat([part.flatten(0, 1) for part in parts])[None]


def unpack(row: Float[Tensor, "1 *h n w"], segments: Segments) -> list[Float[Tensor, "_ *h _ w"]]:
    """Split a packed row, with or without a dimension of heads, into one batch per run.

    >>> [tuple(part.shape) for part in unpack(torch.zeros(1, 10, 4), [(2, 3), (1, 4)])]
    [(2, 3, 4), (1, 4, 4)]
    """
    parts = row[0].split([count * length for count, length in segments], dim=-2)
    return [part.unflatten(-2, run).movedim(-3, 0) for part, run in zip(parts, segments, strict=True)]


def merged(segments: Segments) -> Segments:
    """Join neighbouring runs of equal length.

    >>> merged([(2, 6), (1, 6), (3, 4)])
    [(3, 6), (3, 4)]
    """
    return [
        (sum(count for count, _ in run), length) for length, run in groupby(segments, key=lambda segment: segment[1])
    ]
