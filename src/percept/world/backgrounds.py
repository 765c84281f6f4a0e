"""Backgrounds: ten scenes with sky and ground, and six flat textures, each with random variations.

A background is drawn at the final size and enlarged to the supersampled canvas, so it is softer than the things on it.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

from percept.world import textures
from percept.world.brush import gradient, grain, pastel, vary
from percept.world.palette import Rgb, blend

Draw = Callable[[Image.Image, random.Random, int], None]
"""Function of an image, random numbers and the horizon in pixels (0 for a texture) that draws in-place."""


@dataclass(frozen=True, kw_only=True)
class Background:
    """A kind of background."""

    name: str
    phrases: tuple[str, ...]
    """Phrases for captions."""
    draw: Draw
    horizon: tuple[float, float] = (0.0, 0.0)
    """Range of y, as a share of the height, at which the ground begins; zeros for a texture, on which things float."""
    habitats: tuple[str, ...] = ("ground", "air", "water", "table", "wall")
    """Habitats of the things that are usual here."""

    @property
    def flat(self) -> bool:
        """True for a texture without ground."""
        return self.horizon[1] == 0.0


def _split(image: Image.Image, horizon: int, sky: tuple[Rgb, Rgb], ground: tuple[Rgb, Rgb]) -> ImageDraw.ImageDraw:
    """Fill the areas above and below the horizon with vertical gradients."""
    image.paste(gradient(sky[0], sky[1], image.width, horizon), (0, 0))
    image.paste(gradient(ground[0], ground[1], image.width, image.height - horizon), (0, horizon))
    return ImageDraw.Draw(image)


def _clouds(draw: ImageDraw.ImageDraw, rng: random.Random, width: int, horizon: int, colour: Rgb) -> None:
    for _ in range(rng.randint(0, 3)):
        x, y, r = rng.uniform(0, width), rng.uniform(0.05, 0.6) * horizon, rng.uniform(0.08, 0.16) * horizon
        for shift in (-1.2, 0.0, 1.3):
            draw.ellipse((x + shift * r - 1.5 * r, y - r, x + shift * r + 1.5 * r, y + 0.6 * r), fill=colour)


def _strokes(
    draw: ImageDraw.ImageDraw,
    rng: random.Random,
    box: tuple[int, int, int, int],
    colour: Rgb,
    count: int,
    dx: float,
    dy: float,
) -> None:
    """Scatter short strokes in a box, longer ones towards the bottom."""
    left, top, right, bottom = box
    for _ in range(count):
        near = rng.random()
        x, y = rng.uniform(left, right), top + near * (bottom - top)
        draw.line((x, y, x + dx * (0.4 + near), y + dy * (0.4 + near)), fill=colour)


def _meadow(image: Image.Image, rng: random.Random, horizon: int) -> None:
    green = vary((168, 206, 128), rng, 12)
    draw = _split(image, horizon, ((150, 200, 240), (214, 234, 246)), (blend(green, (255, 255, 255), 0.25), green))
    _clouds(draw, rng, image.width, horizon, (240, 246, 250))
    if rng.random() < 0.6:
        x, r = rng.uniform(0, image.width), rng.uniform(0.4, 0.8) * image.width
        draw.ellipse((x - r, horizon - 0.2 * r, x + r, horizon + 0.2 * r), fill=blend(green, (130, 170, 150), 0.4))
        image.paste(gradient(green, green, image.width, image.height - horizon), (0, horizon))
    _strokes(
        draw,
        rng,
        (0, horizon, image.width, image.height),
        blend(green, (70, 130, 50), 0.35),
        36,
        0.5,
        -0.03 * image.height,
    )


def _beach(image: Image.Image, rng: random.Random, horizon: int) -> None:
    sand = vary((238, 216, 168), rng, 10)
    draw = _split(image, horizon, ((140, 200, 240), (222, 238, 248)), (blend(sand, (255, 255, 255), 0.2), sand))
    sea = int(horizon * rng.uniform(0.55, 0.8))
    draw.rectangle((0, sea, image.width, horizon), fill=vary((96, 176, 204), rng, 12))
    draw.line((0, horizon, image.width, horizon), fill=(246, 248, 246), width=max(1, image.height // 60))
    _strokes(draw, rng, (0, horizon, image.width, image.height), blend(sand, (190, 160, 110), 0.5), 24, 1.5, 0.3)


def _sea(image: Image.Image, rng: random.Random, horizon: int) -> None:
    water = vary((104, 180, 210), rng, 14)
    draw = _split(image, horizon, ((170, 210, 240), (232, 240, 246)), (blend(water, (255, 255, 255), 0.25), water))
    _clouds(draw, rng, image.width, horizon, (246, 248, 250))
    for _ in range(18):
        near = rng.random()
        x, y = rng.uniform(-5, image.width), horizon + near * (image.height - horizon)
        r = (0.03 + 0.07 * near) * image.height
        draw.arc((x, y - 0.5 * r, x + 2 * r, y + 0.5 * r), 20, 160, fill=blend(water, (255, 255, 255), 0.45))


def _street(image: Image.Image, rng: random.Random, horizon: int) -> None:
    road = vary((168, 168, 174), rng, 8)
    draw = _split(image, horizon, ((200, 222, 240), (230, 236, 242)), (blend(road, (255, 255, 255), 0.2), road))
    x = -rng.uniform(0, 10)
    while x < image.width:
        wide, top = rng.uniform(0.12, 0.26) * image.height, rng.uniform(0.1, 0.6) * horizon
        wall = blend(pastel(rng), (205, 205, 205), 0.4)
        draw.rectangle((x, top, x + wide, horizon), fill=wall)
        for row in range(int(top) + 4, horizon - 4, max(6, image.height // 10)):
            draw.rectangle((x + 0.2 * wide, row, x + 0.38 * wide, row + 3), fill=blend(wall, (90, 100, 120), 0.3))
            draw.rectangle((x + 0.62 * wide, row, x + 0.8 * wide, row + 3), fill=blend(wall, (90, 100, 120), 0.3))
        x += wide
    kerb = horizon + (image.height - horizon) // 4
    draw.rectangle((0, horizon, image.width, kerb), fill=vary((206, 202, 196), rng, 6))
    middle = (kerb + image.height) // 2
    for dash in range(-rng.randint(0, 12), image.width, max(12, image.height // 5)):
        draw.line(
            (dash, middle, dash + image.height // 10, middle), fill=(224, 224, 220), width=max(1, image.height // 48)
        )


def _room(image: Image.Image, rng: random.Random, horizon: int) -> None:
    wall, floor = pastel(rng), vary(rng.choice(((206, 176, 138), (200, 196, 190), (190, 160, 150))), rng, 12)
    draw = _split(image, horizon, (blend(wall, (255, 255, 255), 0.2), wall), (blend(floor, (110, 90, 70), 0.15), floor))
    if rng.random() < 0.5:
        for x in range(rng.randint(0, 8), image.width, max(6, image.width // rng.randint(6, 12))):
            draw.line((x, 0, x, horizon), fill=blend(wall, (255, 255, 255), 0.35))
    if rng.random() < 0.5:
        vanish = rng.uniform(0.2, 0.8) * image.width
        for step in range(-4, 13):
            foot = step * image.width / 8
            draw.line(
                (vanish + 0.5 * (foot - vanish), horizon, foot, image.height), fill=blend(floor, (90, 70, 50), 0.22)
            )
    draw.line((0, horizon, image.width, horizon), fill=(244, 242, 238), width=max(2, image.height // 36))


def _desk(image: Image.Image, rng: random.Random, horizon: int) -> None:
    wall, top = pastel(rng), vary(rng.choice(((214, 178, 130), (196, 150, 104), (232, 226, 214))), rng, 10)
    draw = _split(image, horizon, (wall, blend(wall, (255, 255, 255), 0.3)), (top, blend(top, (255, 255, 255), 0.25)))
    for _ in range(rng.randint(4, 8)):
        y = horizon + rng.random() ** 1.5 * (image.height - horizon)
        draw.line((0, y, image.width, y + rng.uniform(-2, 2)), fill=blend(top, (120, 80, 40), 0.25))
    draw.line((0, horizon, image.width, horizon), fill=blend(top, (90, 60, 30), 0.45), width=max(1, image.height // 48))


def _desert(image: Image.Image, rng: random.Random, horizon: int) -> None:
    sand = vary((232, 196, 140), rng, 10)
    draw = _split(image, horizon, ((196, 218, 236), (248, 232, 206)), (sand, blend(sand, (255, 244, 220), 0.4)))
    for step in range(rng.randint(2, 4)):
        x, r = rng.uniform(0, image.width), rng.uniform(0.4, 0.9) * image.width
        y = horizon + step * 0.22 * (image.height - horizon)
        draw.ellipse((x - r, y - 0.1 * r, x + r, y + 0.5 * r), fill=blend(sand, (250, 226, 180), 0.2 + 0.18 * step))


def _snow(image: Image.Image, rng: random.Random, horizon: int) -> None:
    draw = _split(image, horizon, ((176, 196, 222), (216, 226, 238)), ((226, 234, 244), (248, 250, 254)))
    for _ in range(rng.randint(1, 3)):
        x, r = rng.uniform(0, image.width), rng.uniform(0.2, 0.5) * image.width
        peak = horizon - rng.uniform(0.3, 0.7) * horizon
        draw.polygon(((x - r, horizon), (x, peak), (x + r, horizon)), fill=vary((196, 208, 226), rng, 8))
    draw.rectangle((0, horizon, image.width, image.height), fill=vary((236, 242, 250), rng, 4))
    for _ in range(rng.choice((0, 30))):
        x, y, r = rng.uniform(0, image.width), rng.uniform(0, image.height), image.height / 120
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))


def _night(image: Image.Image, rng: random.Random, horizon: int) -> None:
    sky = vary((34, 42, 86), rng, 12)
    draw = _split(
        image, horizon, (blend(sky, (8, 10, 36), 0.5), blend(sky, (90, 90, 150), 0.35)), ((52, 60, 82), (66, 74, 96))
    )
    for _ in range(rng.randint(15, 40)):
        x, y, r = rng.uniform(0, image.width), rng.uniform(0, horizon), image.height * rng.choice((0.004, 0.006, 0.009))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(236, 236, 220))
    x, r = rng.uniform(0, image.width), rng.uniform(0.4, 0.9) * image.width
    draw.ellipse((x - r, horizon - 0.12 * r, x + r, horizon + 0.4 * r), fill=(50, 58, 84))
    draw.rectangle((0, horizon, image.width, image.height), fill=vary((62, 72, 92), rng, 6))


def _forest(image: Image.Image, rng: random.Random, horizon: int) -> None:
    leaf, floor = vary((112, 156, 112), rng, 12), vary((176, 186, 130), rng, 10)
    draw = _split(image, horizon, ((206, 226, 236), (196, 216, 190)), (blend(floor, leaf, 0.2), floor))
    for row, tone in ((0.45, 0.45), (0.75, 0.2)):
        for x in range(-10, image.width + 10, max(6, image.height // 9)):
            r = rng.uniform(0.1, 0.17) * image.height
            y = row * horizon + rng.uniform(-0.05, 0.05) * horizon
            fill = blend(vary(leaf, rng, 6), (214, 226, 214), tone)
            draw.ellipse((x - r, y - r, x + r, horizon + 0.1 * r), fill=fill)
    image.paste(gradient(blend(floor, leaf, 0.3), floor, image.width, image.height - horizon), (0, horizon))
    _strokes(draw, rng, (0, horizon, image.width, image.height), blend(floor, (120, 110, 60), 0.4), 24, 2.0, -0.8)


_GROUND = ("ground", "air")
_KINDS: tuple[Background, ...] = (
    Background(
        name="meadow",
        phrases=("in a meadow", "on the grass", "on a lawn", "in a field"),
        draw=_meadow,
        horizon=(0.32, 0.5),
        habitats=_GROUND,
    ),
    Background(
        name="beach",
        phrases=("on a beach", "on the sand by the sea", "at the seaside"),
        draw=_beach,
        horizon=(0.36, 0.5),
        habitats=_GROUND,
    ),
    Background(
        name="sea",
        phrases=("at sea", "on the water", "in the sea"),
        draw=_sea,
        horizon=(0.28, 0.42),
        habitats=("water", "air"),
    ),
    Background(
        name="street",
        phrases=("in a street", "on a road", "in a town"),
        draw=_street,
        horizon=(0.4, 0.52),
        habitats=_GROUND,
    ),
    Background(
        name="room",
        phrases=("in a room", "indoors", "on the floor of a room"),
        draw=_room,
        horizon=(0.5, 0.66),
        habitats=("ground", "table", "wall"),
    ),
    Background(
        name="desk", phrases=("on a desk", "on a counter"), draw=_desk, horizon=(0.3, 0.48), habitats=("table",)
    ),
    Background(
        name="desert", phrases=("in a desert", "in the dunes"), draw=_desert, horizon=(0.34, 0.5), habitats=_GROUND
    ),
    Background(
        name="snow",
        phrases=("in the snow", "in a snowy landscape", "in winter"),
        draw=_snow,
        horizon=(0.36, 0.5),
        habitats=_GROUND,
    ),
    Background(
        name="night",
        phrases=("at night", "under a night sky", "under the stars"),
        draw=_night,
        horizon=(0.55, 0.7),
        habitats=_GROUND,
    ),
    Background(
        name="forest",
        phrases=("at the edge of a forest", "near a forest", "in a clearing"),
        draw=_forest,
        horizon=(0.42, 0.55),
        habitats=_GROUND,
    ),
    Background(name="wood", phrases=("on wooden planks", "on wood", "on a wooden background"), draw=textures.wood),
    Background(
        name="bricks", phrases=("against a brick wall", "in front of bricks", "on a brick wall"), draw=textures.bricks
    ),
    Background(name="tiles", phrases=("on tiles", "on a tiled wall", "against tiles"), draw=textures.tiles),
    Background(name="paper", phrases=("on paper", "on a sheet of paper"), draw=textures.paper),
    Background(name="gradient", phrases=("on a smooth background", "on a plain background"), draw=textures.smooth),
    Background(name="speckle", phrases=("on a speckled background", "on confetti"), draw=textures.speckle),
)
BACKGROUNDS: dict[str, Background] = {background.name: background for background in _KINDS}


def draw_background(name: str, seed: int, *, width: int, height: int, horizon: float) -> Image.Image:
    """Return a background of 2 `width` × 2 `height` pixels; `horizon` is a share of the height."""
    rng = random.Random(seed)
    image = Image.new("RGB", (width, height))
    BACKGROUNDS[name].draw(image, rng, round(horizon * height))
    grain(image, rng)
    return image.resize((2 * width, 2 * height), Image.Resampling.BILINEAR)
