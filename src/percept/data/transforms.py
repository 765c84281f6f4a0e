"""From a picture to the numbers a model takes: resize, then normalise; stored beside the weights as preprocess.json."""

from collections.abc import Iterable
from dataclasses import dataclass
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

RESIZES = ("squash", "crop", "pad")


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """What is done to a picture before a model sees it.

    >>> Preprocess(size=96)(Image.new("RGB", (640, 480), "red")).shape
    torch.Size([3, 96, 96])
    """

    size: tuple[int, int] | int
    """Height and width in pixels; one number for a square."""
    resize: str = "squash"
    """squash: ignore the aspect ratio (PE); crop: shorter side fits, centre kept; pad: longer side fits, grey around."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Subtracted from values in [0, 1], per channel."""
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Then divides, per channel."""

    def __post_init__(self) -> None:
        if not isinstance(self.size, int):
            object.__setattr__(self, "size", tuple(self.size))
        if self.resize not in RESIZES:
            raise unknown_name("way to resize", self.resize, RESIZES)
        if min(self.shape) < 1 or min(self.std) <= 0:
            raise PerceptError(f"size and std have to be positive; given: size={self.size}, std={self.std}")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def __call__(self, image: Image.Image) -> UInt8[Tensor, "3 y x"]:
        """Resize an RGB picture; values stay 0 to 255."""
        if image.mode != "RGB":
            raise PerceptError(f"preprocessing takes RGB pictures, this one is {image.mode}; open it with read_image")
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        ways = {"squash": resized, "crop": _cropped, "pad": _padded}
        return ways[self.resize](pixels, self.shape)

    def stack(self, images: Iterable[Image.Image]) -> UInt8[Tensor, "b 3 y x"]:
        """Resize pictures of any sizes into one batch."""
        rows = [self(image) for image in images]
        return torch.stack(rows) if rows else torch.empty(0, 3, *self.shape, dtype=torch.uint8)

    def normalise(self, pixels: UInt8[Tensor, "*b 3 y x"]) -> Float[Tensor, "*b 3 y x"]:
        """Turn 0..255 into what the model takes: (value / 255 - mean) / std, float32, on the device of `pixels`."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255 - mean) / std

    def save(self, path: Path | str) -> None:
        """Write preprocess.json."""
        write_json(path, to_dict(self))

    @classmethod
    def load(cls, path: Path | str) -> "Preprocess":
        """Read what `save` wrote.

        Raises:
            PerceptError: missing, not json, or a key that is not known.
        """
        data = read_json(path)
        if not isinstance(data, dict):
            raise PerceptError(f"{path} holds no preprocessing: expected a json object like {to_dict(cls(size=96))}")
        return from_dict(cls, data)


def resized(pixels: UInt8[Tensor, "3 y x"], shape: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
    """Resize bilinearly with antialiasing, as Pillow does (every value within 1), in 8-bit arithmetic."""
    if tuple(pixels.shape[-2:]) == shape:
        return pixels.contiguous()
    return F.interpolate(pixels[None], shape, mode="bilinear", antialias=True)[0].contiguous()


def _cropped(pixels: UInt8[Tensor, "3 y x"], shape: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
    height, width = _scaled(pixels, shape, cover=True)
    top, left = (height - shape[0]) // 2, (width - shape[1]) // 2
    return resized(pixels, (height, width))[:, top : top + shape[0], left : left + shape[1]].contiguous()


def _padded(pixels: UInt8[Tensor, "3 y x"], shape: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
    height, width = _scaled(pixels, shape, cover=False)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    canvas = torch.full((3, *shape), 128, dtype=torch.uint8)
    canvas[:, top : top + height, left : left + width] = resized(pixels, (height, width))
    return canvas


def _scaled(pixels: Tensor, shape: tuple[int, int], *, cover: bool) -> tuple[int, int]:
    """Return the size of `pixels` at the same aspect ratio, just covering `shape` or just fitting into it."""
    height, width = pixels.shape[-2:]
    ratios = shape[0] / height, shape[1] / width
    scale = max(ratios) if cover else min(ratios)
    return max(1, round(height * scale)), max(1, round(width * scale))
