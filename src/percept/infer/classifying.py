"""What `Encoder.classify` takes and gives: an image, a video, a folder, or files, of which some may be bad; and videos span by span."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.data.files import BadFile, find_media, is_video
from percept.data.video import open_video
from percept.infer.clips import Sampling
from percept.infer.images import is_single
from percept.infer.labeller import Labeller
from percept.infer.labels import Guess

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

PART = 4096
"""Vectors that are ranked together."""
MOST_SPANS = 100_000
"""Largest number of spans that one video is labelled in."""


class Results(list[list[Guess]]):
    """The ranked labels of several images or files, and the files that could not be read.

    `paths` names the file of each result where files were given; it is empty for images in memory. `spans` holds the labelled parts of the
    videos of an index, by path.
    """

    def __init__(
        self,
        rows: Iterable[list[Guess]] = (),
        *,
        paths: Sequence[Path] = (),
        bad: Sequence[BadFile] = (),
        spans: "Mapping[Path, tuple[Span, ...]] | None" = None,
    ) -> None:
        super().__init__(rows)
        self.paths, self.bad, self.spans = list(paths), list(bad), dict(spans or {})


def classify(
    encoder: "Encoder", images: Any, labels: Labeller, *, top: int | None, sampling: Sampling | None
) -> list[Guess] | Results:
    """Rank labels for what `Encoder.classify` takes."""
    one = images if isinstance(images, str | os.PathLike) else None
    if one is not None and os.path.isdir(one):
        return of_files(encoder, find_media(one), labels, top=top, sampling=sampling)
    if one is not None and is_video(one):
        sampling = sampling or Sampling()
        vector = encoder.video(one, frames=sampling.frames, choice=sampling.choice, average="zero-shot")
        return labels.rank(vector[None], top=top)[0]
    if (files := _files(images)) is not None:
        return of_files(encoder, files, labels, top=top, sampling=sampling)
    ranked = Results(ranked_in_parts(labels, encoder.image(images), top))
    return ranked[0] if is_single(images) else ranked


def _files(images: Any) -> list[Path] | None:
    """Return files if a list holds paths only; its folders are replaced by the files in them. None for anything else."""
    if not isinstance(images, list | tuple) or not images:
        return None
    if not all(isinstance(each, str | os.PathLike) for each in images):
        return None
    return find_media(images) if any(map(os.path.isdir, images)) else [Path(each) for each in images]


def of_files(
    encoder: "Encoder", files: Sequence[Path], labels: Labeller, *, top: int | None, sampling: Sampling | None
) -> Results:
    """Rank labels for image and video files.

    Raises:
        PerceptError: none of them can be read.
    """
    read = encoder.files(files, sampling=sampling)
    if not read.paths and read.bad:
        first = read.bad[0]
        raise PerceptError(f"none of the {len(read.bad)} files can be read, such as {first.path}: {first.reason}")
    return Results(ranked_in_parts(labels, read.vectors, top), paths=read.paths, bad=read.bad)


def ranked_in_parts(labels: Labeller, vectors: Float[Tensor, "n d"], top: int | None) -> Iterable[list[Guess]]:
    """Yield the ranked labels of each vector."""
    for part in vectors.split(PART) if len(vectors) else ():
        yield from labels.rank(part, top=top)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of a video with its labels."""

    start: float
    """Seconds."""
    stop: float
    guesses: tuple[Guess, ...]


def spans_of(encoder: "Encoder", video: Any, labels: Labeller, every: float, *, top: int | None = None) -> list[Span]:
    """Rank labels for every `every` seconds of a video, by one frame each: the one nearest to the middle.

    Raises:
        PerceptError: `every` is not positive, gives too many spans, or the video cannot be read.
    """
    if not every > 0:
        raise PerceptError(f"every must be a number of seconds above 0, got {every}.")
    with open_video(video) as opened:
        duration, last = opened.duration, float(opened.times[-1])
    if duration / every > MOST_SPANS:
        raise PerceptError(
            f"every {every:g} s gives more than {MOST_SPANS:,} spans of {duration:.0f} s. Give a larger number."
        )
    starts = [number * every for number in range(max(1, int(-(-duration // every)))) if number * every <= last]
    windows = [(start, min(start + every, duration)) for start in starts or [0.0]]
    vectors = encoder.video(video, frames=1, choice="time", windows=windows, average="zero-shot")
    ranked = ranked_in_parts(labels, torch.atleast_2d(vectors), top)
    return [
        Span(start=start, stop=stop, guesses=tuple(guesses))
        for (start, stop), guesses in zip(windows, ranked, strict=True)
    ]


def joined(spans: Sequence[Span]) -> list[Span]:
    """Join neighbouring spans of one best label; the guesses are those of the span in which it is most probable.

    >>> guess = Guess(label="cat", probability=.9, score=.3)
    >>> parts = [Span(start=place, stop=place + 1.0, guesses=(guess,)) for place in (0.0, 1.0)]
    >>> [(span.start, span.stop) for span in joined(parts)]
    [(0.0, 2.0)]
    """
    result: list[Span] = []
    for span in spans:
        before = result[-1] if result else None
        if before is not None and before.guesses[0].label == span.guesses[0].label:
            best = max(before, span, key=lambda each: each.guesses[0].probability)
            result[-1] = Span(start=before.start, stop=span.stop, guesses=best.guesses)
        else:
            result.append(span)
    return result
