"""Visualise features: feature maps as colours and attention as heat maps, next to the image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import replacing
from percept.data.captions import write_line
from percept.data.transforms import Preprocess
from percept.infer.dense import PoolAttention

PAPER, INK, SOFT = "#faf9f6", "#1f1f1d", "#6d6a63"
HEAT = ((13, 8, 36), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""Colours of a heat map from 0 to the largest value, in equal steps."""
OUTLIERS = 0.01
"""Share of values at either end that are clipped. Otherwise a few patches of large norm would make all others grey."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """An image of a row with its caption."""

    image: Image.Image
    title: str
    remark: str = ""


def pca_colours(maps: Sequence[Float[Tensor, "_ _ w"]]) -> list[UInt8[Tensor, "_ _ 3"]]:
    """Colour patches by their first three principal components, as red, green and blue.

    The components are computed over all maps together, so a colour means the same in all of them. The sign of each
    component is chosen so that its largest weight is positive, so the same maps always give the same colours.

    Raises:
        PerceptError: there are no maps, or a value is NaN or infinite.
    """
    if not maps:
        raise PerceptError("no maps were given. Give at least one.")
    points = torch.cat([features.flatten(0, 1) for features in maps]).double()
    if not points.isfinite().all():
        raise PerceptError("the maps contain NaN or infinite values, which have no colours.")
    values = _stretched((points - points.mean(dim=0)) @ _components(points))
    parts = values.split([features.shape[0] * features.shape[1] for features in maps])
    return [part.unflatten(0, tuple(features.shape[:2])) for part, features in zip(parts, maps, strict=True)]


def _components(points: Float[Tensor, "n w"]) -> Float[Tensor, "w 3"]:
    centred = points - points.mean(dim=0)
    vectors = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :3]  # in descending order
    vectors = torch.nn.functional.pad(vectors, (0, 3 - vectors.shape[1]))
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0)


def _stretched(values: Float[Tensor, "n 3"]) -> UInt8[Tensor, "n 3"]:
    low, high = values.quantile(OUTLIERS, dim=0), values.quantile(1 - OUTLIERS, dim=0)
    share = (values - low) / (high - low).clamp(min=1e-12)
    return (255 * share.clamp(0, 1)).round().to(torch.uint8)


def heat_colours(shares: Float[Tensor, "y x"]) -> UInt8[Tensor, "y x 3"]:
    """Colour a map: dark for 0, light for its largest value."""
    places = shares.double() / shares.max().clamp(min=1e-12) * (len(HEAT) - 1)
    stops = torch.tensor(HEAT, dtype=torch.float64)
    below = places.floor().long().clamp(0, len(HEAT) - 2)
    return torch.lerp(stops[below], stops[below + 1], (places - below)[..., None]).round().to(torch.uint8)


def as_seen(image: Image.Image, preprocess: Preprocess, side: int) -> Image.Image:
    """Return the part of an image that the model sees, undistorted, with a longer side of `side` pixels."""
    if preprocess.resize in ("crop", "pad"):
        scale = side / max(preprocess.shape)
        height, width = (max(1, round(scale * length)) for length in preprocess.shape)
        return Image.fromarray(replace(preprocess, size=(height, width))(image).permute(1, 2, 0).numpy())
    scale = side / max(image.size)
    return image.resize([max(1, round(scale * length)) for length in image.size], Image.Resampling.LANCZOS)  # type: ignore[arg-type]


def enlarged(colours: UInt8[Tensor, "y x 3"], size: tuple[int, int]) -> Image.Image:
    """Draw each cell of a map as a rectangle; `size` is width and height in pixels."""
    return Image.fromarray(colours.numpy()).resize(size, Image.Resampling.NEAREST)


def pca_rows(
    frames: Sequence[Image.Image], maps: Sequence[dict[int, Float[Tensor, "_ _ w"]]], names: Sequence[str]
) -> list[list[Panel]]:
    """Return a row per image: the image, then its map of each layer; colours are shared by all images of a layer."""
    rows = [[Panel(image=frame, title=name)] for frame, name in zip(frames, names, strict=True)]
    for layer in maps[0]:
        colours = pca_colours([features[layer] for features in maps])
        for row, frame, coloured in zip(rows, frames, colours, strict=True):
            grid = f"{coloured.shape[0]} x {coloured.shape[1]} patches"
            row.append(Panel(image=enlarged(coloured, frame.size), title=f"layer {layer}", remark=grid))
    return rows


def attention_row(frame: Image.Image, attention: PoolAttention, name: str) -> list[Panel]:
    """Return a row: the image, then the mean of the heads and each head as a heat map over the grey image."""
    grey = frame.convert("L").convert("RGB")
    maps = [attention.maps.mean(dim=0), *attention.maps]
    shares = [attention.class_token.mean(), *attention.class_token]
    titles = ["all heads", *(f"head {number}" for number in range(len(attention.maps)))]
    row = [Panel(image=frame, title=name)]
    for title, weights, share in zip(titles, maps, shares, strict=True):
        image = Image.blend(grey, enlarged(heat_colours(weights), frame.size), 0.65)
        row.append(Panel(image=image, title=title, remark=f"class token {100 * float(share):.0f} %"))
    return row


def draw_rows(rows: Sequence[Sequence[Panel]], *, gap: int = 14, margin: int = 24) -> Image.Image:
    """Arrange rows of panels as one image; every column is as wide as its widest panel, and rows may be shorter than the first."""
    caption = 42
    columns = [max(row[place].image.width for row in rows if place < len(row)) for place in range(len(rows[0]))]
    heights = [max(panel.image.height for panel in row) + caption for row in rows]
    size = sum(columns) + gap * (len(columns) - 1), sum(heights) + gap * (len(rows) - 1)
    sheet = Image.new("RGB", (size[0] + 2 * margin, size[1] + 2 * margin), PAPER)
    pen, y = ImageDraw.Draw(sheet), margin
    for row, height in zip(rows, heights, strict=True):
        x = margin
        for panel, width in zip(row, columns, strict=False):
            sheet.paste(panel.image, (x, y))
            write_line(pen, (x, y + panel.image.height + 5), panel.title, 13, INK, width)
            write_line(pen, (x, y + panel.image.height + 22), panel.remark, 11, SOFT, width)
            x += width + gap
        y += height + gap
    return sheet


def save_png(file: Path, image: Image.Image) -> None:
    """Write an image as PNG, atomically."""
    with replacing(file) as temporary:
        image.save(temporary, "PNG")
