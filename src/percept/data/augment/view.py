"""One random view of an image, and where boxes, points and masks of the image are in it.

Coordinates are pixels: the left edge of an image is x = 0, its right edge x = width. Boxes are xyxy.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from percept.core.errors import PerceptError
from percept.data.transforms import Preprocess, pixels_of, resized

LUMA = torch.tensor([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the grey value of a colour (ITU-R BT.601)."""


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """Boxes in a view. Those that are outside of it are dropped."""

    xyxy: Float[Tensor, "k 4"]
    """Clipped boxes in pixels of the view."""
    kept: Bool[Tensor, " n"]
    """True for the boxes of the image that remain; `labels[kept]` goes with `xyxy`."""
    visible: Float[Tensor, " k"]
    """Share of the area of each box that is inside the view; below 1 for a box that was cut."""


@dataclass(frozen=True, kw_only=True)
class Points:
    """Points in a view."""

    xy: Float[Tensor, "n 2"]
    """All points, in pixels of the view."""
    inside: Bool[Tensor, " n"]
    """True for the points that are inside the view."""


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Masks in a view. Those without a pixel in it are dropped."""

    mask: Bool[Tensor, "k h w"]
    """Masks of the view's size."""
    kept: Bool[Tensor, " n"]
    """True for the masks of the image that remain."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A crop of an image, resized, perhaps mirrored, with changed colours."""

    size: tuple[int, int]
    """Width and height in pixels of the image that the view is for."""
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of the crop in pixels."""
    shape: tuple[int, int]
    """Height and width in pixels of the result."""
    flip: bool = False
    """Mirror left and right."""
    brightness: float = 1.0
    """Multiplies all values."""
    saturation: float = 1.0
    """0 for grey, 1 for no change, above 1 for stronger colours."""

    @property
    def colour(self) -> tuple[float, float]:
        """Brightness and saturation."""
        return self.brightness, self.saturation

    def __call__(self, image: Image.Image) -> UInt8[Tensor, "3 h w"]:
        """Return the pixels of the view; `image` is RGB and may have been decoded at a fraction of `size`."""
        return jittered(self.cropped(image), brightness=self.brightness, saturation=self.saturation)

    def cropped(self, image: Image.Image) -> UInt8[Tensor, "3 h w"]:
        """Return the pixels of the view with the colours of the image."""
        scale = image.width / self.size[0], image.height / self.size[1]
        left, top, right, bottom = (round(edge * scale[place % 2]) for place, edge in enumerate(self.box))
        box = left, top, max(right, left + 1), max(bottom, top + 1)
        pixels = resized(pixels_of(image if box == (0, 0, *image.size) else image.crop(box)), self.shape)
        return pixels.flip(-1) if self.flip else pixels

    def points(self, points: Float[Tensor, "n 2"]) -> Points:
        """Return points (x, y) of the image in pixels of the view."""
        left, top, right, bottom = self.box
        height, width = self.shape
        scale = points.new_tensor([width / (right - left), height / (bottom - top)])
        moved = (points - points.new_tensor([left, top])) * scale
        if self.flip:
            moved[:, 0] = width - moved[:, 0]
        inside = ((moved >= 0) & (moved < moved.new_tensor([width, height]))).all(dim=1)
        return Points(xy=moved, inside=inside)

    def boxes(self, boxes: Float[Tensor, "n 4"], *, least: float = 0.0) -> Boxes:
        """Return boxes of the image clipped to the view.

        Args:
            boxes: xyxy in pixels of the image.
            least: boxes of which at most this share of the area is visible are dropped; 0 for those outside only.

        Raises:
            PerceptError: `least` is not in [0, 1).
        """
        if not 0 <= least < 1:
            raise PerceptError(f"least must be from 0 up to 1, 1 excluded, got {least}.")
        corners = self.points(boxes.reshape(-1, 2)).xy.reshape(-1, 4)
        if self.flip:
            corners = corners[:, [2, 1, 0, 3]]
        limits = corners.new_tensor([self.shape[1], self.shape[0]] * 2)
        clipped = torch.minimum(corners.clamp(min=0), limits)
        area = _areas(corners)
        visible = torch.where(area > 0, _areas(clipped) / area, 0.0)
        kept = visible > least
        return Boxes(xyxy=clipped[kept], kept=kept, visible=visible[kept])

    def masks(self, masks: Bool[Tensor, "n y x"]) -> Masks:
        """Return masks of the image in the view: each of its pixels has the value at its centre.

        Raises:
            PerceptError: the masks do not have the size of the image.
        """
        if tuple(masks.shape[1:]) != self.size[::-1]:
            raise PerceptError(
                f"the masks have {masks.shape[2]} × {masks.shape[1]} pixels, the image {self.size[0]} × {self.size[1]}. "
                "Give masks of the size of the image."
            )
        left, top, right, bottom = self.box
        rows, columns = _centres(top, bottom, self.shape[0]), _centres(left, right, self.shape[1])
        moved = masks[:, rows][:, :, columns.flip(0) if self.flip else columns]
        kept = moved.flatten(1).any(dim=1)
        return Masks(mask=moved[kept], kept=kept)


def _areas(boxes: Float[Tensor, "n 4"]) -> Float[Tensor, " n"]:
    return (boxes[:, 2] - boxes[:, 0]).clamp(min=0) * (boxes[:, 3] - boxes[:, 1]).clamp(min=0)


def _centres(start: int, stop: int, count: int) -> Tensor:
    """Return the pixels of [start, stop) at the centres of `count` equal parts."""
    return start + ((torch.arange(count) + 0.5) * (stop - start) / count).long()


def jittered(
    pixels: UInt8[Tensor, "3 y x"], *, brightness: float = 1.0, saturation: float = 1.0
) -> UInt8[Tensor, "3 y x"]:
    """Change brightness and saturation in one step: clip(brightness · (saturation · v + (1 − saturation) · grey)).

    >>> jittered(torch.tensor([200, 100, 0], dtype=torch.uint8).view(3, 1, 1), brightness=0.5).flatten().tolist()
    [100, 50, 0]
    """
    values = pixels.float().contiguous()
    grey = LUMA @ values.flatten(1)
    grey.mul_(brightness * (1 - saturation)).add_(0.5)  # the half rounds where the result is truncated
    return values.mul_(brightness * saturation).add_(grey.view(pixels.shape[1:])).clamp_(0, 255).to(torch.uint8)


def normalise_jittered(
    pixels: UInt8[Tensor, "3 y x"], preprocess: Preprocess, colour: tuple[float, float], *, out: Float[Tensor, "3 y x"]
) -> None:
    """Write what `preprocess.normalise` makes of `jittered` pixels to `out`; nothing is rounded, and jitter costs no extra time."""
    brightness, saturation = colour
    grey = LUMA @ out.copy_(pixels).flatten(1)
    for channel, mean, std in zip(out.flatten(1), preprocess.mean, preprocess.std, strict=True):
        channel.mul_(brightness * saturation / (255 * std)).add_(
            grey, alpha=brightness * (1 - saturation) / (255 * std)
        )
        channel.sub_(mean / std).clamp_(-mean / std, (1 - mean) / std)
