"""Styles of rendered images: tables of Pillow operations on pixels, by variant.

`light` changes the background before things are drawn, so that their colours do not change; `develop` changes the result.
"""

import io
import random
from collections.abc import Callable
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from percept.world.brush import noise
from percept.world.variants import SEEN, STYLES, UNSEEN, shows_colour

__all__ = ["SEEN", "STYLES", "UNSEEN", "develop", "light", "shows_colour"]

Filter = Callable[[Image.Image, random.Random], Image.Image]


def light(background: Image.Image, variant: str, rng: random.Random) -> Image.Image:
    """Return the background with the lighting or colours of the variant; unchanged for variants without any."""
    return LIGHTS[variant](background, rng) if variant in LIGHTS else background


def develop(canvas: Image.Image, variant: str, rng: random.Random) -> Image.Image:
    """Reduce the supersampled canvas to the final image, in the style of the variant."""
    if variant in SKETCHES:
        return SKETCHES[variant](canvas, rng)
    image = canvas.reduce(2)
    return FILTERS[variant](image, rng) if variant in FILTERS else image


def _unit(image: Image.Image) -> float:
    """Return the shorter side divided by 96 pixels; filters scale with it."""
    return min(image.size) / 96


# light: unusual


def _tinted(image: Image.Image, rng: random.Random) -> Image.Image:
    tint = rng.choice(((255, 120, 160), (120, 255, 170), (150, 130, 255), (255, 180, 90), (110, 220, 255)))
    return ImageChops.multiply(image, Image.new("RGB", image.size, tint))


def _spotlight(image: Image.Image, rng: random.Random) -> Image.Image:
    cone = ImageOps.invert(Image.radial_gradient("L")).resize(image.size)
    dark = Image.new("RGB", image.size, (20, 18, 30))
    return Image.composite(image, dark, cone.point([min(255, level * 2) for level in range(256)]))


def _psychedelic(image: Image.Image, rng: random.Random) -> Image.Image:
    hue, _, value = image.convert("HSV").split()
    wave = Image.radial_gradient("L").resize(image.size)
    turns, shift = rng.randint(2, 4), rng.randrange(256)
    hue = ImageChops.add_modulo(hue, wave.point([(level * turns + shift) % 256 for level in range(256)]))
    return Image.merge("HSV", (hue, Image.new("L", image.size, 105), value)).convert("RGB")


# rendition


def _poster(image: Image.Image, rng: random.Random) -> Image.Image:
    return _few_colours(image.filter(ImageFilter.MedianFilter(3)), rng.randint(20, 40))


def _few_colours(image: Image.Image, count: int) -> Image.Image:
    """Quantise to `count` colours. The octree, unlike the median cut, keeps small bright areas."""
    return image.quantize(count, Image.Quantize.FASTOCTREE).convert("RGB")


def _mosaic(image: Image.Image, rng: random.Random) -> Image.Image:
    side = max(3, round(rng.choice((3, 4)) * _unit(image)))
    small = image.resize((max(1, image.width // side), max(1, image.height // side)), Image.Resampling.BOX)
    large = small.resize(image.size, Image.Resampling.NEAREST)
    return ImageChops.multiply(large, _grout(image.size, side))


@lru_cache(maxsize=16)
def _grout(size: tuple[int, int], side: int) -> Image.Image:
    """Return a white sheet with a grey grid."""
    sheet = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for x in range(0, size[0], side):
        draw.line((x, 0, x, size[1]), fill=(218, 216, 212))
    for y in range(0, size[1], side):
        draw.line((0, y, size[0], y), fill=(218, 216, 212))
    return sheet


def _oil(image: Image.Image, rng: random.Random) -> Image.Image:
    dabs = _few_colours(image.filter(ImageFilter.MedianFilter(5)), 64)
    relief = noise(rng, image.width // 2, image.height // 4, low=60, high=196).resize(
        image.size, Image.Resampling.BILINEAR
    )
    return ImageChops.soft_light(dabs, relief.filter(ImageFilter.EMBOSS).convert("RGB"))


def _emboss(image: Image.Image, rng: random.Random) -> Image.Image:
    relief = image.convert("L").filter(ImageFilter.EMBOSS)
    return Image.blend(image, relief.convert("RGB"), rng.uniform(0.4, 0.55))


def _watercolour(image: Image.Image, rng: random.Random) -> Image.Image:
    wash = image.filter(ImageFilter.MedianFilter(5)).filter(ImageFilter.GaussianBlur(0.6 * _unit(image)))
    blots = noise(rng, image.width // 9, image.height // 9, low=0, high=110).resize(
        image.size, Image.Resampling.BICUBIC
    )
    wash.paste((255, 253, 248), (0, 0), blots)
    return wash


def _pixel_art(image: Image.Image, rng: random.Random) -> Image.Image:
    side = max(3, round(3 * _unit(image)))
    small = image.resize((image.width // side, image.height // side), Image.Resampling.BOX)
    return _few_colours(small, 48).resize(image.size, Image.Resampling.NEAREST)


def _halftone(image: Image.Image, rng: random.Random) -> Image.Image:
    return ImageChops.overlay(image, _dots(image.size, max(3, round(4 * _unit(image)))))


@lru_cache(maxsize=16)
def _dots(size: tuple[int, int], side: int) -> Image.Image:
    """Return a screen of dots, dark on light."""
    sheet = Image.new("RGB", size, (206, 206, 206))
    draw = ImageDraw.Draw(sheet)
    for row in range(size[1] // side + 1):
        for column in range(size[0] // side + 1):
            x, y = (column + 0.5 * (row % 2)) * side, row * side
            draw.ellipse((x, y, x + 0.6 * side, y + 0.6 * side), fill=(54, 54, 54))
    return sheet


def _comic(image: Image.Image, rng: random.Random) -> Image.Image:
    smooth = image.filter(ImageFilter.MedianFilter(3))
    edges = smooth.convert("L").filter(ImageFilter.FIND_EDGES).point([0] * 90 + [230] * 166)
    flat = ImageEnhance.Color(_few_colours(smooth, 32)).enhance(1.35)
    flat.paste((16, 14, 20), (0, 0), _without_frame(edges))
    return flat


# sketch: on the supersampled canvas


def _lines(canvas: Image.Image, gain: float) -> Image.Image:
    """Return the contours as a mask of the final size."""
    edges = canvas.convert("L").filter(ImageFilter.FIND_EDGES)
    return _without_frame(edges).reduce(2).point([min(255, round(max(0, level - 40) * gain)) for level in range(256)])


def _without_frame(edges: Image.Image) -> Image.Image:
    """Set the border pixels to black, where the filter copies its input."""
    ImageDraw.Draw(edges).rectangle((0, 0, edges.width - 1, edges.height - 1), outline=0, width=2)
    return edges


def _on_sheet(mask: Image.Image, ink: tuple[int, int, int], sheet: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", mask.size, sheet)
    image.paste(ink, (0, 0), mask)
    return image


def _pencil(canvas: Image.Image, rng: random.Random) -> Image.Image:
    mask = _lines(canvas, 3.0)
    mask = ImageChops.multiply(mask, noise(rng, *mask.size, low=150, high=255))
    return _on_sheet(mask, (70, 70, 78), (246, 244, 238))


def _ink(canvas: Image.Image, rng: random.Random) -> Image.Image:
    return _on_sheet(_lines(canvas, 6.0), (16, 16, 36), (252, 252, 250))


def _crayon(canvas: Image.Image, rng: random.Random) -> Image.Image:
    wash = Image.blend(
        canvas.reduce(2), Image.new("RGB", (canvas.width // 2, canvas.height // 2), (255, 253, 248)), 0.3
    )
    wash.paste((255, 253, 248), (0, 0), noise(rng, *wash.size, low=0, high=150))
    wash.paste((60, 56, 64), (0, 0), _lines(canvas, 3.0))
    return wash


def _chalk(canvas: Image.Image, rng: random.Random) -> Image.Image:
    mask = _lines(canvas, 4.0)
    return _on_sheet(
        ImageChops.multiply(mask, noise(rng, *mask.size, low=110, high=255)), (240, 240, 232), (44, 66, 56)
    )


def _blueprint(canvas: Image.Image, rng: random.Random) -> Image.Image:
    return _on_sheet(_lines(canvas, 5.0), (232, 240, 252), (34, 72, 148))


# corruption


def _blur(image: Image.Image, rng: random.Random) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.9, 1.9) * _unit(image)))


def _noise(image: Image.Image, rng: random.Random) -> Image.Image:
    high = rng.randint(70, 150)
    bands = [noise(rng, *image.size, low=0, high=high) for _ in range(3)]
    return ImageChops.add(image, Image.merge("RGB", bands), offset=-high // 2)


def _jpeg(image: Image.Image, rng: random.Random) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=rng.randint(6, 18))
    return Image.open(buffer).convert("RGB")


def _dim(image: Image.Image, rng: random.Random) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(rng.uniform(0.3, 0.5))


def _bright(image: Image.Image, rng: random.Random) -> Image.Image:
    return Image.blend(
        ImageEnhance.Brightness(image).enhance(1.25),
        Image.new("RGB", image.size, (255, 255, 255)),
        rng.uniform(0.15, 0.35),
    )


def _fog(image: Image.Image, rng: random.Random) -> Image.Image:
    banks = noise(rng, 5, 5, low=90, high=190).resize(image.size, Image.Resampling.BICUBIC)
    image.paste((226, 230, 234), (0, 0), banks)
    return image


def _pixelate(image: Image.Image, rng: random.Random) -> Image.Image:
    side = max(2, round(rng.choice((3, 4)) * _unit(image)))
    return image.resize((image.width // side, image.height // side), Image.Resampling.BOX).resize(
        image.size, Image.Resampling.NEAREST
    )


def _motion(image: Image.Image, rng: random.Random) -> Image.Image:
    steps = round(rng.randint(4, 7) * _unit(image))
    dx, dy = rng.choice(((1, 0), (0, 1), (1, 1), (1, -1)))
    result = image
    for step in range(1, steps):
        result = Image.blend(result, ImageChops.offset(image, step * dx, step * dy), 1 / (step + 1))
    return result


def _salt_and_pepper(image: Image.Image, rng: random.Random) -> Image.Image:
    share = rng.randint(8, 18)
    grains = noise(rng, *image.size, low=0, high=255)
    image.paste((0, 0, 0), (0, 0), grains.point([255] * share + [0] * (256 - share)))
    image.paste((255, 255, 255), (0, 0), grains.point([0] * (256 - share) + [255] * share))
    return image


LIGHTS: dict[str, Filter] = {"tinted": _tinted, "spotlight": _spotlight, "psychedelic": _psychedelic}
SKETCHES: dict[str, Filter] = {
    "pencil": _pencil,
    "ink": _ink,
    "crayon": _crayon,
    "chalk": _chalk,
    "blueprint": _blueprint,
}
FILTERS: dict[str, Filter] = {
    "poster": _poster,
    "mosaic": _mosaic,
    "oil": _oil,
    "emboss": _emboss,
    "watercolour": _watercolour,
    "pixel art": _pixel_art,
    "halftone": _halftone,
    "comic": _comic,
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "dim": _dim,
    "bright": _bright,
    "fog": _fog,
    "pixelate": _pixelate,
    "motion": _motion,
    "salt and pepper": _salt_and_pepper,
}
