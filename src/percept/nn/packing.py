"""Sequences of different lengths in one row, one after the other, without padding.

Linear layers and norms process a packed row as it is; only attention needs the boundaries of the sequences. The idea is
Patch n' Pack of Dehghani et al. 2023, arXiv:2307.06304. Here each run of equal lengths attends as one dense batch, so no
mask over the whole row is needed.
"""

from collections.abc import Sequence
from itertools import accumulate, groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor

Segments = Sequence[tuple[int, int]]
"""Runs of a packed row, in order: (number of sequences, tokens of each)."""
Branches = Sequence[tuple[int, ...] | None]
"""For each run None or, if it is one sequence whose end branches, the tokens of its common beginning and those of every branch."""


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


def packed_positions(
    segments: Segments, branches: Branches | None = None, device: torch.device | None = None
) -> Int[Tensor, " n"]:
    """Return the positions of the tokens of a packed row: every sequence counts from 0, every branch from the end of the beginning.

    >>> packed_positions([(2, 2), (1, 3)]).tolist()
    [0, 1, 0, 1, 0, 1, 2]
    >>> packed_positions([(1, 6)], [(2, 1, 3)]).tolist()
    [0, 1, 2, 2, 3, 4]
    """
    found = []
    for (count, length), parts in zip(segments, branches or [None] * len(segments), strict=True):
        beginning, *ends = parts or (length,)
        once = [torch.arange(beginning, device=device)]
        once += [torch.arange(beginning, beginning + end, device=device) for end in ends]
        found += once * count
    return torch.cat(found)


def branch_bias(parts: tuple[int, ...], device: torch.device | None = None) -> Float[Tensor, "n n"]:
    """Return the causal bias of a sequence whose branches see its beginning and themselves, but not each other.

    >>> branch_bias((1, 1, 2)).isinf().int().tolist()
    [[0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 0, 0]]
    """
    total = sum(parts)
    bias = torch.full((total, total), float("-inf"), device=device).triu(1)
    for end, length in zip(accumulate(parts), parts[1:], strict=False):
        bias[end + length :, end : end + length] = float("-inf")
    return bias
