"""Augmentation of generated images, one batch at a time on any device: crops, lighting, backgrounds and inks.

Augmentation keeps captions true: there are no flips, strong crops or hue changes where colours are named. The exception is
a caption that mentions the background, which is false for images that get a different background. Backgrounds, shading and
inks are sampled from wide ranges (Tobin et al. 2017, arXiv:1703.06907, domain randomisation). No filter of the
evaluation-only variants is used, but light lines on a dark sheet, as in chalk and blueprint, do occur.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError

BLURRED = 7
"""Side of the blur kernel in pixels."""


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Strength and frequency of augmentations. Shares are fractions of the images in a batch."""

    crop: int = 8
    """Largest number of pixels that a crop removes on each axis; the same for all images of a step."""
    brightness: float = 0.15
    """Largest relative change of brightness, per image."""
    contrast: float = 0.3
    """Largest relative change of contrast, per image."""
    tint: float = 0.08
    """Largest relative change of each of the three channels, per image."""
    noise: float = 0.08
    """Largest standard deviation of noise, where the range from black to white is 1. Two of three images have none."""
    shaded: float = 0.3
    """Share with lighting that varies smoothly across the image."""
    blurred: float = 0.15
    """Share that is blurred."""
    behind: float = 0.25
    """Share whose background is mixed with blots of random colours."""
    inked: float = 0.7
    """Share of colourless images (line sketches) that are redrawn in two random colours, also light on dark."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "crop" and not 0 <= value <= 1:
                raise PerceptError(f"{name} must be from 0 to 1, got {value}.")


NONE = Augment(
    crop=0, brightness=0.0, contrast=0.0, tint=0.0, noise=0.0, shaded=0.0, blurred=0.0, behind=0.0, inked=0.0
)
"""No augmentation."""


@dataclass(frozen=True)
class Chosen:
    """Randomly chosen samples of a global batch, and those of them that belong to this process."""

    count: int
    """Number of chosen samples in the global batch. Random numbers are drawn for all of them."""
    mine: Int[Tensor, " k"]
    """Indices, among the chosen samples, of those in this process's share."""
    places: Int[Tensor, " k"]
    """Rows of these samples in the share."""


class Draws:
    """Random numbers of one step, drawn for the global batch so that they do not depend on the number of processes.

    Numbers for pixels are drawn on the device and all others on the CPU, both from one seed.
    """

    def __init__(self, seed: int, device: torch.device, rows: slice | None = None) -> None:
        """Draw from `seed`. This process works on `rows` of the global batch, or on all of it if None."""
        self.rng, self.device, self.rows = np.random.default_rng(seed), device, rows
        self.generator = torch.Generator(device).manual_seed(seed)

    def mine(self, values: Tensor) -> Tensor:
        """Select this process's rows from values that cover the global batch."""
        return values if self.rows is None else values[self.rows]

    def uniform(self, low: float, high: float, *shape: int) -> Float[Tensor, "..."]:
        """Draw numbers uniformly between `low` and `high`."""
        return torch.from_numpy(self.rng.uniform(low, high, shape).astype(np.float32)).to(self.device)

    def some(self, candidates: int | Int[np.ndarray, " g"], share: float) -> Chosen:
        """Choose among samples of the global batch, each with the same probability.

        Args:
            candidates: row numbers of the candidates, or their number if every sample is one.
            share: probability of each.
        """
        rows = np.arange(candidates) if isinstance(candidates, int) else candidates
        rows = rows[self.rng.random(len(rows)) < share]
        first, end = (0, None) if self.rows is None else (self.rows.start, self.rows.stop)
        mine = np.flatnonzero((rows >= first) & (rows < (np.inf if end is None else end)))
        return Chosen(len(rows), *(torch.from_numpy(numbers).to(self.device) for numbers in (mine, rows[mine] - first)))

    def blots(self, chosen: Chosen, channels: int, size: int) -> Float[Tensor, "k c s s"]:
        """Draw smooth fields in [0, 1] for this process's chosen samples, all at the same resolution."""
        cells = int(self.rng.choice((2, 3, 4, 6, 12)))
        coarse = torch.rand(chosen.count, channels, cells, cells, generator=self.generator, device=self.device)
        mode = "nearest" if self.rng.random() < 0.2 else "bicubic"
        if not len(chosen.mine):
            return coarse.new_zeros(0, channels, size, size)
        return F.interpolate(coarse[chosen.mine], size=(size, size), mode=mode).clamp_(0, 1)


def lit(
    image: UInt8[Tensor, "b 3 s s"],
    ids: UInt8[Tensor, "b s s"],
    grey: Int[np.ndarray, " g"],
    how: Augment,
    draws: Draws,
    count: int | None = None,
) -> Float[Tensor, "b 3 s s"]:
    """Scale images to [-1, 1] and augment their background, inks, lighting and sharpness.

    Args:
        image: images of this process's share.
        ids: id of the thing at each pixel; 0 is background.
        grey: rows of the global batch whose images show no colours.
        how: strengths and shares.
        draws: source of random numbers.
        count: number of samples in the global batch; len(image) if None.
    """
    count, size = len(image) if count is None else count, image.shape[-1]
    scaled = image.float().div_(255)
    _put_behind(scaled, ids, draws.some(count, how.behind), draws)
    some = draws.some(grey, how.inked)
    if some.count:
        scaled[some.places] = inked(scaled[some.places], draws, some)
    some = draws.some(count, how.shaded)
    if some.count:
        depth = draws.uniform(0.2, 0.7, some.count, 1, 1, 1)[some.mine]
        scaled[some.places] *= 1 - depth * draws.blots(some, 1, size)
    scaled = _recoloured(scaled.mul_(2).sub_(1), count, how, draws)
    some = draws.some(count, how.blurred)
    if some.count:
        scaled[some.places] = blurred(scaled[some.places], draws.uniform(0.4, 1.6, some.count)[some.mine])
    if how.noise:
        some = draws.some(count, 1 / 3)
        noise = torch.randn(some.count, *image.shape[1:], generator=draws.generator, device=draws.device)
        scaled[some.places] += (noise * draws.uniform(0.0, 2 * how.noise, some.count, 1, 1, 1))[some.mine]
    return scaled.clamp_(-1, 1)


def _put_behind(scaled: Float[Tensor, "b 3 s s"], ids: UInt8[Tensor, "b s s"], some: Chosen, draws: Draws) -> None:
    """Mix blots of random colours into the backgrounds of the chosen images, in-place."""
    if not some.count:
        return
    amount = draws.uniform(0.3, 1.0, some.count, 1, 1, 1)[some.mine]
    free = (ids[some.places] == 0)[:, None] * amount
    blots = draws.blots(some, 3, scaled.shape[-1])
    scaled[some.places] = torch.lerp(scaled[some.places], blots, free)


def _recoloured(scaled: Float[Tensor, "b 3 s s"], count: int, how: Augment, draws: Draws) -> Float[Tensor, "b 3 s s"]:
    """Change the contrast, brightness and tint of images in [-1, 1]."""
    middle = scaled.mean(dim=(1, 2, 3), keepdim=True)
    contrast = draws.uniform(1 - how.contrast, 1 + how.contrast, count, 1, 1, 1)
    channels = draws.uniform(1 - how.tint, 1 + how.tint, count, 3, 1, 1)
    channels = channels * draws.uniform(1 - how.brightness, 1 + how.brightness, count, 1, 1, 1)
    return ((scaled - middle) * draws.mine(contrast) + middle + 1) * draws.mine(channels) - 1


def inked(image: Float[Tensor, "k 3 s s"], draws: Draws, some: Chosen) -> Float[Tensor, "k 3 s s"]:
    """Redraw grey images in [0, 1] with two colours, clearly different in lightness, in place of black and white."""
    level = image.mean(dim=1, keepdim=True)
    count = some.count
    dark, light = draws.uniform(0.0, 0.4, count, 3, 1, 1), draws.uniform(0.6, 1.0, count, 3, 1, 1)
    turned = draws.uniform(0.0, 1.0, count, 1, 1, 1) < 0.5
    dark, light, turned = dark[some.mine], light[some.mine], turned[some.mine]
    return torch.lerp(torch.where(turned, light, dark), torch.where(turned, dark, light), level)


def blurred(image: Float[Tensor, "k c s s"], deviation: Float[Tensor, " k"]) -> Float[Tensor, "k c s s"]:
    """Blur each image with a Gaussian of its own standard deviation, in pixels."""
    if not len(image):
        return image
    reach = torch.arange(BLURRED, device=image.device) - BLURRED // 2
    kernel = (-0.5 * (reach / deviation[:, None]) ** 2).exp()
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(image.shape[1], dim=0)
    padded = F.pad(image.flatten(0, 1)[None], [BLURRED // 2] * 4, mode="replicate")
    across = F.conv2d(padded, kernel[:, None, None, :], groups=len(kernel))
    return F.conv2d(across, kernel[:, None, :, None], groups=len(kernel))[0].unflatten(0, image.shape[:2])


def cropped(
    image: UInt8[Tensor, "b 3 y x"], ids: UInt8[Tensor, "b y x"], size: int, most: int, draws: Draws
) -> tuple[UInt8[Tensor, "b 3 s s"], UInt8[Tensor, "b s s"]]:
    """Crop up to `most` pixels on each axis and resize to `size`. Relative positions do not change."""
    top, left, lost = (int(draws.rng.integers(0, most + 1)) for _ in range(3))
    side = image.shape[-1] - lost
    top, left = min(top, lost), min(left, lost)
    image, ids = (pixels[..., top : top + side, left : left + side].contiguous() for pixels in (image, ids))
    if side != size:
        pixels = F.interpolate(image.float(), size=(size, size), mode="bilinear", antialias=True)
        image = pixels.round_().clamp_(0, 255).to(torch.uint8)
        ids = F.interpolate(ids[:, None].float(), size=(size, size), mode="nearest-exact")[:, 0].to(torch.uint8)
    return image, ids
