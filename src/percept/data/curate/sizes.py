"""Sizes of images: remove icons, which are small, and banners, which are long.

RealSyn (Gu et al. 2025, arXiv:2502.12513) extracts images of documents with a shorter side of at least 100 pixels and a moderate aspect ratio;
its largest ratio is not published, and the default is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from percept.core.errors import PerceptError
from percept.data.curate.duplicates import NO_IMAGE, check_images
from percept.data.curate.step import Pass, Place, Plain, located
from percept.data.curate.store import Arrays, Chunk, Decision, Parts
from percept.data.images import upright_size

SMALL, LONG = "the image is too small", "the image is too long for its height, or too high for its width"


@dataclass(frozen=True, kw_only=True)
class ImageSizes(Plain):
    """Remove rows whose image is too small or has an extreme aspect ratio, and rows whose image cannot be read."""

    min_side: int = 100
    """Smallest shorter side in pixels."""
    max_ratio: float = 3.0
    """Largest ratio of the longer side to the shorter one."""

    def __post_init__(self) -> None:
        if self.min_side < 1 or self.max_ratio < 1:
            raise PerceptError(f"min_side={self.min_side} and max_ratio={self.max_ratio}; both must be at least 1.")

    def passes(self) -> Sequence[Pass]:
        """Read the headers of the images."""
        return (Pass(_sizes, _check),)

    def decide(self, chunk: Chunk, measured: Arrays, state: Arrays) -> Decision:
        """Remove images by their shorter side and aspect ratio."""
        short, long = measured["size"].min(axis=1).tolist(), measured["size"].max(axis=1).tolist()
        return Decision(reasons=[self.reason(one, two) for one, two in zip(short, long, strict=True)])

    def reason(self, short: int, long: int) -> str | None:
        """Return why an image with these sides in pixels is removed; None if it stays.

        >>> ImageSizes().reason(100, 300), ImageSizes().reason(64, 64)
        (None, 'the image is too small')
        """
        rules = ((NO_IMAGE, not short), (SMALL, short < self.min_side), (LONG, long > self.max_ratio * short))
        return next((name for name, broken in rules if broken), None)


def _sizes(chunk: Chunk, state: Arrays, place: Place) -> Arrays:
    sizes = np.zeros((len(chunk), 2), dtype=np.int64)
    for row, image in enumerate(located(chunk.images, place.root)):
        try:
            sizes[row] = upright_size(image) if image else 0
        except PerceptError:
            continue
    return {"size": sizes}


def _check(parts: Parts, earlier: Arrays) -> Arrays:
    check_images(any(part["size"].any() for part in parts))
    return {}
