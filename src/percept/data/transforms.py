"""From an image to the numbers a model takes: resize, then normalise; stored with the weights as preprocess.json."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError, unknown_name
from percept.core.io import read_json, write_json
from percept.data.images import ImageSource, decoded

RESIZES = ("squash", "crop", "pad", "keep", "native")
FREE = ("keep", "native")
"""Those whose result has the aspect ratio of the image, in whole patches."""


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """What is done to an image before a model sees it.

    >>> Preprocess(size=96)(Image.new("RGB", (640, 480), "red")).shape
    torch.Size([3, 96, 96])
    """

    size: tuple[int, int] | int
    """Height and width in pixels; one number for a square. Not used where resize is native."""
    resize: str = "squash"
    """squash: ignore the aspect ratio (PE); crop: shorter side fits, centre kept; pad: longer side fits, grey around;
    keep: longer side fits, the shorter one follows from the aspect ratio; native: the image's own size, reduced to the
    budget of `tokens`. With keep and native both sides are whole patches."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Subtracted from values in [0, 1], per channel."""
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Then divides, per channel."""
    patch: int | None = None
    """Side of the model's patches in pixels; for keep and native, and only for these."""
    tokens: int | None = None
    """Most patches of an image; for native, and only for it. As many as `size` has when not given."""
    draft: int = field(default=4, compare=False)
    """Large JPEG files are decoded at 1/2, 1/4 or 1/8 of their size, which is several times as fast, as long as this many times
    the model's size remains; 0 to decode all of them at full size. Vectors of both are comparable."""

    def __post_init__(self) -> None:
        if not isinstance(self.size, int):
            object.__setattr__(self, "size", tuple(self.size))
        if self.resize not in RESIZES:
            raise unknown_name("way to resize", self.resize, RESIZES)
        if min(self.shape) < 1 or min(self.std) <= 0:
            raise PerceptError(f"size and std have to be positive, not size={self.size} and std={self.std}.")
        if not all(map(math.isfinite, (*self.mean, *self.std))):
            raise PerceptError(f"mean and std have to be finite, not mean={self.mean} and std={self.std}.")
        if self.draft < 0:
            raise PerceptError(
                f"draft={self.draft} is negative. Give 0 to decode files at full size, or how many times the size has to remain."
            )
        self._check_patches()

    def _check_patches(self) -> None:
        """Check `patch` and `tokens`, and give native its budget."""
        if (self.patch is not None) != (self.resize in FREE):
            raise PerceptError(
                f"patch={self.patch} does not go with resize={self.resize!r}: {' and '.join(FREE)} need the side of the model's "
                "patches in pixels, the others take none."
            )
        if self.tokens is not None and self.resize != "native":
            raise PerceptError(
                f"tokens={self.tokens} is a budget for resize='native'; with {self.resize!r} the size decides the number of "
                "patches. Leave tokens out, or change resize."
            )
        if self.patch is None:
            return
        if self.patch < 1 or min(self.shape) < self.patch:
            raise PerceptError(
                f"size={self.size} is too small for patch={self.patch}: a side is at least one patch, of 1 pixel or more."
            )
        if self.resize == "native" and self.tokens is None:
            object.__setattr__(self, "tokens", math.prod(side // self.patch for side in self.shape))
        if self.tokens is not None and self.tokens < 1:
            raise PerceptError(f"tokens={self.tokens} is too small: an image has at least 1 patch.")

    def resizing(self, resize: str, *, patch: int, tokens: int | None = None) -> "Preprocess":
        """Return the same preprocessing with a different way to resize, for a model with patches of `patch` pixels.

        Raises:
            PerceptError: there is no such way, or `tokens` is given with a way other than native.
        """
        return replace(self, resize=resize, patch=patch if resize in FREE else None, tokens=tokens)

    @property
    def reach(self) -> int:
        """Pixels of an image's shorter side that the model can use at most."""
        if self.tokens is None or self.patch is None:
            return max(self.shape)
        return math.ceil(math.sqrt(self.tokens)) * self.patch

    @property
    def at_least(self) -> int | None:
        """Pixels that the shorter side of a JPEG file keeps when it is decoded; None for all of them."""
        return self.draft * self.reach or None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def __call__(self, image: Image.Image) -> UInt8[Tensor, "3 y x"]:
        """Resize an RGB image; values stay 0 to 255."""
        if image.mode != "RGB":
            raise PerceptError(f"preprocessing takes RGB images, this one is {image.mode}. Open it with read_image.")
        if self.resize == "crop":
            return pixels_of(cropped(image, self.shape)).contiguous()
        pixels = pixels_of(image)
        if self.patch is not None:
            rows, columns = self.grid(image.height, image.width)
            return resized(pixels, (rows * self.patch, columns * self.patch))
        return _padded(pixels, self.shape) if self.resize == "pad" else resized(pixels, self.shape)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the patches down and across that keep and native give an image of this height and width in pixels.

        >>> Preprocess(size=96, resize="keep", patch=8).grid(480, 640)
        (9, 12)
        >>> Preprocess(size=96, resize="native", patch=8, tokens=100).grid(480, 640)
        (8, 11)
        """
        assert self.patch is not None
        if self.tokens is not None:
            return native_grid(height / self.patch, width / self.patch, self.tokens)
        most = self.shape[0] // self.patch, self.shape[1] // self.patch
        scale = min(self.shape[0] / height, self.shape[1] / width) / self.patch
        rows, columns = (min(top, max(1, round(side * scale))) for side, top in zip((height, width), most, strict=True))
        return rows, columns

    def stack(self, images: Iterable[Image.Image]) -> UInt8[Tensor, "b 3 y x"]:
        """Resize images of any sizes into one batch.

        Raises:
            PerceptError: keep or native gives them different sizes.
        """
        rows = [self(image) for image in images]
        if any(row.shape != rows[0].shape for row in rows):
            raise PerceptError(
                f"resize={self.resize!r} gives these images different sizes, which do not make a batch. Take them one by one."
            )
        return torch.stack(rows) if rows else torch.empty(0, 3, *self.shape, dtype=torch.uint8)

    def normalise(
        self, pixels: UInt8[Tensor, "*b 3 y x"], *, out: Float[Tensor, "*b 3 y x"] | None = None
    ) -> Float[Tensor, "*b 3 y x"]:
        """Turn 0..255 into what the model takes: (value / 255 - mean) / std, float32, on the device of `pixels`.

        The result is written to `out` if it is given.
        """
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return torch.div(pixels, 255, out=out).sub_(mean).div_(std)

    def save(self, path: Path | str) -> None:
        """Write preprocess.json."""
        write_json(path, to_dict(self))

    @classmethod
    def load(cls, path: Path | str) -> "Preprocess":
        """Read what `save` wrote.

        Raises:
            PerceptError: missing, not json, or an unknown key.
        """
        data = read_json(path)
        if not isinstance(data, dict):
            raise PerceptError(
                f"{path} holds no preprocessing. It has to be a json object like {to_dict(cls(size=96))}."
            )
        return from_dict(cls, data)


def native_grid(rows: float, columns: float, budget: int) -> tuple[int, int]:
    """Return whole patches down and across, at most `budget`, for an image that is `rows` patches high and `columns` wide.

    An image within the budget keeps its size, a larger one is reduced. Of the neighbouring whole numbers, the pair that
    changes the aspect ratio least is taken.

    >>> native_grid(20.0, 30.0, 600), native_grid(20.0, 30.0, 150), native_grid(0.5, 900.0, 150)
    ((20, 30), (10, 15), (1, 150))
    """
    scale = min(1.0, math.sqrt(budget / (rows * columns)))
    down, across = (
        {min(budget, max(1, whole)) for whole in (math.floor(side * scale), math.ceil(side * scale))}
        for side in (rows, columns)
    )
    fitting = [(one, other) for one in down for other in across if one * other <= budget]
    return min(fitting, key=lambda grid: (abs(math.log(grid[0] * columns / (grid[1] * rows))), -grid[0] * grid[1]))


def resized(pixels: UInt8[Tensor, "3 y x"], shape: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
    """Resize bilinearly with antialiasing, as Pillow does (every value within 1), in 8-bit arithmetic."""
    if tuple(pixels.shape[-2:]) == shape:
        return pixels.contiguous()
    return F.interpolate(pixels[None], shape, mode="bilinear", antialias=True)[0].contiguous()


def _padded(pixels: UInt8[Tensor, "3 y x"], shape: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
    height, width = _scaled(pixels.shape[-2], pixels.shape[-1], shape, cover=False)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    canvas = torch.full((3, *shape), 128, dtype=torch.uint8)
    canvas[:, top : top + height, left : left + width] = resized(pixels, (height, width))
    return canvas


def _scaled(height: int, width: int, shape: tuple[int, int], *, cover: bool) -> tuple[int, int]:
    """Return the size at the same aspect ratio that just covers `shape`, or just fits into it."""
    ratios = shape[0] / height, shape[1] / width
    scale = max(ratios) if cover else min(ratios)
    return max(1, round(height * scale)), max(1, round(width * scale))


def cropped(image: Image.Image, shape: tuple[int, int]) -> Image.Image:
    """Scale an image until it covers `shape` and keep the centre; only that part is computed.

    >>> cropped(Image.new("RGB", (400_000, 1)), (96, 96)).size
    (96, 96)
    """
    height, width = _scaled(image.height, image.width, shape, cover=True)
    top, left = (height - shape[0]) // 2, (width - shape[1]) // 2
    down, across = image.height / height, image.width / width
    box = left * across, top * down, (left + shape[1]) * across, (top + shape[0]) * down
    box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
    return image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=box)


def pixels_of(image: Image.Image) -> UInt8[Tensor, "3 y x"]:
    """Return pixels with the channels of each one together in memory, as Pillow has them: resizing these is twice as fast."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def read_pixels(
    source: ImageSource, preprocess: Preprocess, *, max_pixels: int | None = None
) -> UInt8[Tensor, "3 y x"]:
    """Read an image and preprocess it; whatever fails in either is the file's reason.

    Args:
        source: as for `read_image`.
        preprocess: how it is resized.
        max_pixels: the largest width × height accepted, instead of the format's budget in `percept.data.limits`.

    Raises:
        PerceptError: the file cannot be read, is too large, or cannot be preprocessed in the memory that is free.
    """
    with decoded(source, max_pixels=max_pixels, at_least=preprocess.at_least) as image:
        return preprocess(image)
