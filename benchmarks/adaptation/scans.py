"""Renderings that look like medical scanners and views from above, for test beds: from an RGB drawing or a name to pixels.

The drawings stay those of the labelled world, whose names an encoder knows; what changes is how they are recorded.
"""

import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

Rendering = Callable[[Image.Image, random.Random], Image.Image]


def _grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), dtype=np.float32) / 255


def _image(values: np.ndarray) -> Image.Image:
    pixels = np.clip(values * 255, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert("RGB")


def _rng(rng: random.Random) -> np.random.Generator:
    return np.random.default_rng(rng.getrandbits(32))


def _disc(size: tuple[int, int], radius: float) -> np.ndarray:
    y, x = np.mgrid[: size[1], : size[0]]
    return np.hypot(x - size[0] / 2, y - size[1] / 2) < radius * min(size) / 2


def x_ray(image: Image.Image, rng: random.Random) -> Image.Image:
    """Bright structures on black, soft edges, film grain."""
    values = 1 - _grey(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 1.4))))
    return _image(values ** rng.uniform(1.0, 1.8) + _rng(rng).normal(0, 0.06, values.shape))


def ultrasound(image: Image.Image, rng: random.Random) -> Image.Image:
    """Multiplicative speckle in a fan."""
    values = _grey(image.filter(ImageFilter.FIND_EDGES)) * 1.5 + 0.35 * _grey(image)
    speckle = _rng(rng).gamma(2.0, 0.5, values.shape)
    y, x = np.mgrid[: values.shape[0], : values.shape[1]]
    fan = np.abs(x - values.shape[1] / 2) < 0.18 * values.shape[1] + 0.45 * y
    return _image(values * speckle * fan)


def mri(image: Image.Image, rng: random.Random) -> Image.Image:
    """Only the low frequencies, which rings at edges, with a bias field."""
    values = _grey(image)
    spectrum = np.fft.fftshift(np.fft.fft2(values))
    kept = _disc(image.size, rng.uniform(0.28, 0.42))
    back = np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum * kept)))
    bias = np.linspace(rng.uniform(0.4, 0.8), rng.uniform(0.9, 1.3), values.shape[1])
    return _image(back * bias[None] + _rng(rng).normal(0, 0.03, values.shape))


def ct(image: Image.Image, rng: random.Random) -> Image.Image:
    """A narrow window of grey in a round field, with streaks."""
    values = np.clip((_grey(image) - rng.uniform(0.2, 0.35)) / 0.4, 0, 1)
    angle, (height, width) = rng.uniform(0, np.pi), values.shape
    y, x = np.mgrid[:height, :width]
    streaks = 0.12 * np.sin(0.9 * (x * np.cos(angle) + y * np.sin(angle)))
    return _image((values + streaks) * _disc(image.size, 0.97) + _rng(rng).normal(0, 0.05, values.shape))


def histology(image: Image.Image, rng: random.Random) -> Image.Image:
    """Pink and violet stain with cells in front."""
    stained = ImageOps.colorize(image.convert("L"), (88, 40, 120), (250, 226, 238), mid=(208, 120, 172))
    draw = ImageDraw.Draw(stained)
    for _ in range(60):
        x, y, r = rng.uniform(0, image.width), rng.uniform(0, image.height), rng.uniform(0.8, 2.2)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(96, 44, 132))
    return stained.filter(ImageFilter.GaussianBlur(0.5))


def fundus(image: Image.Image, rng: random.Random) -> Image.Image:
    """An orange disc with vessels on black."""
    base = ImageOps.colorize(image.convert("L"), (90, 20, 6), (255, 190, 110), mid=(206, 92, 40))
    draw = ImageDraw.Draw(base)
    for _ in range(5):
        x, y = image.width * 0.5, image.height * 0.5
        for _ in range(9):
            nx, ny = x + rng.uniform(-9, 9), y + rng.uniform(-9, 9)
            draw.line((x, y, nx, ny), fill=(128, 24, 14))
            x, y = nx, ny
    return Image.fromarray(np.asarray(base) * _disc(image.size, 0.98)[..., None].astype(np.uint8))


def endoscopy(image: Image.Image, rng: random.Random) -> Image.Image:
    """A warm tint, highlights and dark corners."""
    red = ImageEnhance.Color(image).enhance(0.4)
    values = np.asarray(red, dtype=np.float32) / 255 * np.array([1.0, 0.62, 0.52])
    y, x = np.mgrid[: image.height, : image.width]
    far = np.hypot(x - image.width * rng.uniform(0.4, 0.6), y - image.height * rng.uniform(0.4, 0.6)) / image.width
    shine = np.exp(-((far - 0.12) ** 2) / 0.003)[..., None] * 0.35
    return _image_rgb(values * np.clip(1.25 - 1.3 * far, 0, 1)[..., None] + shine)


def dermoscopy(image: Image.Image, rng: random.Random) -> Image.Image:
    """Skin colours with hairs."""
    skin = ImageOps.colorize(image.convert("L"), (70, 38, 24), (240, 206, 180), mid=(190, 132, 100))
    draw = ImageDraw.Draw(skin)
    for _ in range(8):
        start = rng.uniform(0, image.width), rng.uniform(0, image.height)
        draw.line((*start, start[0] + rng.uniform(-50, 50), start[1] + rng.uniform(-50, 50)), fill=(46, 30, 24))
    return skin


def microscopy(image: Image.Image, rng: random.Random) -> Image.Image:
    """Green fluorescence with shot noise."""
    values = _grey(image.filter(ImageFilter.GaussianBlur(0.8))) ** 1.6
    noisy = _rng(rng).poisson(values * rng.uniform(6, 14)) / 10
    return _image_rgb(np.stack([0.1 * noisy, noisy, 0.2 * noisy], axis=-1))


def oct_scan(image: Image.Image, rng: random.Random) -> Image.Image:
    """Layers along rows with speckle."""
    values = _grey(image.filter(ImageFilter.GaussianBlur(0.7)))
    rows = 0.5 + 0.5 * np.sin(np.arange(values.shape[0]) / rng.uniform(2.0, 3.5))[:, None]
    return _image(values * (0.45 + 0.55 * rows) * _rng(rng).gamma(3.0, 0.34, values.shape))


def _image_rgb(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(values * 255, 0, 255).astype(np.uint8))


SCANS: dict[str, Rendering] = {
    "x-ray": x_ray, "ultrasound": ultrasound, "mri": mri, "ct": ct, "histology": histology, "fundus": fundus, "endoscopy": endoscopy,
    "dermoscopy": dermoscopy, "microscopy": microscopy, "oct": oct_scan,
}  # fmt: skip
"""Rendering by name."""


# from above

GROUND: dict[str, tuple[int, int, int]] = {
    "forest": (34, 84, 40), "desert": (214, 184, 130), "lake": (88, 130, 74), "sea": (28, 84, 150), "snow": (240, 244, 248),
    "field": (150, 168, 74), "city": (150, 148, 146), "river": (96, 136, 80), "street": (140, 150, 120), "beach": (226, 206, 156),
}  # fmt: skip
"""Name of a place to the main colour of its ground."""


def from_above(place: str, size: int, rng: random.Random) -> Image.Image:
    """Draw a place as a satellite sees it: no horizon, any rotation, haze."""
    side = 2 * size
    tone = tuple(min(255, max(0, value + rng.randint(-18, 18))) for value in GROUND[place])
    image = Image.new("RGB", (side, side), tone)
    draw = ImageDraw.Draw(image)
    DRAWN[place](draw, side, rng)
    image = image.rotate(rng.uniform(0, 360), Image.Resampling.BILINEAR)
    edge = (side - size) // 2
    image = image.crop((edge, edge, edge + size, edge + size)).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
    noise = _rng(rng).normal(0, 7, (size, size, 1))
    haze = Image.new("RGB", image.size, (210, 216, 224))
    return Image.blend(
        Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)), haze, rng.uniform(0, 0.3)
    )


def _blobs(
    draw: ImageDraw.ImageDraw,
    side: int,
    rng: random.Random,
    count: int,
    radius: tuple[float, float],
    tone: tuple[int, int, int],
) -> None:
    for _ in range(count):
        x, y, r = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(*radius)
        shade = rng.uniform(0.7, 1.25)
        draw.ellipse((x - r, y - r, x + r, y + 0.8 * r), fill=tuple(min(255, int(value * shade)) for value in tone))


def _forest(draw: ImageDraw.ImageDraw, side: int, rng: random.Random) -> None:
    _blobs(draw, side, rng, 420, (3, 8), (40, 100, 46))


def _desert(draw: ImageDraw.ImageDraw, side: int, rng: random.Random) -> None:
    for y in range(0, side, rng.randint(9, 15)):
        draw.line([(x, y + 5 * np.sin(x / 17 + y)) for x in range(0, side, 6)], fill=(190, 156, 100), width=2)


def _water(draw: ImageDraw.ImageDraw, side: int, rng: random.Random) -> None:
    x, y, r = side * rng.uniform(0.42, 0.58), side * rng.uniform(0.42, 0.58), side * rng.uniform(0.14, 0.22)
    points = [
        (x + r * rng.uniform(0.75, 1.2) * np.cos(angle), y + r * rng.uniform(0.75, 1.2) * np.sin(angle))
        for angle in np.linspace(0, 2 * np.pi, 18)
    ]
    draw.polygon(points, fill=(46, 104, 160))


def _sea(draw: ImageDraw.ImageDraw, side: int, rng: random.Random) -> None:
    for _ in range(110):
        x, y = rng.uniform(0, side), rng.uniform(0, side)
        draw.line((x, y, x + rng.uniform(4, 14), y), fill=(70, 128, 186))


def _snow(draw: ImageDraw.ImageDraw, side: int, rng: random.Random) -> None:
    _blobs(draw, side, rng, 14, (4, 16), (214, 222, 232))


def _field(draw: ImageDraw.ImageDraw, side: int, rng: random.Random) -> None:
    step = rng.randint(26, 40)
    for x in range(0, side, step):
        for y in range(0, side, step):
            tone = rng.choice(((168, 180, 70), (120, 150, 60), (204, 184, 96), (142, 112, 66)))
            draw.rectangle((x, y, x + step - 2, y + step - 2), fill=tone)


def _city(draw: ImageDraw.ImageDraw, side: int, rng: random.Random) -> None:
    step = rng.randint(16, 24)
    for x in range(0, side, step):
        for y in range(0, side, step):
            tone = rng.choice(((178, 80, 62), (206, 204, 200), (110, 110, 116), (226, 190, 150)))
            draw.rectangle((x + 3, y + 3, x + step - 3, y + step - 3), fill=tone)


def _river(draw: ImageDraw.ImageDraw, side: int, rng: random.Random) -> None:
    wave, phase = rng.uniform(10, 26), rng.uniform(0, 6)
    draw.line(
        [(x, side / 2 + wave * np.sin(x / 24 + phase)) for x in range(0, side, 3)],
        fill=(50, 108, 164),
        width=rng.randint(9, 16),
    )


def _street(draw: ImageDraw.ImageDraw, side: int, rng: random.Random) -> None:
    middle, wide = side / 2 + rng.uniform(-8, 8), rng.uniform(8, 13)
    draw.rectangle((0, middle - wide, side, middle + wide), fill=(84, 84, 90))
    for x in range(0, side, 14):
        draw.line((x, middle, x + 7, middle), fill=(236, 236, 230), width=2)


def _beach(draw: ImageDraw.ImageDraw, side: int, rng: random.Random) -> None:
    draw.rectangle((0, side * rng.uniform(0.48, 0.58), side, side), fill=(44, 118, 172))
    draw.rectangle((0, 0, side, side * rng.uniform(0.28, 0.38)), fill=(88, 132, 70))


DRAWN: dict[str, Callable[[ImageDraw.ImageDraw, int, random.Random], None]] = {
    "forest": _forest, "desert": _desert, "lake": _water, "sea": _sea, "snow": _snow, "field": _field, "city": _city, "river": _river,
    "street": _street, "beach": _beach,
}  # fmt: skip
