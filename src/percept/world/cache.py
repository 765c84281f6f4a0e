"""Training images of the world with their annotations, generated once on all cores and cached on disk."""

import json
import math
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from percept.core.errors import PerceptError, unknown_name
from percept.core.io import content_hash, read_json, replacing
from percept.core.parallel import map_processes
from percept.core.report import track
from percept.core.seed import derive
from percept.world.alt_text import alt_text
from percept.world.augment import Augment
from percept.world.claims import image_claims
from percept.world.contrary import contrary
from percept.world.elements import Scene
from percept.world.language import article, long_caption, names_caption, noun, short_caption
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.patches import ids_of
from percept.world.regions import NAMES, Region, regions_of
from percept.world.render import render
from percept.world.scene import sample_scene
from percept.world.splits import held_out
from percept.world.variants import STYLES, shows_colour

TEXTS = ("alt", "names", "short", "long")
"""Kinds of texts stored for every image. A training step uses one kind for all its images."""
ANNOTATIONS = ("texts", "regions", "things", "claims", "contrary")
"""Fields of `_Drawn` that are stored as json."""
SIDE = 96
"""Side of the cached images in pixels."""
DRAWING = 1
"""Version of the images and texts. Raise it when a seed gives different results, so that caches are generated again."""
IDS = ".ids"
"""Suffix of the files with the id of the thing at each pixel."""
CHUNK = 256
"""Pairs per unit of work."""


@dataclass(frozen=True, kw_only=True)
class WorldData:
    """Images to train on: pairs of a scene and its twin, which differs in two colours, one category, or left and right."""

    pairs: int = 100_000
    """Number of pairs of images; a pair takes 2 x 36.9 kB on disk."""
    seed: int = 0
    """Seed of the images and their texts."""
    style: str = "mixed"
    """A style of the world, or "mixed" for all of them, half plain."""
    stretched: float = 0.4
    """Share of pairs that are not square. They are squashed to a square, as preprocessing does."""
    stretch: float = 0.7
    """Largest absolute value of the logarithm of their aspect ratio: 0.7 gives 1:2 to 2:1."""
    twins: float = 0.5
    """Share of a batch that consists of whole pairs. One image is taken from each further pair."""
    weights: tuple[float, ...] = (0.1, 0.3, 0.3, 0.3)
    """Relative frequency of each kind of text (alt, names, short, long)."""
    region_weights: tuple[float, ...] = (0.6, 0.2, 0.2)
    """Relative frequency of each kind of text of a region (kind, colour, pattern)."""
    augment: Augment = field(default_factory=Augment)
    """Augmentation of the images in every step."""

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise PerceptError(f"pairs must be at least 1, got {self.pairs}.")
        if not 0 <= self.augment.crop < SIDE:
            raise PerceptError(f"crop must be from 0 to {SIDE - 1} of {SIDE} pixels, got {self.augment.crop}.")
        for name in ("stretched", "twins"):
            if not 0 <= getattr(self, name) <= 1:
                raise PerceptError(f"{name} must be from 0 to 1, got {getattr(self, name)}.")
        for name, kinds in (("weights", TEXTS), ("region_weights", NAMES)):
            weights = getattr(self, name)
            if len(weights) != len(kinds) or not all(0 <= weight < math.inf for weight in weights) or not sum(weights):
                raise PerceptError(
                    f"{name} must be {len(kinds)} finite weights ({', '.join(kinds)}) of at least 0, not all 0, got {weights}."
                )


def _texts(scene: Scene, rng: random.Random) -> list[str]:
    write = {"alt": alt_text, "names": names_caption, "short": short_caption, "long": long_caption}
    return [write[kind](scene, rng) for kind in TEXTS]


@dataclass(frozen=True)
class _Drawn:
    """One image of the cache."""

    image: UInt8[np.ndarray, "y x 3"]
    ids: UInt8[np.ndarray, "y x"]
    texts: list[str]
    """One per entry of TEXTS."""
    regions: list[Region]
    things: list[tuple[int, int, str]]
    """Category, colour and name of every thing; see `_things`."""
    claims: list[int]
    """Claims that hold for the image; see `percept.world.claims`."""
    contrary: list[tuple[tuple[str, str], tuple[list[int], list[int]]]]
    """Texts and claims of each pair; see `percept.world.contrary`."""


def _things(scene: Scene) -> list[tuple[int, int, str]]:
    """Return the index of the category, the index of the colour (-1 if not visible) and the name of every thing.

    The name is empty if the thing alone would be a composition held out for evaluation.
    """
    coloured, rows = shows_colour(scene), []
    for thing in scene.things:
        hidden = held_out(thing.category, thing.colour, "alone")
        name = "" if hidden else article(noun(thing, coloured))
        colour = list(COLOURS).index(thing.colour) if coloured else -1
        rows.append((list(CATEGORIES).index(thing.category), colour, name))
    return rows


def _pair(number: int, data: WorldData) -> Iterator[_Drawn]:
    from percept.world import twin

    rng = random.Random(derive(data.seed, "pair", number))
    aspect = math.exp(rng.uniform(-data.stretch, data.stretch)) if rng.random() < data.stretched else 1.0
    sample = partial(sample_scene, split="train", style=data.style, aspect=aspect)
    first = sample(derive(data.seed, "scene", number))
    second = twin(first, rng) or sample(derive(data.seed, "other", number))
    for scene in (first, second):
        rendering = render(scene, size=SIDE)
        yield _Drawn(
            image=_squashed(rendering.image, Image.Resampling.BILINEAR),
            ids=_squashed(ids_of(rendering), Image.Resampling.NEAREST),
            texts=_texts(scene, rng),
            regions=regions_of(rendering),
            things=_things(scene),
            claims=image_claims(scene),
            contrary=[(pair.texts, pair.claims) for pair in contrary(scene, rng)],
        )


def _squashed(image: np.ndarray, filter: Image.Resampling) -> np.ndarray:
    """Resize to a square, as preprocessing does with images of any aspect ratio."""
    if image.shape[:2] == (SIDE, SIDE):
        return image
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), filter))


def _draw_chunk(folder: Path, data: WorldData, first: int) -> None:
    """Generate up to CHUNK pairs and write them as three files."""
    target = folder / f"{first:08d}.npy"
    drawn = [item for number in range(first, min(first + CHUNK, data.pairs)) for item in _pair(number, data)]
    with replacing(target.with_suffix(".json")) as part:
        rows = {name: [getattr(item, name) for item in drawn] for name in ANNOTATIONS}
        part.write_text(json.dumps(rows), encoding="utf-8")
    with replacing(target.with_suffix(IDS)) as part, part.open("wb") as file:
        np.save(file, np.stack([item.ids for item in drawn]))
    with replacing(target) as part, part.open("wb") as file:  # written last: if it exists, the chunk is complete
        np.save(file, np.stack([item.image for item in drawn]))


def _cache_name(data: WorldData) -> str:
    drawn = (data.style, data.seed, data.stretched, data.stretch, DRAWING)
    return f"{data.style}-{data.seed}-{data.pairs}-{content_hash(repr(drawn).encode())[:12]}"


def check_style(style: str) -> None:
    """Raise a PerceptError for a style that the world does not have."""
    if style not in (*STYLES, "mixed"):
        raise unknown_name("style", style, (*STYLES, "mixed"))


def cache_home() -> Path:
    """Return where drawn images are kept: $PERCEPT_CACHE, or the user's cache folder."""
    return Path(os.environ.get("PERCEPT_CACHE", Path.home() / ".cache" / "percept")) / "world"


def draw_cache(data: WorldData, home: Path | str, *, workers: int | None = None) -> Path:
    """Generate all pairs of `data` in a folder below `home` unless they exist, and return the folder.

    The name of the folder depends on the settings and on `DRAWING`. An interrupted run continues where it stopped.

    Raises:
        PerceptError: unknown style; no folder is created.
    """
    check_style(data.style)
    folder = Path(home) / _cache_name(data)
    folder.mkdir(parents=True, exist_ok=True)
    starts = [first for first in range(0, data.pairs, CHUNK) if not (folder / f"{first:08d}.npy").is_file()]
    if not starts:
        return folder
    draw = partial(_draw_chunk, folder, data)
    for _ in track(map_processes(draw, starts, processes=workers), "drawing training images", len(starts)):
        pass
    return folder


def some_texts(folder: Path, count: int) -> list[str]:
    """Return the first `count` texts of a cache, for training a tokenizer."""
    texts: list[str] = []
    for file in sorted(folder.glob("*.json")):
        annotations: Any = read_json(file)
        texts += [text for row in annotations["texts"] for text in row]
        if len(texts) >= count:
            break
    return texts[:count]
