"""Render a scene to pixels and ground truth: background, things from far to near with shadows, words, then the style."""

import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageFilter

from percept.core.errors import PerceptError
from percept.world.backgrounds import BACKGROUNDS, draw_background
from percept.world.elements import Scene
from percept.world.lettering import print_word
from percept.world.palette import COLOURS, jitter, lightness
from percept.world.sprite import Sprite, draw_sprite
from percept.world.styles import develop, light

HALO_DISTANCE = 70
"""A thing whose colour differs less than this from its background gets a halo, so that it stays visible."""


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """A rendered scene with its ground truth. Boxes are xyxy in [0, 1] of width and height."""

    image: UInt8[np.ndarray, "y x 3"]
    scene: Scene
    boxes: Float[np.ndarray, "k 4"]
    """Box of the visible part of each thing, in the order of `scene.things`; zeros if it is not visible."""
    visible: Float[np.ndarray, " k"]
    """Share of each thing that is neither hidden nor outside the image."""
    word_boxes: Float[np.ndarray, "m 4"]
    """Box of the ink of each word."""
    masks: Bool[np.ndarray, "k y x"] | None = None
    """Visible pixels of each thing; masks do not overlap. None if rendered without truth."""
    depth: Float[np.ndarray, "y x"] | None = None
    """From 0 nearest (printed words) to 1 farthest (sky, walls, textures). None if rendered without truth."""


def render(scene: Scene, *, size: int = 96, truth: bool = True) -> Rendering:
    """Render a scene, supersampled twice. The same scene and size give the same bytes.

    Args:
        scene: the scene.
        size: shorter side in pixels, from 32 to 2048.
        truth: False omits masks, depth, boxes and visible shares, which takes less time.

    Raises:
        PerceptError: size out of range.
    """
    if not 32 <= size <= 2048:
        raise PerceptError(f"size must be from 32 to 2048 pixels, got {size}.")
    width, height = round(scene.width * size), round(scene.height * size)
    canvas = draw_background(
        scene.background, scene.background_seed, width=width, height=height, horizon=scene.horizon / scene.height
    )
    rng = random.Random(scene.background_seed + 1)
    canvas = light(canvas, scene.variant, rng)
    ids = Image.new("L", canvas.size) if truth else None
    areas = [0] * len(scene.things)
    for index in sorted(range(len(scene.things)), key=lambda index: -scene.things[index].depth):
        areas[index] = _place(canvas, ids, index + 1, scene, 2.0 * size)
    word_boxes = []
    for word in scene.words:
        ink, covered = print_word(canvas, word, 2.0 * size)
        word_boxes.append(ink)
        if ids is not None:
            ids.paste(255, covered)
    image = np.array(develop(canvas, scene.variant, rng))
    scale = np.array([canvas.width, canvas.height] * 2, dtype=np.float32)
    boxes = np.array(word_boxes, dtype=np.float32).reshape(-1, 4) / scale
    if ids is None:
        count = len(scene.things)
        empty = np.zeros((count, 4), np.float32)
        return Rendering(image=image, scene=scene, boxes=empty, visible=np.zeros(count, np.float32), word_boxes=boxes)
    return _with_truth(image, scene, ids, areas, boxes)


def _place(canvas: Image.Image, ids: Image.Image | None, number: int, scene: Scene, unit: float) -> int:
    """Draw one thing with its shadow; return its full area in canvas pixels."""
    thing = scene.things[number - 1]
    colour = jitter(COLOURS[thing.colour], random.Random(thing.seed))
    sprite = draw_sprite(
        thing.category, colour=colour, fill=thing.fill, size=thing.scale * unit, seed=thing.seed,
        angle=thing.angle, flip=thing.flip, stretch=thing.stretch, shear=thing.shear,
    )  # fmt: skip
    left = round(thing.x * unit - sprite.mask.width / 2)
    top = round(thing.y * unit - sprite.mask.height / (1 if thing.grounded else 2))
    flat = BACKGROUNDS[scene.background].flat
    if thing.grounded:
        _ground_shadow(canvas, sprite, left, top)
    elif flat or thing.depth > 0.93:
        _wall_shadow(canvas, sprite, left, top, unit)
    _halo(canvas, sprite, left, top, colour, unit)
    canvas.paste(sprite.rgb, (left, top), sprite.mask)
    if ids is not None:
        ids.paste(number, (left, top), sprite.mask)
    return sprite.mask.histogram()[255] if ids is not None else 0


@lru_cache(maxsize=1)
def _blob() -> Image.Image:
    """Return a soft disc of 64 × 64 pixels, strongest in the centre."""
    disc = Image.radial_gradient("L").resize((64, 64), Image.Resampling.BILINEAR)
    return disc.point([max(0, round(110 * (1 - level / 180))) for level in range(256)])


def _ground_shadow(canvas: Image.Image, sprite: Sprite, left: int, top: int) -> None:
    width, height = round(1.25 * sprite.mask.width), max(4, round(0.3 * sprite.mask.width))
    x = left - (width - sprite.mask.width) // 2
    canvas.paste((24, 22, 34), (x, top + sprite.mask.height - round(0.56 * height)), _blob().resize((width, height)))


def _wall_shadow(canvas: Image.Image, sprite: Sprite, left: int, top: int, unit: float) -> None:
    """Draw a soft shadow in the shape of the thing, offset to the bottom right."""
    shift, pad = max(2, round(0.018 * unit)), 8
    small = sprite.mask.resize((max(1, sprite.mask.width // 4), max(1, sprite.mask.height // 4)), Image.Resampling.BOX)
    wide = Image.new("L", (small.width + pad, small.height + pad))
    wide.paste(small.point([level * 2 // 7 for level in range(256)]), (pad // 2, pad // 2))
    wide = wide.filter(ImageFilter.BoxBlur(1))
    shadow = wide.resize((4 * wide.width, 4 * wide.height), Image.Resampling.BILINEAR)
    canvas.paste((24, 22, 34), (left - 2 * pad + shift, top - 2 * pad + shift), shadow)


def _halo(canvas: Image.Image, sprite: Sprite, left: int, top: int, colour: tuple[int, int, int], unit: float) -> None:
    """Draw a thin contour around a thing whose colour is similar to its background."""
    box = (
        max(0, left),
        max(0, top),
        min(canvas.width, left + sprite.mask.width),
        min(canvas.height, top + sprite.mask.height),
    )
    if box[0] >= box[2] or box[1] >= box[3]:
        return
    behind = canvas.resize((1, 1), Image.Resampling.BOX, box=box).getpixel((0, 0))
    assert isinstance(behind, tuple)
    if sum((a - b) ** 2 for a, b in zip(behind, colour, strict=True)) > HALO_DISTANCE**2:
        return
    contour = (250, 250, 250) if lightness(colour) < 150 else (60, 58, 66)
    reach = max(1, round(0.01 * unit))
    for x, y in ((-reach, 0), (reach, 0), (0, -reach), (0, reach)):
        canvas.paste(contour, (left + x, top + y), sprite.mask)


def _with_truth(
    image: UInt8[np.ndarray, "y x 3"],
    scene: Scene,
    ids: Image.Image,
    areas: list[int],
    word_boxes: Float[np.ndarray, "m 4"],
) -> Rendering:
    height, width = image.shape[:2]
    counts = ids.histogram()
    visible = [counts[index + 1] / max(1, area) for index, area in enumerate(areas)]
    small = np.asarray(ids.resize((width, height), Image.Resampling.NEAREST))
    masks = np.stack([small == index + 1 for index in range(len(areas))])
    scale = np.array([width, height] * 2, dtype=np.float32)
    boxes = np.array([_box(mask) for mask in masks], dtype=np.float32) / scale
    return Rendering(
        image=image, scene=scene, boxes=boxes, visible=np.array(visible, dtype=np.float32),
        word_boxes=word_boxes, masks=masks, depth=_depth(scene, small),
    )  # fmt: skip


def _box(mask: Bool[np.ndarray, "y x"]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _depth(scene: Scene, ids: UInt8[np.ndarray, "y x"]) -> Float[np.ndarray, "y x"]:
    """Return the depth of every pixel: that of its thing, or of the background, where the ground decreases linearly."""
    height, width = ids.shape
    table = np.zeros(256, np.float32)
    table[1 : len(scene.things) + 1] = [thing.depth for thing in scene.things]
    behind = np.ones(height, np.float32)
    if not BACKGROUNDS[scene.background].flat:
        horizon = scene.horizon / scene.height
        rows = (np.arange(height, dtype=np.float32) + 0.5) / height
        behind = np.clip(1 - (rows - horizon) / (1 - horizon), 0, 1)
    return np.where(ids > 0, table[ids], np.broadcast_to(behind[:, None], (height, width)))
