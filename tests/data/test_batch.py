"""Batches: what is split, what is shared; and shares of a global batch."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from percept.data.batch import SHARED, Batch, ImageText, Labelled
from percept.data.source import Source, prefetched, share


@dataclass(frozen=True, kw_only=True, eq=False)
class Points(Batch):
    points: Tensor
    colour: Tensor | None = None
    camera: Tensor = field(metadata=SHARED)


def points(count: int = 4) -> Points:
    return Points(points=torch.randn(count, 5, 3), camera=torch.arange(9))


def test_floating_tensors_change_type_and_others_do_not() -> None:
    moved = Labelled(image=torch.randn(4, 3, 2, 2), label=torch.arange(4)).to("cpu", torch.bfloat16)
    assert (moved.image.dtype, moved.label.dtype) == (torch.bfloat16, torch.int64)


def test_a_batch_is_split_by_samples_and_what_is_shared_stays_whole() -> None:
    batch = points()
    assert (len(batch), len(batch.first(3)), len(Batch())) == (4, 3, 0)
    assert torch.equal(batch.rows(slice(1, 3)).points, batch.points[1:3])
    assert torch.equal(batch.first(1).camera, batch.camera)
    assert list(batch.tensors()) == ["points", "camera"]


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 11])
def test_shares_cover_a_batch_in_order(world_size: int) -> None:
    rows = [row for rank in range(world_size) for row in range(10)[share(10, rank, world_size)]]
    assert rows == list(range(10))


class Counted:
    def __init__(self) -> None:
        self.asked: list[int] = []

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> ImageText:
        self.asked.append(step)
        tokens = torch.full((4, 2), step)
        return ImageText(image=torch.zeros(4, 3, 2, 2), tokens=tokens).rows(share(4, rank, world_size))


def test_prefetching_gives_the_batches_of_the_steps_in_order() -> None:
    source = Counted()
    assert isinstance(source, Source)
    with prefetched(source, 3, 7, rank=1, world_size=2) as batches:
        assert [(int(batch.tokens[0, 0]), len(batch)) for batch in batches] == [(step, 2) for step in range(3, 7)]  # type: ignore[attr-defined]
    assert source.asked == [3, 4, 5, 6]
    with prefetched(source, 5, 5) as batches:
        assert list(batches) == []
