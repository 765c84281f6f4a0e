"""Training pictures of the world and all that is told of them, drawn once by all cores and kept on disk."""

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
from percept.world.claims import shown
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
"""Kinds of the texts kept for every picture; a training step draws one of them for all its pictures."""
TOLD = ("texts", "regions", "things", "claims", "contrary")
"""What is told of every picture, see `_Drawn`."""
SIDE = 96
"""Pixels a side of the kept pictures."""
DRAWING = 1
"""Version of the drawing and of the texts. Raise it when a seed gives different pixels, truth or words: caches are drawn again."""
IDS = ".ids"
"""Ending of the files that tell which thing each pixel shows."""
CHUNK = 256
"""Pairs per unit of work."""


@dataclass(frozen=True, kw_only=True)
class WorldData:
    """Which pictures to train on: always pairs, a scene and its twin (two colours, the sides or one kind exchanged)."""

    pairs: int = 100_000
    """Pairs of pictures; each is 2 x 36.9 kB on disk."""
    seed: int = 0
    """Of the pictures and their texts."""
    style: str = "mixed"
    """A style of the world, or "mixed": half plain."""
    stretched: float = 0.4
    """Share of pairs that are not square; they are squashed to a square like any picture the models see."""
    stretch: float = 0.7
    """Largest absolute logarithm of their aspect: 0.7 is up to 2:1 either way."""
    twins: float = 0.5
    """Share of a batch that consists of whole pairs; of the other pairs one picture is taken."""
    weights: tuple[float, ...] = (0.1, 0.3, 0.3, 0.3)
    """How often a step takes each of the texts (alt, names, short, long)."""
    region_weights: tuple[float, ...] = (0.6, 0.2, 0.2)
    """How often a step of regions takes each of their texts (kind, colour, pattern)."""
    augment: Augment = field(default_factory=Augment)
    """What is done to the pictures of every step."""

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise PerceptError(f"pairs={self.pairs}; draw at least one")
        if not 0 <= self.augment.crop < SIDE:
            raise PerceptError(f"crop={self.augment.crop}; a crop leaves out 0 to {SIDE - 1} of {SIDE} pixels")
        for name in ("stretched", "twins"):
            if not 0 <= getattr(self, name) <= 1:
                raise PerceptError(f"{name}={getattr(self, name)}; it is a share within 0..1")
        for name, kinds in (("weights", TEXTS), ("region_weights", NAMES)):
            weights = getattr(self, name)
            if len(weights) != len(kinds) or not all(0 <= one < math.inf for one in weights) or not sum(weights):
                raise PerceptError(f"{name}={weights}; give one weight per kind ({', '.join(kinds)}), not all 0")


def _texts(scene: Scene, rng: random.Random) -> list[str]:
    write = {"alt": alt_text, "names": names_caption, "short": short_caption, "long": long_caption}
    return [write[kind](scene, rng) for kind in TEXTS]


@dataclass(frozen=True)
class _Drawn:
    """One picture of the cache."""

    image: UInt8[np.ndarray, "y x 3"]
    ids: UInt8[np.ndarray, "y x"]
    texts: list[str]
    """One per entry of TEXTS."""
    regions: list[Region]
    things: list[tuple[int, int, str]]
    """Category, colour and name of every thing, see `_things`."""
    claims: list[int]
    """Of the whole picture, see `percept.world.claims`."""
    contrary: list[tuple[tuple[str, str], tuple[list[int], list[int]]]]
    """Texts and claims of each pair, see `percept.world.contrary`."""


def _things(scene: Scene) -> list[tuple[int, int, str]]:
    """Return number of category, of colour (-1 where it does not show), and name of every thing.

    The name is empty where the thing alone would be a composition kept for evaluation.
    """
    coloured, found = shows_colour(scene), []
    for thing in scene.things:
        kept = held_out(thing.category, thing.colour, "alone")
        name = "" if kept else article(noun(thing, coloured))
        colour = list(COLOURS).index(thing.colour) if coloured else -1
        found.append((list(CATEGORIES).index(thing.category), colour, name))
    return found


def _pair(number: int, data: WorldData) -> Iterator[_Drawn]:
    from percept.world import twin

    rng = random.Random(derive(data.seed, "pair", number))
    aspect = math.exp(rng.uniform(-data.stretch, data.stretch)) if rng.random() < data.stretched else 1.0
    draw = partial(sample_scene, split="train", style=data.style, aspect=aspect)
    scene = draw(derive(data.seed, "scene", number))
    other = twin(scene, rng) or draw(derive(data.seed, "other", number))
    for one in (scene, other):
        drawn = render(one, size=SIDE)
        yield _Drawn(
            image=_squashed(drawn.image, Image.Resampling.BILINEAR),
            ids=_squashed(ids_of(drawn), Image.Resampling.NEAREST),
            texts=_texts(one, rng),
            regions=regions_of(drawn),
            things=_things(one),
            claims=shown(one),
            contrary=[(pair.texts, pair.claims) for pair in contrary(one, rng)],
        )


def _squashed(image: np.ndarray, how: Image.Resampling) -> np.ndarray:
    """Resize to a square, as the preprocessing of the models does with pictures of any aspect."""
    if image.shape[:2] == (SIDE, SIDE):
        return image
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), how))


def _draw_chunk(folder: Path, data: WorldData, first: int) -> None:
    """Draw up to CHUNK pairs into three files."""
    target = folder / f"{first:08d}.npy"
    drawn = [item for number in range(first, min(first + CHUNK, data.pairs)) for item in _pair(number, data)]
    with replacing(target.with_suffix(".json")) as part:
        told = {name: [getattr(one, name) for one in drawn] for name in TOLD}
        part.write_text(json.dumps(told), encoding="utf-8")
    with replacing(target.with_suffix(IDS)) as part, part.open("wb") as file:
        np.save(file, np.stack([one.ids for one in drawn]))
    with replacing(target) as part, part.open("wb") as file:  # last: its presence says that the chunk is whole
        np.save(file, np.stack([one.image for one in drawn]))


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
    """Draw all pairs of `data` below `home` unless they are there, and return their folder.

    The folder's name tells settings and drawing code apart; an interrupted drawing goes on where it stopped.

    Raises:
        PerceptError: a style that the world does not have; no folder is made then.
    """
    check_style(data.style)
    folder = Path(home) / _cache_name(data)
    folder.mkdir(parents=True, exist_ok=True)
    starts = [first for first in range(0, data.pairs, CHUNK) if not (folder / f"{first:08d}.npy").is_file()]
    if not starts:
        return folder
    draw = partial(_draw_chunk, folder, data)
    for _ in track(map_processes(draw, starts, processes=workers), "drawing training pictures", len(starts)):
        pass
    return folder


def some_texts(folder: Path, count: int) -> list[str]:
    """Return texts of the first pictures of a cache, for training a tokenizer."""
    found: list[str] = []
    for file in sorted(folder.glob("*.json")):
        told: Any = read_json(file)
        found += [text for row in told["texts"] for text in row]
        if len(found) >= count:
            break
    return found[:count]
