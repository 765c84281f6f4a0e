"""Evaluation sets of the labelled world: scenes of the evaluation split by fixed seeds, drawn by several processes."""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count as numbers
from multiprocessing import get_context
from typing import TypeAlias

import numpy as np

from percept.core.errors import PerceptError
from percept.core.report import track
from percept.core.seed import derive
from percept.data.world.elements import Scene
from percept.data.world.language import long_caption, short_caption, swapped_attributes, swapped_sides
from percept.data.world.objects import CATEGORIES
from percept.data.world.palette import COLOURS
from percept.data.world.render import render
from percept.data.world.scene import sample_scene

SEED = 0
"""Of all published numbers."""
PICTURES = 3000
"""Of the main set; the others are shares of it."""
SPLIT = "evaluation"
ALONE, SEVERAL, ANY = (1, 1), (2, 6), (1, 6)
"""How many things a picture has: least and most."""
FEW = 200
"""Up to so many pictures one process draws them: starting others would take longer."""
CHUNK = 32
Swap: TypeAlias = Callable[[Scene, random.Random], tuple[str, str] | None]


@dataclass(frozen=True, kw_only=True)
class Singles:
    """Pictures of one thing each."""

    scenes: list[Scene]
    images: list[np.ndarray]

    @property
    def categories(self) -> list[int]:
        """Position of every thing's category in `CATEGORIES`."""
        positions = {name: position for position, name in enumerate(CATEGORIES)}
        return [positions[scene.things[0].category] for scene in self.scenes]

    @property
    def colours(self) -> list[int]:
        """Position of every thing's colour in `COLOURS`."""
        positions = {name: position for position, name in enumerate(COLOURS)}
        return [positions[scene.things[0].colour] for scene in self.scenes]


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """Pictures with one caption each, all captions different."""

    images: list[np.ndarray]
    long: list[str]
    short: list[str]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pictures with a right and a wrong caption each."""

    images: list[np.ndarray]
    captions: list[tuple[str, str]]


def singles(count: int = PICTURES, *, seed: int = SEED, style: str = "plain") -> Singles:
    """Return pictures of one thing each, in one style."""
    stream = scenes("single", seed=seed, things=ALONE, style=style)
    chosen = [next(stream) for _ in range(_positive(count))]
    return Singles(scenes=chosen, images=draw(chosen))


def captioned(count: int = PICTURES // 3, *, seed: int = SEED) -> Captioned:
    """Return pictures of one to six things whose long captions all differ."""
    chosen: dict[str, Scene] = {}
    for scene in scenes("captioned", seed=seed, things=ANY):
        chosen.setdefault(long_caption(scene, words_of(scene, "long")).lower(), scene)
        if len(chosen) == _positive(count):
            break
    return Captioned(
        images=draw(list(chosen.values())),
        long=[long_caption(scene, words_of(scene, "long")) for scene in chosen.values()],
        short=[short_caption(scene, words_of(scene, "short")) for scene in chosen.values()],
    )


def attribute_pairs(count: int = PICTURES, *, seed: int = SEED) -> Pairs:
    """Return pictures with captions in which the colours of two things are exchanged."""
    return _pairs(swapped_attributes, "attributes", count, seed)


def side_pairs(count: int = PICTURES, *, seed: int = SEED) -> Pairs:
    """Return pictures with captions in which left and right are exchanged."""
    return _pairs(swapped_sides, "sides", count, seed)


def _pairs(swap: Swap, name: str, count: int, seed: int) -> Pairs:
    chosen, captions = [], []
    for scene in scenes(name, seed=seed, things=SEVERAL):
        pair = swap(scene, words_of(scene, name))
        if pair is not None:
            chosen.append(scene)
            captions.append(pair)
        if len(chosen) == _positive(count):
            break
    return Pairs(images=draw(chosen), captions=captions)


def scenes(name: str, *, seed: int, things: tuple[int, int], style: str = "plain") -> Iterator[Scene]:
    """Yield the scenes of a named set, without end."""
    for number in numbers():
        yield sample_scene(derive(seed, "eval", name, style, number), split=SPLIT, things=things, style=style)


def words_of(scene: Scene, purpose: str) -> random.Random:
    """Return the random numbers that choose the wording for a scene."""
    return random.Random(derive(scene.seed, purpose))


def draw(chosen: Sequence[Scene], *, processes: int | None = None) -> list[np.ndarray]:
    """Draw scenes in parallel; the pictures do not depend on the number of processes."""
    processes = processes or os.cpu_count() or 1
    if processes == 1 or len(chosen) <= FEW:
        return [_draw(scene) for scene in track(chosen, "drawing", len(chosen))]
    # Started afresh instead of forked: forking a process in which torch has threads can hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(track(pool.map(_draw, chosen, chunksize=CHUNK), "drawing", len(chosen)))


def _draw(scene: Scene) -> np.ndarray:
    return render(scene, truth=False).image


def _positive(count: int) -> int:
    if count < 1:
        raise PerceptError(f"an evaluation needs at least one picture; given {count}")
    return count
