"""Pictures of what a model sees: feature maps as colours, attention as heat, side by side with the picture itself."""

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
"""From nothing to the most, in even steps."""
OUTLIERS = 0.01
"""Share of values at either end that get the colour of the end: a few patches of great norm would leave grey for the rest."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One drawing of a row, and what is written under it."""

    image: Image.Image
    title: str
    remark: str = ""


def pca_colours(maps: Sequence[Float[Tensor, "_ _ w"]]) -> list[UInt8[Tensor, "_ _ 3"]]:
    """Colour patches by their first three principal components, as red, green and blue.

    The components are those of all maps together, so a colour means the same in each of them. Each component points
    where its largest weight is positive: the same maps give the same colours everywhere.

    Raises:
        PerceptError: no maps, or numbers that are none.
    """
    if not maps:
        raise PerceptError("no maps were given, so there is nothing to colour")
    points = torch.cat([one.flatten(0, 1) for one in maps]).double()
    if not points.isfinite().all():
        raise PerceptError("these maps hold numbers that are none (nan or infinite), which have no colours")
    values = _stretched((points - points.mean(dim=0)) @ _components(points))
    parts = values.split([one.shape[0] * one.shape[1] for one in maps])
    return [part.unflatten(0, tuple(one.shape[:2])) for part, one in zip(parts, maps, strict=True)]


def _components(points: Float[Tensor, "n w"]) -> Float[Tensor, "w 3"]:
    centred = points - points.mean(dim=0)
    vectors = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :3]  # in falling order
    vectors = torch.nn.functional.pad(vectors, (0, 3 - vectors.shape[1]))
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0)


def _stretched(values: Float[Tensor, "n 3"]) -> UInt8[Tensor, "n 3"]:
    low, high = values.quantile(OUTLIERS, dim=0), values.quantile(1 - OUTLIERS, dim=0)
    share = (values - low) / (high - low).clamp(min=1e-12)
    return (255 * share.clamp(0, 1)).round().to(torch.uint8)


def heat_colours(shares: Float[Tensor, "y x"]) -> UInt8[Tensor, "y x 3"]:
    """Colour a map from dark for 0 to light for its largest value."""
    places = shares.double() / shares.max().clamp(min=1e-12) * (len(HEAT) - 1)
    stops = torch.tensor(HEAT, dtype=torch.float64)
    below = places.floor().long().clamp(0, len(HEAT) - 2)
    return torch.lerp(stops[below], stops[below + 1], (places - below)[..., None]).round().to(torch.uint8)


def as_seen(image: Image.Image, preprocess: Preprocess, side: int) -> Image.Image:
    """Return the part of a picture that the model sees, upright and undistorted, its longer side `side` pixels long."""
    if preprocess.resize in ("crop", "pad"):
        scale = side / max(preprocess.shape)
        height, width = (max(1, round(scale * one)) for one in preprocess.shape)
        return Image.fromarray(replace(preprocess, size=(height, width))(image).permute(1, 2, 0).numpy())
    scale = side / max(image.size)
    return image.resize([max(1, round(scale * one)) for one in image.size], Image.Resampling.LANCZOS)  # type: ignore[arg-type]


def enlarged(colours: UInt8[Tensor, "y x 3"], size: tuple[int, int]) -> Image.Image:
    """Draw each cell of a map as a rectangle; `size` is width and height in pixels."""
    return Image.fromarray(colours.numpy()).resize(size, Image.Resampling.NEAREST)


def pca_rows(
    frames: Sequence[Image.Image], maps: Sequence[dict[int, Float[Tensor, "_ _ w"]]], names: Sequence[str]
) -> list[list[Panel]]:
    """Return a row per picture: the picture, then a column per layer, coloured over all pictures together."""
    rows = [[Panel(image=frame, title=name)] for frame, name in zip(frames, names, strict=True)]
    for layer in maps[0]:
        colours = pca_colours([one[layer] for one in maps])
        for row, frame, one in zip(rows, frames, colours, strict=True):
            grid = f"{one.shape[0]} x {one.shape[1]} patches"
            row.append(Panel(image=enlarged(one, frame.size), title=f"layer {layer}", remark=grid))
    return rows


def attention_row(frame: Image.Image, attention: PoolAttention, name: str) -> list[Panel]:
    """Return a row: the picture, the mean of the heads, then each head, as heat over the grey picture."""
    grey = frame.convert("L").convert("RGB")
    maps = [attention.maps.mean(dim=0), *attention.maps]
    shares = [attention.class_token.mean(), *attention.class_token]
    titles = ["all heads", *(f"head {number}" for number in range(len(attention.maps)))]
    row = [Panel(image=frame, title=name)]
    for title, one, share in zip(titles, maps, shares, strict=True):
        image = Image.blend(grey, enlarged(heat_colours(one), frame.size), 0.65)
        row.append(Panel(image=image, title=title, remark=f"class token {100 * float(share):.0f} %"))
    return row


def draw_rows(rows: Sequence[Sequence[Panel]], *, gap: int = 14, margin: int = 24) -> Image.Image:
    """Lay rows of panels out as one picture; every column is as wide as its widest panel."""
    caption = 42
    columns = [max(row[place].image.width for row in rows) for place in range(len(rows[0]))]
    heights = [max(panel.image.height for panel in row) + caption for row in rows]
    size = sum(columns) + gap * (len(columns) - 1), sum(heights) + gap * (len(rows) - 1)
    sheet = Image.new("RGB", (size[0] + 2 * margin, size[1] + 2 * margin), PAPER)
    pen, y = ImageDraw.Draw(sheet), margin
    for row, height in zip(rows, heights, strict=True):
        x = margin
        for panel, width in zip(row, columns, strict=True):
            sheet.paste(panel.image, (x, y))
            write_line(pen, (x, y + panel.image.height + 5), panel.title, 13, INK, width)
            write_line(pen, (x, y + panel.image.height + 22), panel.remark, 11, SOFT, width)
            x += width + gap
        y += height + gap
    return sheet


def save_png(file: Path, image: Image.Image) -> None:
    """Write a picture as PNG, whole or not at all."""
    with replacing(file) as temporary:
        image.save(temporary, "PNG")
