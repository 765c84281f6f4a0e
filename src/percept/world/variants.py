"""The six styles and their variants: which splits use them, and their effect on sizes, positions and poses."""

import random
from typing import TypedDict

from percept.core.errors import PerceptError, unknown_name
from percept.world.elements import Scene
from percept.world.layout import Frame

STYLES = ("plain", "rendition", "sketch", "unusual", "viewpoint", "corruption")
SEEN: dict[str, tuple[str, ...]] = {
    "plain": ("plain",),
    "rendition": ("poster", "mosaic", "oil", "emboss", "watercolour"),
    "sketch": ("pencil", "ink", "crayon"),
    "unusual": ("tinted", "floating", "upside down", "displaced"),
    "viewpoint": ("rolled", "sheared", "near", "far"),
    "corruption": ("blur", "noise", "jpeg", "dim", "bright"),
}
"""Variants of each style that occur in every split."""
UNSEEN: dict[str, tuple[str, ...]] = {
    "plain": (),
    "rendition": ("pixel art", "halftone", "comic"),
    "sketch": ("chalk", "blueprint"),
    "unusual": ("spotlight", "psychedelic"),
    "viewpoint": ("cropped", "foreshortened"),
    "corruption": ("fog", "pixelate", "motion", "salt and pepper"),
}
"""Variants that occur in the evaluation split only, to measure robustness to unseen changes."""
MOST_THINGS = {"near": 3, "cropped": 2}
"""Largest number of things in variants where more would hide each other."""


class Pose(TypedDict):
    """Pose of a thing. The fields are those of `Thing`."""

    angle: float
    flip: bool
    stretch: tuple[float, float]
    shear: float


def choose_variant(rng: random.Random, style: str, variant: str | None, split: str) -> str:
    """Return `variant`, or a random one if None: in evaluation half of them are unseen variants.

    Raises:
        PerceptError: the style has no such variant, or it is only for evaluation.
    """
    seen, unseen = SEEN[style], UNSEEN[style]
    if variant is None:
        return rng.choice(unseen if unseen and split == "evaluation" and rng.random() < 0.5 else seen)
    if variant not in (*seen, *unseen):
        raise unknown_name(f"variant of {style}", variant, (*seen, *unseen))
    if variant in unseen and split != "evaluation":
        raise PerceptError(
            f"variant {variant!r} is only for the evaluation split. The {split} split has {', '.join(seen)}."
        )
    return variant


def shows_colour(scene: Scene) -> bool:
    """True if the style shows colours; line sketches do not."""
    return scene.style != "sketch" or scene.variant == "crayon"


def frame_of(rng: random.Random, scene: Scene) -> Frame:
    """Return the space for the things of a scene, depending on its variant."""
    sizes, edge, alone = None, 0.42, rng.random() < 0.5
    if scene.variant == "near":
        sizes, edge = (0.62, 0.78), 0.28
    elif scene.variant == "far":
        sizes = (0.15, 0.22)
    elif scene.variant == "cropped":
        sizes, edge = ((0.7, 1.1) if alone else (0.5, 0.7)), 0.14
    loose = scene.variant in ("floating", "upside down")
    return Frame(width=scene.width, height=scene.height, horizon=scene.horizon, edge=edge, sizes=sizes, loose=loose)


def pose_of(rng: random.Random, variant: str) -> Pose:
    """Return a random pose: nearly upright, or extreme if the variant demands it."""
    angle, shear = rng.gauss(0, 5), rng.uniform(-0.08, 0.08)
    stretch = (rng.uniform(0.9, 1.1), rng.uniform(0.9, 1.1))
    if variant == "upside down":
        angle += 180
    elif variant == "rolled":
        angle = rng.choice((-1, 1)) * rng.uniform(35, 100)
    elif variant == "sheared":
        shear = rng.choice((-1, 1)) * rng.uniform(0.35, 0.7)
    elif variant == "foreshortened":
        stretch = rng.choice(((0.55, 1.1), (1.1, 0.55)))
    elif variant == "floating":
        angle = rng.gauss(0, 20)
    return Pose(angle=angle, flip=rng.random() < 0.5, stretch=stretch, shear=shear)
