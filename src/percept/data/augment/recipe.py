"""The augmentation of the Perception Encoder's pretraining, and the patches that its mask regularisation hides.

Bolya et al. 2025, arXiv:2504.13181, tables 18 and 19 (crop, jitter, flip) and appendix B (mask regularisation). Hue and contrast
are left alone: the paper tried them and they did not help. Crops are drawn as by RandomResizedCrop of torchvision.
"""

import math
import random
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.augment.view import View
from percept.data.images import ImageSource, decoded
from percept.data.transforms import Preprocess

TRIES = 10
"""Crops that are drawn before the largest one of an allowed aspect ratio is taken."""


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Which patches of an image are hidden."""

    patch: int
    """Side in pixels of the model's patches."""
    ratio: float = 0.4
    """Share of patches that are hidden; 0.4 in PE's mask regularisation, 0.75 in its spatial alignment."""
    block: int = 1
    """Side, in patches, of the squares that are hidden together; 2 in PE's spatial alignment."""

    def __post_init__(self) -> None:
        if self.patch < 1 or self.block < 1:
            raise PerceptError(f"patch and block must be at least 1, got {self.patch} and {self.block}.")
        if not 0 < self.ratio < 1:
            raise PerceptError(f"ratio must be above 0 and below 1, got {self.ratio}.")

    def grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the blocks down and across in an image of `shape`, height and width in pixels.

        Raises:
            PerceptError: the image is not made of whole blocks, or of so few that none or all of them would be hidden.
        """
        side = self.patch * self.block
        rows, columns = shape[0] // side, shape[1] // side
        if shape[0] % side or shape[1] % side:
            raise PerceptError(
                f"images of {shape[1]} × {shape[0]} pixels are not made of whole blocks of {side} pixels. Change size or block."
            )
        if not 0 < self._count(rows * columns) < rows * columns:
            raise PerceptError(
                f"ratio={self.ratio} hides {self._count(rows * columns)} of {rows * columns} blocks. Change ratio or block."
            )
        return rows, columns

    def draw(self, shape: tuple[int, int], seed: int) -> Bool[np.ndarray, " n"]:
        """Return which patches are hidden, row by row; the same number for every seed.

        >>> Masking(patch=16, ratio=0.5).draw((32, 64), seed=0).sum()
        np.int64(4)
        """
        rows, columns = self.grid(shape)
        blocks = np.zeros(rows * columns, dtype=bool)
        blocks[random.Random(seed).sample(range(len(blocks)), self._count(len(blocks)))] = True
        return blocks.reshape(rows, columns).repeat(self.block, 0).repeat(self.block, 1).reshape(-1)

    def _count(self, blocks: int) -> int:
        return round(self.ratio * blocks)


@dataclass(frozen=True, kw_only=True)
class Augment:
    """How training images are changed at random; the defaults are PE's.

    A view is a pure function of the size of the image and a seed.

    >>> view = Augment().draw((500, 375), (224, 224), seed=1)
    >>> view == Augment().draw((500, 375), (224, 224), seed=1) != Augment().draw((500, 375), (224, 224), seed=2)
    True
    """

    scale: tuple[float, float] = (0.08, 1.0)
    """Least and largest share of the image's area in a crop."""
    ratio: tuple[float, float] = (0.75, 1.33)
    """Least and largest width / height of a crop; its logarithm is uniform."""
    brightness: float = 0.32
    """Largest relative change of brightness."""
    saturation: float = 0.32
    """Largest relative change of saturation."""
    flip: float = 0.5
    """Share of images that are mirrored. Captions do not change, so use 0 where they name left and right."""
    views: int = 1
    """Views of each image, drawn independently."""
    mask: Masking | None = None
    """Patches that are hidden in each view; the batch says which, the pixels stay."""

    def __post_init__(self) -> None:
        for name in ("scale", "ratio"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise PerceptError(f"scale must be two ascending numbers above 0 and up to 1, got {self.scale}.")
        if not 0 < self.ratio[0] <= self.ratio[1] < math.inf:
            raise PerceptError(f"ratio must be two ascending numbers above 0, got {self.ratio}.")
        for name in ("brightness", "saturation", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise PerceptError(f"{name} must be from 0 to 1, got {getattr(self, name)}.")
        if self.views < 1:
            raise PerceptError(f"views must be at least 1, got {self.views}.")

    def check(self, preprocess: Preprocess) -> None:
        """Check that views can be made for a preprocessing.

        Raises:
            PerceptError: its way to resize has no use for crops of any aspect ratio, or its size does not suit the mask.
        """
        if preprocess.resize != "squash":
            raise PerceptError(
                f"resize={preprocess.resize!r} does not go with augment, which makes crops of any aspect ratio fill the image. "
                "Use resize='squash' for training."
            )
        if self.mask is not None:
            self.mask.grid(preprocess.shape)

    def draw(self, size: tuple[int, int], shape: tuple[int, int], seed: int) -> View:
        """Return a random view.

        Args:
            size: width and height in pixels of the image.
            shape: height and width in pixels of the result.
            seed: of the random choices.
        """
        rng = random.Random(seed)
        box = self._crop(*size, rng)
        return View(
            size=size,
            box=box,
            shape=shape,
            flip=rng.random() < self.flip,
            brightness=rng.uniform(1 - self.brightness, 1 + self.brightness),
            saturation=rng.uniform(1 - self.saturation, 1 + self.saturation),
        )

    def draws(self, size: tuple[int, int], shape: tuple[int, int], seed: int) -> list[View]:
        """Return all views of an image; arguments as for `draw`."""
        return [self.draw(size, shape, derive(seed, "view", number)) for number in range(self.views)]

    def hidden(self, shape: tuple[int, int], seed: int) -> Bool[np.ndarray, "v n"] | None:
        """Return which patches are hidden in each view of an image; None without a mask."""
        if self.mask is None:
            return None
        return np.stack([self.mask.draw(shape, derive(seed, "mask", number)) for number in range(self.views)])

    def _crop(self, width: int, height: int, rng: random.Random) -> tuple[int, int, int, int]:
        """Draw a crop; if none fits, take the largest central one of an allowed aspect ratio."""
        shortest, longest = map(math.log, self.ratio)
        for _ in range(TRIES):
            area = width * height * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(shortest, longest))
            across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < across <= width and 0 < down <= height:
                left, top = rng.randint(0, width - across), rng.randint(0, height - down)
                return left, top, left + across, top + down
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        across, down = max(1, min(width, round(height * ratio))), max(1, min(height, round(width / ratio)))
        left, top = (width - across) // 2, (height - down) // 2
        return left, top, left + across, top + down


class Augmented(NamedTuple):
    """The views of an image."""

    pixels: tuple[UInt8[Tensor, "3 y x"], ...]
    """Crops, resized and perhaps mirrored, with the colours of the image."""
    colours: tuple[tuple[float, float], ...]
    """Brightness and saturation of each view, which are changed when pixels are normalised (`normalise_jittered`)."""


def augmented(source: ImageSource, preprocess: Preprocess, augment: Augment, seed: int) -> Augmented:
    """Read an image and return its views. Of a JPEG file only as many pixels are decoded as the crops need.

    Raises:
        PerceptError: as `percept.data.transforms.read_pixels`.
    """
    views: list[View] = []

    def needed(size: tuple[int, int]) -> int | None:
        views.extend(augment.draws(size, preprocess.shape, seed))
        return _at_least(views, preprocess)

    with decoded(source, at_least=needed) as image:
        return Augmented(tuple(view.cropped(image) for view in views), tuple(view.colour for view in views))


def _at_least(views: list[View], preprocess: Preprocess) -> int | None:
    """Return the pixels that the shorter side of the image keeps, so that the smallest crop keeps as many as images do."""
    if preprocess.at_least is None:
        return None
    left, top, right, bottom = min((view.box for view in views), key=lambda box: min(box[2] - box[0], box[3] - box[1]))
    return math.ceil(preprocess.at_least * min(views[0].size) / min(right - left, bottom - top))
