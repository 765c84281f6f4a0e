"""Evaluation sets of the labelled world: scenes of one split with fixed seeds, drawn by several processes."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count as numbers
from itertools import islice
from typing import TypeAlias

import numpy as np

from percept.core.errors import PerceptError
from percept.core.parallel import map_processes
from percept.core.report import track
from percept.core.seed import derive
from percept.eval.table import Plan
from percept.world.elements import Scene
from percept.world.language import long_caption, short_caption, swapped_attributes, swapped_sides
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.render import render
from percept.world.scene import sample_scene

ALONE, SEVERAL, ANY = (1, 1), (2, 6), (1, 6)
"""Least and most things in an image."""
FEW = 200
"""Up to this many images are drawn by one process, because starting others takes longer."""
CHUNK = 32
"""Scenes handed to a process at once."""
NAME = "world"
"""What samples of the labelled world are listed under."""
DEFAULT = Plan()
Swap: TypeAlias = Callable[[Scene, random.Random], tuple[str, str] | None]
SWAPS: dict[str, Swap] = {"attributes": swapped_attributes, "sides": swapped_sides}


@dataclass(frozen=True, kw_only=True)
class Singles:
    """Images of one thing each."""

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
    """Images with one caption each; the long captions all differ."""

    images: list[np.ndarray]
    long: list[str]
    short: list[str]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Images with a right and a wrong caption each."""

    images: list[np.ndarray]
    captions: list[tuple[str, str]]


def singles(
    count: int = DEFAULT.count, *, seed: int = DEFAULT.seed, style: str = "plain", split: str = DEFAULT.split
) -> Singles:
    """Return images of one thing each, in one style."""
    return singles_by_style({style: count}, seed=seed, split=split)[style]


def singles_by_style(
    counts: Mapping[str, int], *, seed: int = DEFAULT.seed, split: str = DEFAULT.split
) -> dict[str, Singles]:
    """Return images of one thing each; `counts` gives the number of images per style."""
    streams = {style: scenes("single", seed=seed, things=ALONE, style=style, split=split) for style in counts}
    chosen = {style: list(islice(stream, _positive(counts[style]))) for style, stream in streams.items()}
    images = iter(draw([scene for part in chosen.values() for scene in part]))
    return {style: Singles(scenes=part, images=list(islice(images, len(part)))) for style, part in chosen.items()}


def captioned(count: int = DEFAULT.third, *, seed: int = DEFAULT.seed, split: str = DEFAULT.split) -> Captioned:
    """Return images of one to six things whose long captions all differ."""
    chosen: dict[str, Scene] = {}
    for scene in scenes("captioned", seed=seed, things=ANY, split=split):
        chosen.setdefault(long_caption(scene, words_of(scene, "long")).lower(), scene)
        if len(chosen) == _positive(count):
            break
    return Captioned(
        images=draw(list(chosen.values())),
        long=[long_caption(scene, words_of(scene, "long")) for scene in chosen.values()],
        short=[short_caption(scene, words_of(scene, "short")) for scene in chosen.values()],
    )


def pairs(count: int = DEFAULT.count, *, seed: int = DEFAULT.seed, split: str = DEFAULT.split) -> dict[str, Pairs]:
    """Return images with wrong captions in which two colours ("attributes"), or left and right ("sides"), are exchanged."""
    chosen = {
        name: _choose(swap, name, count, scenes(name, seed=seed, things=SEVERAL, split=split))
        for name, swap in SWAPS.items()
    }
    images = iter(draw([scene for part in chosen.values() for scene, _ in part]))
    return {
        name: Pairs(captions=[captions for _, captions in part], images=list(islice(images, len(part))))
        for name, part in chosen.items()
    }


def _choose(swap: Swap, name: str, count: int, several: Iterator[Scene]) -> list[tuple[Scene, tuple[str, str]]]:
    """Take the first `count` scenes that have something to exchange."""
    swapped = ((scene, swap(scene, words_of(scene, name))) for scene in several)
    return list(islice(((scene, captions) for scene, captions in swapped if captions), _positive(count)))


def scenes(
    name: str, *, seed: int, things: tuple[int, int], style: str = "plain", split: str = DEFAULT.split
) -> Iterator[Scene]:
    """Yield the scenes of a named set, endlessly."""
    for number in numbers():
        yield sample_scene(seed_of(seed, name, style, number), split=split, things=things, style=style)


def seed_of(seed: int, name: str, style: str, number: int) -> int:
    """Return the seed of scene `number` of a named set."""
    return derive(seed, "eval", name, style, number)


def words_of(scene: Scene, purpose: str) -> random.Random:
    """Return the generator that chooses the wording for a scene."""
    return random.Random(derive(scene.seed, purpose))


def draw(chosen: Sequence[Scene], *, processes: int | None = None) -> list[np.ndarray]:
    """Draw scenes in parallel; the images do not depend on the number of processes."""
    processes = 1 if len(chosen) <= FEW else processes
    return list(track(map_processes(_draw, chosen, processes=processes, chunk=CHUNK), "drawing", len(chosen)))


def _draw(scene: Scene) -> np.ndarray:
    return render(scene, truth=False).image


def _positive(count: int) -> int:
    if count < 1:
        raise PerceptError(f"count must be at least 1, got {count}")
    return count
