"""Files of labels: numbers per pixel, their size, and which file belongs to which image."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from percept.core.errors import PerceptError
from percept.core.io import reasons
from percept.core.report import notice
from percept.data.images import upright_size

T = TypeVar("T")
VOID = 255
"""Value of pixels without a label."""


def read_numbers(file: Path) -> np.ndarray:
    """Return the numbers that a PNG stores per pixel: palette indices, grey values of 8 or 16 bits; or a .npy array.

    Raises:
        PerceptError: the file cannot be read, or has several channels.
    """
    if file.suffix == ".npy":
        with reasons(file):
            values = np.load(file, allow_pickle=False)
    else:
        from PIL import Image

        with reasons(file), Image.open(file) as image:
            values = np.asarray(image)
    if values.ndim != 2:
        raise PerceptError(
            f"{file} has {values.shape[-1]} channels. Labels are images with one number per pixel, such as PNG with a palette."
        )
    return values


def usable(read: Callable[[Path], T], files: Sequence[Path]) -> Iterator[T]:
    """Yield the content of each readable file; the other files are reported when their samples are used.

    Raises:
        PerceptError: no file can be read; the message has the reason of the first one.
    """
    first, some = None, False
    for file in files:
        try:
            value = read(file)
        except PerceptError as error:
            first = first or error
        else:
            some = True
            yield value
    if first is not None and not some:
        raise first


def largest_class(masks: Sequence[Path]) -> int:
    """Return the largest class of the readable masks.

    Raises:
        PerceptError: no mask can be read.
    """
    values = usable(read_numbers, masks)
    return max(int(each[each != VOID].max(initial=0)) for each in values)


def are_metric(files: Sequence[Path]) -> bool:
    """True if most of the first readable files hold metric depth.

    Raises:
        PerceptError: no file can be read.
    """
    kinds = list(islice(usable(is_metric, files), 15))
    return 2 * sum(kinds) >= len(kinds)


def is_metric(file: Path) -> bool:
    """True if a file holds metric depth: .npy or 16-bit PNG; false for 8-bit PNG.

    Raises:
        PerceptError: the file cannot be read.
    """
    return file.suffix == ".npy" or read_numbers(file).dtype != np.uint8


def check_size(labels: np.ndarray, file: Path, image: Path) -> np.ndarray:
    """Return labels unchanged if they have the size of their image.

    Raises:
        PerceptError: they have not.
    """
    width, height = upright_size(image)
    if labels.shape != (height, width):
        raise PerceptError(
            f"{file} is {labels.shape[1]} × {labels.shape[0]} pixels, but its image {image} is {width} × {height}. "
            "Labels must have the size of their image."
        )
    return labels


def paired(images: Sequence[Path], folder: Path, endings: Sequence[str], what: str, *, within: Path) -> list[Path]:
    """Return the label file of each image: the same path within `folder`, with one of the endings. Labels without an image are counted.

    Raises:
        PerceptError: images without one; their number and the first of them are named.
    """
    found, missing = [], []
    for image in images:
        stem = folder / image.relative_to(within).with_suffix("")
        files = [file for ending in endings if (file := stem.with_name(stem.name + ending)).is_file()]
        found += files[:1]
        missing += [] if files else [image]
    if missing:
        name = missing[0].relative_to(within).with_suffix(endings[0])
        raise PerceptError(
            f"{len(missing)} of {len(images)} images in {within} have no {what}, such as {missing[0].name}. Expected {folder / name}."
        )
    known = set(found)
    if alone := sorted(file for file in folder.rglob("*") if file.suffix in endings and file not in known):
        notice(
            f"{len(alone)} of {len(found) + len(alone)} files in {folder} have no image, such as {alone[0].name}; they are not used."
        )
    return found
