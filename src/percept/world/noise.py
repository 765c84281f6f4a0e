"""Captions with noise at set rates: wrong, empty, boilerplate or truncated. In each block of 1000 the rates are exact."""

import random
from dataclasses import dataclass, fields
from functools import lru_cache

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.world.alt_text import junk
from percept.world.elements import Scene
from percept.world.language import short_caption
from percept.world.scene import sample_scene

BLOCK = 1000
"""Number of consecutive samples in which the rates are exact, up to rounding to whole samples."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Share of the texts with each kind of noise."""

    wrong: float = 0.0
    """Caption of a different image."""
    empty: float = 0.0
    """No text."""
    boilerplate: float = 0.0
    """Text without content, such as a file name."""
    truncated: float = 0.0
    """Only the first words of the caption."""

    def __post_init__(self) -> None:
        shares = [getattr(self, field.name) for field in fields(self)]
        if not (min(shares) >= 0 and sum(shares) <= 1 + 1e-9):
            raise PerceptError(f"shares of noise must be at least 0 and add up to at most 1, got {shares}.")


@dataclass(frozen=True, kw_only=True)
class NoisyText:
    """A text, the caption it was made from, and its fault."""

    text: str
    clean: str
    kind: str
    """A field of `Noise`, or "clean"."""


def noise_kind(number: int, noise: Noise, *, seed: int = 0) -> str:
    """Return the kind of noise of sample `number`, or "clean".

    >>> kinds = [noise_kind(number, Noise(wrong=0.25)) for number in range(1000)]
    >>> kinds.count("wrong"), kinds.count("clean")
    (250, 750)
    """
    return _block(number // BLOCK, noise, seed)[number % BLOCK]


@lru_cache(maxsize=16)
def _block(number: int, noise: Noise, seed: int) -> tuple[str, ...]:
    kinds: list[str] = []
    total = 0.0
    for field in fields(noise):  # rounding the sums keeps the total exact as well
        total += getattr(noise, field.name)
        kinds += [field.name] * (round(total * BLOCK) - len(kinds))
    kinds += ["clean"] * (BLOCK - len(kinds))
    random.Random(derive(seed, "noise", number)).shuffle(kinds)
    return tuple(kinds)


def noisy_caption(scene: Scene, number: int, noise: Noise, *, seed: int = 0) -> NoisyText:
    """Return a short caption of a scene with the noise of sample `number`. The same arguments give the same text."""
    rng = random.Random(derive(seed, "noisy caption", number, scene.seed, scene.split))
    clean, kind = short_caption(scene, rng), noise_kind(number, noise, seed=seed)
    text = clean
    if kind == "wrong":
        text = _caption_of_a_different_scene(scene, rng)
    elif kind == "empty":
        text = ""
    elif kind == "boilerplate":
        text = junk(rng)
    elif kind == "truncated":
        words = clean.split()
        text = " ".join(words[: rng.randint(1, max(1, len(words) - 1))])
    return NoisyText(text=text, clean=clean, kind=kind)


def _caption_of_a_different_scene(scene: Scene, rng: random.Random) -> str:
    """Caption a scene of the same split and style that shares no category with this one."""
    own = {thing.category for thing in scene.things}
    while True:
        other = sample_scene(rng.getrandbits(48), split=scene.split, style=scene.style)
        if not own & {thing.category for thing in other.things}:
            return short_caption(other, rng)
