"""Draw what dense tasks give: coloured masks with a legend, heat maps, depth, and lines between the same points of two images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from PIL import Image, ImageDraw, ImageFilter

from percept.data.captions import font_for, write_line
from percept.infer.drawing import INK, OUTLIERS, PAPER, SOFT, heat_colours

if TYPE_CHECKING:
    from percept.infer.matching import Matches

LEAST_SIDE = 480
"""Smaller images are enlarged until their longer side has this many pixels, so that a drawing can be looked at."""
COLOURS = (
    (230, 57, 70), (29, 125, 214), (255, 183, 3), (46, 160, 67), (155, 93, 229), (255, 123, 37), (0, 187, 188),
    (241, 91, 181), (120, 85, 50), (150, 190, 30), (90, 110, 160), (180, 20, 90),
)  # fmt: skip
"""Colours of objects and classes, by turns."""
SHARE = 0.5
"""Share of the colour in a coloured pixel."""


def colour_of(number: int) -> tuple[int, int, int]:
    """Return the colour of object or class `number`, from 1."""
    return COLOURS[(number - 1) % len(COLOURS)]


def enlarged_for_view(image: Image.Image) -> Image.Image:
    """Return the image with a longer side of at least 480 pixels."""
    scale = LEAST_SIDE / max(image.size)
    if scale <= 1:
        return image
    return image.resize((round(scale * image.width), round(scale * image.height)), Image.Resampling.LANCZOS)


def with_masks(image: Image.Image, mask: Integer[np.ndarray, "_ _"]) -> Image.Image:
    """Return the image with coloured masks and their outlines; pixels with number 0 stay as they are."""
    ids = Image.fromarray(mask.astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
    numbers, pixels = np.array(ids), np.array(image).astype(np.float32)
    table = np.array([(0, 0, 0), *(colour_of(number) for number in range(1, 256))], dtype=np.float32)
    inside = numbers > 0
    pixels[inside] = (1 - SHARE) * pixels[inside] + SHARE * table[numbers[inside]]
    thick = 3 if max(image.size) >= 240 else 1
    edge = inside & (np.array(ids.filter(ImageFilter.MinFilter(2 * (thick // 2) + 3))) != numbers)
    pixels[edge] = table[numbers[edge]]
    return Image.fromarray(pixels.round().astype(np.uint8))


def with_legend(image: Image.Image, entries: Sequence[tuple[int, str]]) -> Image.Image:
    """Return the image with a line of names below it: a square of colour `number` and its name, wrapped as needed."""
    if not entries:
        return image
    size, gap, height = 15, 8, 26
    places, x, row = [], gap, 0
    for number, name in entries:
        width = min(image.width - 2 * gap, round(font_for(name, size).getlength(name)) + 30)
        if x > gap and x + width > image.width:
            x, row = gap, row + 1
        places.append((number, name, x, image.height + gap + row * height, width))
        x += width + gap
    sheet = Image.new("RGB", (image.width, image.height + (row + 1) * height + gap), PAPER)
    sheet.paste(image)
    pen = ImageDraw.Draw(sheet)
    for number, name, left, top, width in places:
        pen.rectangle((left, top + 2, left + 14, top + 16), fill=colour_of(number) if number else SOFT)
        write_line(pen, (left + 20, top), name, size, INK, width - 18)
    return sheet


def with_heat(image: Image.Image, values: Float[torch.Tensor, "_ _"]) -> Image.Image:
    """Return the grey image under a heat map of values from 0 to 1; where they are low, the image shows through."""
    shares = values.clamp(0, 1)
    colours = Image.fromarray(heat_colours(torch.cat([shares, torch.ones(1, shares.shape[1])]))[:-1].numpy())
    colours = colours.resize(image.size, Image.Resampling.BICUBIC)
    strength = Image.fromarray((255 * (0.35 + 0.4 * shares)).round().to(torch.uint8).numpy())
    grey = image.convert("L").convert("RGB")
    return Image.composite(colours, grey, strength.resize(image.size, Image.Resampling.BICUBIC))


def depth_colours(depth: Float[np.ndarray, "_ _"]) -> tuple[Image.Image, float, float]:
    """Return a map of depth as colours, light for near and dark for far, and the depths of both ends of the colours.

    The ends are the depths at 1 % and 99 % of the pixels; what is nearer or farther has the colours of the ends.
    """
    near, far = (float(end) for end in np.quantile(depth, (OUTLIERS, 1 - OUTLIERS)))
    shares = np.clip((far - depth) / max(far - near, 1e-9), 0, 1)
    with_one = torch.from_numpy(np.concatenate([shares, np.ones((1, shares.shape[1]))]))
    return Image.fromarray(heat_colours(with_one.float())[:-1].numpy()), near, far


def with_matches(first: Image.Image, second: Image.Image, matches: "Matches") -> Image.Image:
    """Return both images next to each other with a numbered line between the points of each pair."""
    gap, height = 12, max(first.height, second.height)
    sheet = Image.new("RGB", (first.width + gap + second.width, height), PAPER)
    sheet.paste(first, (0, 0))
    sheet.paste(second, (first.width + gap, 0))
    pen = ImageDraw.Draw(sheet, "RGBA")
    for place, (one, other) in enumerate(zip(matches.first.tolist(), matches.second.tolist(), strict=True)):
        colour = colour_of(place + 1)
        start = one[0] * first.width, one[1] * first.height
        end = first.width + gap + other[0] * second.width, other[1] * second.height
        pen.line((*start, *end), fill=(*colour, 150), width=2)
        for x, y in (start, end):
            pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=(*colour, 255), outline=(255, 255, 255, 255), width=1)
    return sheet


def palette_image(mask: UInt8[np.ndarray, "_ _"]) -> Image.Image:
    """Return a mask as an image of numbers with the palette of DAVIS and PASCAL VOC."""
    from percept.world.write.encode import palette_colour

    image = Image.fromarray(mask)
    image.putpalette(bytes(part for number in range(256) for part in palette_colour(number)))
    return image
