"""What two models are compared on: pictures drawn from the labelled world with their captions, or a user's own."""

import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.files import BadFile, find_images, in_order, reason_without_path
from percept.data.images import read_image

COUNT = 16
"""Pictures drawn when nothing else is said."""
ASPECTS = (1.0, 4 / 3, 3 / 4, 2.0)
"""Width over height of the drawn pictures, in turn: preprocessing has something to do."""


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Pictures and texts that both models get."""

    pictures: Sequence[Any]
    """Files, or uint8 pixels [y, x, 3]."""
    texts: Sequence[str]
    source: str
    """Where they come from, for the receipt."""
    bad: list[BadFile] = field(default_factory=list)
    """Files that could not be read."""


def generated(count: int = COUNT, *, seed: int = 0) -> Probes:
    """Draw pictures of the labelled world, of several shapes, and take two captions of each; equal everywhere.

    >>> probes = generated(2)
    >>> [picture.shape for picture in probes.pictures], len(probes.texts)
    ([(120, 120, 3), (120, 160, 3)], 4)

    Raises:
        PerceptError: no picture at all.
    """
    from percept.world import generate, long_caption, short_caption

    if count < 1:
        raise PerceptError(f"{count} pictures show nothing; draw at least one")
    pictures: list[Any] = []
    texts: dict[str, None] = {}
    for number in range(count):
        aspect = ASPECTS[number % len(ASPECTS)]
        picture = generate(seed + number, split="validation", size=120, aspect=aspect, truth=False)
        rng = random.Random(derive(seed, "receipt", number))
        pictures.append(picture.image)
        texts.update(dict.fromkeys((long_caption(picture.scene, rng), short_caption(picture.scene, rng))))
    return Probes(pictures=pictures, texts=list(texts), source=f"{count} pictures of the labelled world, seed {seed}")


def given(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], texts: Sequence[str] | None = None
) -> Probes:
    """Take a user's pictures, and their texts or else captions of the labelled world.

    Raises:
        PerceptError: no pictures there, or none that can be read.
    """
    files = find_images(paths)
    reasons = list(in_order(_fault, files))
    bad = [BadFile(file, reason) for file, reason in zip(files, reasons, strict=True) if reason]
    good = [file for file, reason in zip(files, reasons, strict=True) if not reason]
    if not good:
        raise PerceptError(f"none of the pictures can be read; the first: {bad[0].path}: {bad[0].reason}")
    return Probes(
        pictures=good, texts=generated().texts if texts is None else list(texts), source=f"{len(good)} given pictures", bad=bad
    )  # fmt: skip


def _fault(file: Path) -> str:
    """Return why a picture cannot be read; nothing if it can."""
    try:
        read_image(file)
    except PerceptError as error:
        return reason_without_path(error, file)
    return ""
