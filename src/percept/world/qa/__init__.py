"""Question-answer pairs on generated images, for training and evaluation of a language model.

Every pair has a kind, a question, an answer that is certain from the ground truth, and the choices. Answers are drawn before
the images are, so that yes and no, sides, numbers and the order of names are equally frequent. Pairs of the evaluation split
ask about held-out compositions; no image of the other splits shows one.

>>> found = example(3, kind="count")
>>> found.pairs[0].answer in found.pairs[0].choices, len(found.images)
(True, 1)
"""

import random
from collections.abc import Callable, Iterator, Mapping

from percept.core.errors import PerceptError, unknown_name
from percept.core.seed import derive
from percept.world.elements import Scene
from percept.world.focus import held_out_print, sample_focused
from percept.world.qa import regions, several, things
from percept.world.qa.pair import Box, Example, Pair
from percept.world.qa.view import View
from percept.world.render import render
from percept.world.scene import sample_scene
from percept.world.splits import SPLITS
from percept.world.variants import STYLES

__all__ = [
    "KINDS",
    "SEVERAL",
    "WEIGHTS",
    "Box",
    "Example",
    "Pair",
    "example",
    "examples",
    "pairs_of",
]

Maker = Callable[[View, random.Random, str], Pair | None]
_MAKERS: dict[str, Maker] = {
    "category": things.category,
    "colour": things.colour,
    "count": things.count,
    "side": things.side,
    "existence": things.existence,
    "reading": things.reading,
    "region": regions.region,
    "region_caption": regions.region_caption,
    "referring": regions.referring,
    "attribute": things.attribute,
    "comparison": things.comparison,
    "short_caption": regions.caption,
    "long_caption": regions.caption,
}
SEVERAL: dict[str, Callable[[random.Random, str, str, str], several.Draft | None]] = {
    "which_image": several.which_image,
    "same": several.same,
    "total": several.total,
    "change": several.change,
}
"""Kinds with several images."""
KINDS = (*_MAKERS, *SEVERAL)
"""Kinds of pairs."""
WEIGHTS: dict[str, int] = {
    "category": 6, "colour": 6, "count": 10, "side": 10, "existence": 8, "reading": 10, "region": 6, "region_caption": 8,
    "referring": 6, "attribute": 5, "comparison": 5, "short_caption": 5, "long_caption": 5, "which_image": 3, "same": 2,
    "total": 3, "change": 2,
}  # fmt: skip
"""Relative frequency of the kinds in `examples`."""
_WISHES: dict[str, tuple[str, ...]] = {
    "count": things.COUNTS,
    "side": things.SIDES,
    "existence": things.YES_NO,
    "attribute": ("colour yes", "colour no", "colour yes", "colour no", "pattern yes", "pattern no"),
    "comparison": ("larger first", "larger second", "nearer first", "nearer second"),
    "short_caption": ("short_caption",),
    "long_caption": ("long_caption",),
    "which_image": tuple(
        f"{images} {number + 1}" for images in (2, 3, 4) for number in range(images) for _ in range(12 // images)
    ),
    "same": ("category yes", "category no", "colour yes", "colour no"),
    "total": things.COUNTS,
    "change": several.CHANGES,
}
_MOST_THINGS: dict[str, tuple[int, int]] = {
    "category": (1, 3),
    "colour": (1, 4),
    "side": (2, 4),
    "comparison": (2, 5),
    "referring": (2, 6),
}
_ATTEMPTS = 3000
"""Scenes tried for one example. Some twenty are needed for the rarest kinds."""


def example(
    seed: int,
    *,
    kind: str,
    split: str = "train",
    style: str = "plain",
    size: int = 96,
    more: int = 0,
    others: Mapping[str, int] | None = None,
) -> Example:
    """Return example number `seed` of a kind. The same arguments give the same example.

    Args:
        seed: number of the example.
        kind: a name of `KINDS`.
        split: a name of `SPLITS`.
        style: a name of `STYLES`, or "mixed".
        size: shorter side of the images in pixels.
        more: most further pairs about the same image, where it suits them; only for a single image.
        others: relative frequency of the kinds of further pairs, which may occur again; by default each other kind at most once.

    Raises:
        PerceptError: unknown kind, split or style, or a size out of range.
    """
    for name in (kind, *(others or ())):
        if name not in KINDS:
            raise unknown_name("kind", name, KINDS)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if style not in (*STYLES, "mixed"):
        raise unknown_name("style", style, (*STYLES, "mixed"))
    rng = random.Random(derive(seed, "qa", split, kind, style))
    wish = _wish(rng, kind)
    for _ in range(_ATTEMPTS):
        found = (
            _several(rng, kind, split, style, wish, size)
            if kind in SEVERAL
            else _single(rng, kind, split, style, wish, size, more, others)
        )
        if found is not None:
            return found
    raise PerceptError(f"no {kind} pair suits the style {style!r}. Use the style 'plain' or 'mixed'.")


def examples(
    seed: int = 0, *, split: str = "train", style: str = "plain", size: int = 96, more: int = 2
) -> Iterator[Example]:
    """Yield examples of all kinds without end, with frequencies in proportion to `WEIGHTS`."""
    number = seed
    while True:
        kind = random.Random(derive(number, "kind", split)).choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))[0]
        yield example(number, kind=kind, split=split, style=style, size=size, more=0 if kind in SEVERAL else more)
        number += 1


def pairs_of(view: View, rng: random.Random, most: int) -> tuple[Pair, ...]:
    """Return up to `most` pairs of different kinds about one image, captions excluded, in random order."""
    kinds = [kind for kind in _MAKERS if kind not in ("short_caption", "long_caption")]
    made = (_MAKERS[kind](view, rng, _wish(rng, kind)) for kind in rng.sample(kinds, len(kinds)))
    pairs = []
    for pair in made:
        if len(pairs) == most:
            break
        if pair is not None:
            pairs.append(pair)
    return tuple(pairs)


def _weighted_pairs(view: View, rng: random.Random, most: int, weights: Mapping[str, int]) -> list[Pair]:
    """Return up to `most` pairs about one image, whose kinds are drawn by weight. None repeats an earlier answer about the same things."""
    single = {kind: weight for kind, weight in weights.items() if kind in _MAKERS}
    found: dict[tuple[object, ...], Pair] = {}
    for kind in rng.choices(tuple(single), tuple(single.values()), k=2 * most) if single else ():
        pair = _MAKERS[kind](view, rng, _wish(rng, kind)) if len(found) < most else None
        if pair is not None:
            found.setdefault((kind, pair.things, pair.answer), pair)
    return list(found.values())


def _wish(rng: random.Random, kind: str) -> str:
    return rng.choice(_WISHES.get(kind, ("",)))


def _single(
    rng: random.Random,
    kind: str,
    split: str,
    style: str,
    wish: str,
    size: int,
    more: int,
    others: Mapping[str, int] | None,
) -> Example | None:
    """Try one scene: first with estimated boxes, which is fast, then with those of the rendered image."""
    scene = _scene_for(rng, kind, split, style, wish)
    if any(held_out_print(word) for word in scene.words) and split != "evaluation":
        return None
    make, number = _MAKERS[kind], rng.getrandbits(48)
    if make(View.estimate(scene), random.Random(number), wish) is None:
        return None
    rendering = render(scene, size=size)
    view, texts = View.of(rendering), random.Random(number)
    pair = make(view, texts, wish)
    if pair is None:
        return None
    if not more:
        further = []
    elif others is None:
        further = [other for other in pairs_of(view, texts, more + 1) if other.kind != kind][:more]
    else:
        drawn = _weighted_pairs(view, texts, more + 1, others)
        asked = (pair.kind, pair.things, pair.answer)
        further = [other for other in drawn if (other.kind, other.things, other.answer) != asked][:more]
    return Example(images=(rendering,), pairs=(pair, *further))


def _scene_for(rng: random.Random, kind: str, split: str, style: str, wish: str) -> Scene:
    """Sample a scene that is likely to suit a kind."""
    seed = rng.getrandbits(48)
    if kind == "count":
        return sample_focused(seed, focus="count", split=split, style=style, count=int(wish))
    if kind == "reading":
        return sample_focused(seed, focus="word", split=split, style=style)
    if kind == "side" and rng.random() < 0.6:
        return sample_focused(seed, focus="sides", split=split, style=style)
    return sample_scene(seed, split=split, style=style, things=_MOST_THINGS.get(kind, (1, 6)))


def _several(rng: random.Random, kind: str, split: str, style: str, wish: str, size: int) -> Example | None:
    draft = SEVERAL[kind](rng, split, style, wish)
    if draft is None:
        return None
    scenes, ask = draft
    if split != "evaluation" and any(held_out_print(word) for scene in scenes for word in scene.words):
        return None
    if ask([View.estimate(scene) for scene in scenes]) is None:
        return None
    renderings = tuple(render(scene, size=size) for scene in scenes)
    pair = ask([View.of(rendering) for rendering in renderings])
    return None if pair is None else Example(images=renderings, pairs=(pair,))
