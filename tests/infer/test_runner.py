"""The runner yields every image's result in order and holds no more than it says, whatever the shapes."""

from collections.abc import Iterator
from itertools import cycle, islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from percept.core.errors import PerceptError
from percept.infer.runner import WAITING_BATCHES, Runner, batches, check_finite


def runner(batch: int, row_pixels: int | None = None) -> Runner:
    return Runner(
        device=torch.device("cpu"), dtype=torch.float32, batch=batch, normalise=lambda x: x / 255, row_pixels=row_pixels
    )


def image(number: int, height: int) -> Tensor:
    return torch.full((3, height, 8), float(number))


def sums(group: list[Tensor]) -> list[Tensor]:
    return [row.mean() for batch in group for row in batch]


@settings(max_examples=40, deadline=None)
@given(
    heights=st.lists(st.sampled_from([8, 16, 24]), max_size=60),
    batch=st.integers(1, 7),
    row_pixels=st.sampled_from([None, 64, 300]),
)
def test_results_come_in_order_with_their_keys(heights: list[int], batch: int, row_pixels: int | None) -> None:
    images = ((f"key {number}", image(number, height)) for number, height in enumerate(heights))
    rows = list(runner(batch, row_pixels).run(images, sums))
    assert [key for key, _ in rows] == [f"key {number}" for number in range(len(heights))]
    assert [float(row) for _, row in rows] == pytest.approx(range(len(heights)))


@settings(max_examples=40, deadline=None)
@given(heights=st.lists(st.sampled_from([8, 16, 24]), max_size=60), batch=st.integers(1, 7))
def test_groups_hold_each_image_once_and_keep_their_limits(heights: list[int], batch: int) -> None:
    groups = list(batches(((number, image(number, height)) for number, height in enumerate(heights)), batch, 200))
    assert sorted(number for group in groups for numbers, _ in group for number in numbers) == list(range(len(heights)))
    for group in groups:
        assert sum(len(numbers) for numbers, _ in group) <= batch
        assert len(group) == 1 or sum(one.shape[0] * one.shape[-1] * one.shape[-2] for _, one in group) <= 200


@pytest.mark.parametrize("heights", [(8,), (8, 16), (8,) * 200 + (16,)])
def test_a_long_stream_holds_a_few_batches(heights: tuple[int, ...]) -> None:
    """What was taken from the source and not yet given back stays bounded, also behind an image of a rare shape."""
    taken = 0

    def source() -> Iterator[tuple[int, Tensor]]:
        nonlocal taken
        for number, height in enumerate(islice(cycle(heights), 2000)):
            taken += 1
            yield number, image(number, height)

    ahead = 0
    for given_back, _ in enumerate(runner(8).run(source(), sums)):
        ahead = max(ahead, taken - given_back)
    assert taken == 2000
    assert ahead <= (8 if len(set(heights)) == 1 else (WAITING_BATCHES + 2) * 8)


def test_pixels_are_normalised_and_floats_are_not() -> None:
    pixels, floats = torch.full((3, 8, 8), 51, dtype=torch.uint8), torch.full((3, 8, 8), 0.7)
    rows = [float(row) for _, row in runner(4).run([(0, pixels), (1, floats)], sums)]
    assert rows == pytest.approx([0.2, 0.7])


def test_the_callers_autocast_does_not_reach_the_model() -> None:
    layer = torch.nn.Linear(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        (row,) = runner(1).run([(0, image(1, 8))], lambda group: [layer(group[0])])
    assert row[1].dtype == torch.float32


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([1.0, float("nan")], "NaN or infinite"),
        ([float("inf"), 0.0], "NaN or infinite"),
        ([3e38, 3e38], "NaN or infinite"),
        ([0.0, 0.0], "vector of zeros"),
        ([1e-30, 0.0], "vector of zeros"),
    ],
)
def test_vectors_without_a_direction_are_refused(row: list[float], words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        check_finite(torch.tensor([[1.0, 2.0], row]), "m", torch.float32)


def test_vectors_with_a_direction_pass() -> None:
    rows = torch.tensor([[1e-6, 0.0], [1e18, -1e18]])
    assert torch.equal(check_finite(rows, "m", torch.float32), rows)
