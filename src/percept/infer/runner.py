"""Run a model over a stream of images: prepare in threads, batch by shape, compute, yield in order.

Nothing is held but the images that wait for a batch and the results that wait for their turn, so a stream of any length runs in
the memory of a few batches.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.report import progress_bar

Key = TypeVar("Key")
Row = TypeVar("Row")
Prepared: TypeAlias = Float[Tensor, "3 _ _"] | UInt8[Tensor, "3 _ _"]
Batch: TypeAlias = Float[Tensor, "_ 3 _ _"] | UInt8[Tensor, "_ 3 _ _"]
Kind: TypeAlias = tuple[torch.Size, torch.dtype]

WAITING_BATCHES = 8
"""Batches' worth of images after which an image of a rare shape no longer waits for others of its shape."""
PROGRESS_FROM = 64
"""Number of images from which a progress bar is shown."""
SHORTEST = 1e-12
"""Length of a vector below which `torch.nn.functional.normalize` does not give unit length."""


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Where a model computes, and how many images it gets at a time."""

    device: torch.device
    dtype: torch.dtype
    batch: int
    """Images per pass."""
    normalise: Callable[[Tensor], Tensor]
    """uint8 pixels → float input of the model; runs on the device."""
    row_pixels: int | None = None
    """Most pixels of batches of different shapes that run as one packed row; no limit when None."""
    progress: bool | None = None
    """Show a progress bar; None for many images on a terminal."""

    def run(
        self,
        images: Iterable[tuple[Key, Prepared]],
        step: Callable[[list[Tensor]], Iterable[Row]],
        *,
        total: int = 0,
    ) -> Iterator[tuple[Key, Row]]:
        """Yield (key, row of the result) of every image, in the order of `images`.

        Args:
            images: keys and preprocessed images: uint8 pixels, or floats that are normalised already.
            step: takes batches of one shape each that run together, on the device and in the number type of the runner, and
                returns one row per image.
            total: number of images, for the progress bar.
        """
        waiting = _InOrder[Key, Row]()
        least = PROGRESS_FROM if self.progress is None else 0
        with progress_bar(always=bool(self.progress)) as progress:
            bar = progress.add_task("images", total=total, visible=total >= least and self.progress is not False)
            for group in batches(waiting.numbered(images), self.batch, self.row_pixels):
                numbers = [number for part, _ in group for number in part]
                rows = self._compute([batch for _, batch in group], step)
                progress.advance(bar, len(numbers))
                yield from waiting.add(zip(numbers, rows, strict=True))

    @torch.no_grad()
    def _compute(self, group: list[Batch], step: Callable[[list[Tensor]], Iterable[Row]]) -> list[Any]:
        with torch.autocast(self.device.type, enabled=False):  # the runner's own number type, not the caller's
            rows = step([self._ready(batch) for batch in group])
            rows = rows.cpu() if isinstance(rows, Tensor) else rows  # in one transfer
            return [row.cpu() if isinstance(row, Tensor) else row for row in rows]

    def _ready(self, batch: Batch) -> Tensor:
        batch = batch.to(self.device)
        return (batch if batch.is_floating_point() else self.normalise(batch)).to(self.dtype)


class _InOrder(Generic[Key, Row]):
    """Numbers a stream, and gives the results back in its order."""

    def __init__(self) -> None:
        self._keys: deque[Key] = deque()
        self._rows: dict[int, Row] = {}
        self._next = 0

    def numbered(self, images: Iterable[tuple[Key, Prepared]]) -> Iterator[tuple[int, Prepared]]:
        for number, (key, image) in enumerate(images):
            self._keys.append(key)
            yield number, image

    def add(self, rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[Key, Row]]:
        self._rows.update(rows)
        while self._next in self._rows:
            yield self._keys.popleft(), self._rows.pop(self._next)
            self._next += 1


def batches(
    images: Iterable[tuple[int, Prepared]], size: int, row_pixels: int | None = None
) -> Iterator[list[tuple[list[int], Batch]]]:
    """Yield groups of batches that run together, at most `size` images: [(numbers, stacked images of one shape), ...].

    Images of one shape form batches of their own as long as they fill them. Smaller remainders of several shapes form a group
    together, up to `row_pixels` pixels.

    Args:
        images: (number, image), numbers ascending from 0.
        size: images per group.
        row_pixels: no limit when None.
    """
    waiting: dict[Kind, list[tuple[int, Prepared]]] = defaultdict(list)
    for number, image in images:
        kind = image.shape, image.dtype
        waiting[kind].append((number, image))
        if len(waiting[kind]) == size:
            yield [_stack(waiting.pop(kind))]
        oldest = min((queue[0][0] for queue in waiting.values()), default=number)
        if number - oldest >= WAITING_BATCHES * size:
            yield from _together(waiting.values(), size, row_pixels)
            waiting.clear()
    yield from _together(waiting.values(), size, row_pixels)


def _together(
    queues: Iterable[list[tuple[int, Prepared]]], size: int, row_pixels: int | None
) -> Iterator[list[tuple[list[int], Batch]]]:
    group: list[list[tuple[int, Prepared]]] = []
    for queue in sorted(
        queues, key=lambda queue: queue[0][1].numel()
    ):  # equal lengths side by side share their attention
        longer = [*group, queue]
        if group and (sum(map(len, longer)) > size or (row_pixels is not None and _pixels(longer) > row_pixels)):
            yield [_stack(part) for part in group]
            group = []
        group.append(queue)
    if group:
        yield [_stack(part) for part in group]


def _pixels(group: Sequence[list[tuple[int, Prepared]]]) -> int:
    return sum(len(queue) * queue[0][1][0].numel() for queue in group)


def _stack(queue: list[tuple[int, Prepared]]) -> tuple[list[int], Batch]:
    return [number for number, _ in queue], torch.stack([image for _, image in queue])


def check_finite(vectors: Float[Tensor, "n d"], name: str, dtype: torch.dtype) -> Float[Tensor, "n d"]:
    """Return vectors in float32.

    Raises:
        PerceptError: a value is NaN or infinite, or a vector is too long or too short to be scaled to unit length.
    """
    vectors = vectors.float()
    lengths = vectors.norm(dim=-1)
    if not lengths.isfinite().all():
        raise PerceptError(
            f"{name} computed NaN or infinite values in {dtype}. Its weights are damaged, or this type is too narrow for them: try "
            "dtype='float32'"
        )
    if (lengths < SHORTEST).any():
        raise PerceptError(f"{name} computed a vector of zeros, which has no direction. Its weights are damaged")
    return vectors
