"""Augmentation of generated images, a batch at a time and on any device: crops, light, backgrounds, inks.

Nothing here moves or recolours the things a caption names: no flips, no strong crops, no other hues where colours are named.
What a text says of the place is no longer true of the few pictures that get another background. Backgrounds, shades and inks
are drawn at large (Tobin et al. 2017, arXiv:1703.06907, domain randomisation); no filter of the variants that only the
evaluation shows is among them, but light lines on a dark sheet, as chalk and blueprint have, do come up.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError

BLURRED = 7
"""Pixels a side of the window that blurs."""


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Strength and frequency of augmentations; shares are of the images of a batch."""

    crop: int = 8
    """Pixels that a crop may leave out on either axis; the same for all images of a step."""
    brightness: float = 0.15
    """Largest relative change of brightness, per image."""
    contrast: float = 0.3
    """Largest relative change of contrast, per image."""
    tint: float = 0.08
    """Largest relative change of each of the three channels, per image."""
    noise: float = 0.08
    """Largest standard deviation of noise, of the range from black to white; two of three images have none."""
    shaded: float = 0.3
    """Share whose light changes slowly from place to place."""
    blurred: float = 0.15
    """Share that is out of focus."""
    behind: float = 0.25
    """Share whose background gives way to blots of any colours."""
    inked: float = 0.7
    """Share of images without colours (line sketches) that are redrawn in two random ones, light on dark too."""

    def __post_init__(self) -> None:
        for name, most in vars(self).items():
            if name != "crop" and not 0 <= most <= 1:
                raise PerceptError(f"{name}={most}; it is a share within 0..1")


NONE = Augment(
    crop=0, brightness=0.0, contrast=0.0, tint=0.0, noise=0.0, shaded=0.0, blurred=0.0, behind=0.0, inked=0.0
)
"""No augmentation."""


@dataclass(frozen=True)
class Chosen:
    """Samples of a global batch chosen by chance, and which of them belong to this process."""

    count: int
    """Chosen samples of the global batch: random numbers are drawn for all of them."""
    mine: Int[Tensor, " k"]
    """Positions among the chosen samples of those in this process's share."""
    places: Int[Tensor, " k"]
    """Their rows in the share."""


class Draws:
    """Random numbers of a step, drawn for the global batch so that they do not depend on the number of processes.

    Few are drawn on the CPU, those of pixels on the device, both from one seed.
    """

    def __init__(self, seed: int, device: torch.device, rows: slice | None = None) -> None:
        """Draw from `seed`; this process works on `rows` of the global batch, on all if None."""
        self.rng, self.device, self.rows = np.random.default_rng(seed), device, rows
        self.generator = torch.Generator(device).manual_seed(seed)

    def mine(self, values: Tensor) -> Tensor:
        """Return the rows of this process among values for every sample of the global batch."""
        return values if self.rows is None else values[self.rows]

    def uniform(self, low: float, high: float, *shape: int) -> Float[Tensor, "..."]:
        """Draw numbers between two others."""
        return torch.from_numpy(self.rng.uniform(low, high, shape).astype(np.float32)).to(self.device)

    def some(self, candidates: int | Int[np.ndarray, " g"], share: float) -> Chosen:
        """Choose among samples of the global batch, each with the same probability.

        Args:
            candidates: their row numbers, or how many there are if all are candidates.
            share: the probability.
        """
        rows = np.arange(candidates) if isinstance(candidates, int) else candidates
        rows = rows[self.rng.random(len(rows)) < share]
        first, end = (0, None) if self.rows is None else (self.rows.start, self.rows.stop)
        mine = np.flatnonzero((rows >= first) & (rows < (np.inf if end is None else end)))
        return Chosen(len(rows), *(torch.from_numpy(each).to(self.device) for each in (mine, rows[mine] - first)))

    def blots(self, chosen: Chosen, channels: int, size: int) -> Float[Tensor, "k c s s"]:
        """Draw smooth fields in [0, 1] for this process's chosen samples; how fine they are is the same for all of them."""
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
    """Scale images to [-1, 1] in other light.

    Args:
        image: images of this process's share.
        ids: what each pixel shows; 0 is background.
        grey: rows of the global batch whose images show no colours.
        how: see `Augment`.
        draws: random numbers.
        count: samples in the global batch; those of `image` if None.
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
    """Mix blots of any colours into the backgrounds of the chosen images, in place."""
    if not some.count:
        return
    amount = draws.uniform(0.3, 1.0, some.count, 1, 1, 1)[some.mine]
    free = (ids[some.places] == 0)[:, None] * amount
    blots = draws.blots(some, 3, scaled.shape[-1])
    scaled[some.places] = torch.lerp(scaled[some.places], blots, free)


def _recoloured(scaled: Float[Tensor, "b 3 s s"], count: int, how: Augment, draws: Draws) -> Float[Tensor, "b 3 s s"]:
    """Change contrast, brightness and tint of images in [-1, 1]."""
    middle = scaled.mean(dim=(1, 2, 3), keepdim=True)
    contrast = draws.uniform(1 - how.contrast, 1 + how.contrast, count, 1, 1, 1)
    channels = draws.uniform(1 - how.tint, 1 + how.tint, count, 3, 1, 1)
    channels = channels * draws.uniform(1 - how.brightness, 1 + how.brightness, count, 1, 1, 1)
    return ((scaled - middle) * draws.mine(contrast) + middle + 1) * draws.mine(channels) - 1


def inked(image: Float[Tensor, "k 3 s s"], draws: Draws, some: Chosen) -> Float[Tensor, "k 3 s s"]:
    """Redraw grey images in [0, 1] with two colours in place of black and white that differ clearly in lightness."""
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
    """Leave out up to `most` pixels on either axis and scale; positions stay what the text says."""
    top, left, lost = (int(draws.rng.integers(0, most + 1)) for _ in range(3))
    side = image.shape[-1] - lost
    top, left = min(top, lost), min(left, lost)
    image, ids = (one[..., top : top + side, left : left + side].contiguous() for one in (image, ids))
    if side != size:
        pixels = F.interpolate(image.float(), size=(size, size), mode="bilinear", antialias=True)
        image = pixels.round_().clamp_(0, 255).to(torch.uint8)
        ids = F.interpolate(ids[:, None].float(), size=(size, size), mode="nearest-exact")[:, 0].to(torch.uint8)
    return image, ids
