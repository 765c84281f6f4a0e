"""An image as a thumbnail and tiles of one size, by the rules of PLM and by two economical ones."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError, unknown_name
from percept.data.transforms import pixels_of

MODES = ("published", "aspect", "single")
Grid = tuple[int, int]
"""Columns and rows."""


@dataclass(frozen=True, kw_only=True)
class Tiler:
    """How an image is cut. The first tile is the whole image, squashed; a grid of tiles follows, row by row.

    >>> Tiler(size=448, most=36).grid(640, 480), Tiler(size=448, most=36, mode="aspect").grid(640, 480)
    ((7, 5), (2, 2))
    """

    size: int
    """Side of a tile in pixels."""
    most: int = 36
    """Most tiles of the grid; 0 for the thumbnail alone."""
    mode: str = "published"
    """published: the largest grid, and the image is stretched to it, as in PLM; aspect: the smallest grid that holds the image at its own
    size, reduced only if no grid does, with its aspect ratio kept and grey around it; single: the thumbnail alone."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown_name("way to cut an image into tiles", self.mode, MODES)
        if self.size < 1 or self.most < 0:
            raise PerceptError(
                f"size={self.size} and tiles={self.most} do not describe tiles. Give a size from 1 pixel and 0 tiles or more."
            )

    def within(self, tokens: int, per_tile: int) -> "Tiler":
        """Return the same with as many tiles as fit into a budget of tokens per image, the thumbnail included.

        Raises:
            PerceptError: not even the thumbnail fits.
        """
        if tokens < per_tile:
            raise PerceptError(
                f"a budget of {tokens} tokens is too small for an image: one tile takes {per_tile}. Raise the budget."
            )
        return replace(self, most=min(self.most, tokens // per_tile - 1))

    def grid(self, width: int, height: int) -> Grid | None:
        """Return columns and rows of the grid for an image of this size in pixels; None for the thumbnail alone."""
        if width < 1 or height < 1:
            raise PerceptError(f"an image of {width} × {height} pixels has nothing to cut. Give an image with pixels.")
        if self.mode == "single" or self.most == 0:
            return None
        return _published(width, height, self) if self.mode == "published" else _smallest(width, height, self)

    def count(self, width: int, height: int) -> int:
        """Return the number of tiles of an image, the thumbnail included."""
        grid = self.grid(width, height)
        return 1 if grid is None else 1 + math.prod(grid)

    def __call__(self, image: Image.Image) -> UInt8[Tensor, "k 3 y x"]:
        """Cut an RGB image; values stay 0 to 255."""
        pixels = pixels_of(image)
        thumbnail = stretched(pixels, self.size, self.size)[None]
        grid = self.grid(image.width, image.height)
        if grid is None:
            return thumbnail
        columns, rows = grid
        canvas = self._canvas(pixels, columns * self.size, rows * self.size)
        tiles = canvas.unflatten(1, (rows, self.size)).unflatten(3, (columns, self.size)).permute(1, 3, 0, 2, 4)
        return torch.cat([thumbnail, tiles.flatten(0, 1)])

    def _canvas(self, pixels: UInt8[Tensor, "3 y x"], width: int, height: int) -> UInt8[Tensor, "3 h w"]:
        if self.mode == "published":
            return stretched(pixels, width, height)
        scale = min(1.0, width / pixels.shape[2], height / pixels.shape[1])
        across, down = (max(1, round(side * scale)) for side in (pixels.shape[2], pixels.shape[1]))
        canvas = torch.full((3, height, width), 128, dtype=torch.uint8)
        canvas[:, :down, :across] = stretched(pixels, across, down)
        return canvas


def stretched(pixels: UInt8[Tensor, "3 y x"], width: int, height: int) -> UInt8[Tensor, "3 h w"]:
    """Resize bicubically with antialiasing, in 8-bit arithmetic as Pillow does."""
    if tuple(pixels.shape[-2:]) == (height, width):
        return pixels.contiguous()
    return F.interpolate(pixels[None], (height, width), mode="bicubic", antialias=True)[0].contiguous()


@lru_cache(maxsize=64)
def _candidates(most: int) -> dict[float, list[Grid]]:
    """Return the grids of at most `most` tiles by columns / rows, the largest first, in the order in which they are tried."""
    grids: dict[float, list[Grid]] = {}
    for count in range(most, 0, -1):
        for columns in range(1, count + 1):
            if count % columns == 0:
                rows = count // columns
                grids.setdefault(columns / rows, []).append((columns, rows))
    return grids


def _published(width: int, height: int, tiler: Tiler) -> Grid:
    """Choose the grid as PLM does: the fit with the longest short side, else the grid of the nearest aspect ratio."""
    best: Grid | None = None
    longest = 0
    for grids in _candidates(tiler.most).values():
        for columns, rows in grids:
            if columns * tiler.size < width or rows * tiler.size < height:
                continue
            short = _short_side(width, height, columns * tiler.size, rows * tiler.size)
            if short >= longest:
                best, longest = (columns, rows), short
    return best or _nearest(width / height, _candidates(tiler.most))


def _short_side(width: int, height: int, canvas_width: int, canvas_height: int) -> int:
    """Return the shorter side of an image that is scaled to fit a canvas; the side that follows is rounded down."""
    scale = min(canvas_width / width, canvas_height / height)
    if width > height:
        return math.floor(scale * width * height / width)
    return math.floor(scale * height * width / height)


def _nearest(ratio: float, candidates: dict[float, list[Grid]]) -> Grid:
    """Choose a grid for an image that fits none. Wide and tall images are treated differently, as in the public code."""
    if ratio >= 1:
        closest = max((key for key in candidates if key <= ratio), default=min(candidates))
        return max(candidates[closest], key=lambda grid: grid[0])
    larger = [key for key in candidates if key > ratio]
    closest = min(larger, key=lambda key: abs(1 / key - 1 / ratio), default=max(candidates))
    return max(candidates[closest], key=lambda grid: grid[1])


def _smallest(width: int, height: int, tiler: Tiler) -> Grid | None:
    """Choose the smallest grid that holds the image at its own size; if none does, the one that reduces it least."""
    if max(width, height) <= tiler.size:
        return None
    grids = [grid for alike in _candidates(tiler.most).values() for grid in alike]

    def cost(grid: Grid) -> tuple[float, int, float]:
        scale = min(1.0, grid[0] * tiler.size / width, grid[1] * tiler.size / height)
        return -round(scale, 9), math.prod(grid), abs(math.log(grid[0] / grid[1] * height / width))

    return min(grids, key=cost)
