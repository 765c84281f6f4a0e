"""Scenes that suit one task: equal things to count, a large printed word, or things clearly to one side of each other.

`sample_scene` shows these rarely. Things stand in the cells of a grid, so that they do not hide each other. The split rule of
the world holds; in addition (word, board colour, case) triples of printed words are held out for evaluation.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from percept.core.errors import PerceptError, unknown_name
from percept.core.seed import derive
from percept.world.backgrounds import BACKGROUNDS, Background
from percept.world.elements import Scene, Thing, Word
from percept.world.fills import FILLS
from percept.world.kinds import confusable
from percept.world.layout import size_word
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.relations import all_relations
from percept.world.splits import free_colours, held_out, obeys, reserved_colours, split_seed
from percept.world.variants import STYLES, choose_variant, pose_of
from percept.world.vocabulary import draw_word

FOCI = ("count", "sides", "word")
"""What a focused scene is made for."""
MOST = 6
"""Largest number of equal things."""
_GROUND = 0.35
"""Share of scenes to count whose things stand on the ground; the others float on a flat background."""


def sample_focused(
    seed: int,
    *,
    focus: str,
    split: str = "train",
    style: str = "plain",
    count: int | None = None,
    category: str | None = None,
    total: int | None = None,
) -> Scene:
    """Sample focused scene number `seed` of a split: a square scene. The same arguments give the same scene.

    Args:
        seed: number of the scene.
        focus: a name of `FOCI`. "count": `count` equal things come first, up to two others follow. "sides": two to four
            different things. "word": one large printed word and one or two things.
        split: a name of `SPLITS`.
        style: a name of `STYLES`, or "mixed" for all of them, half plain.
        count: number of equal things with the focus "count", from 1 to 6; random if None.
        category: category of the first things; random if None.
        total: number of all things with the focus "count"; random if None.

    Raises:
        PerceptError: unknown focus, split, style or category, or a count out of range.
    """
    if focus not in FOCI:
        raise unknown_name("focus", focus, FOCI)
    if style not in (*STYLES, "mixed"):
        raise unknown_name("style", style, (*STYLES, "mixed"))
    if category is not None and category not in CATEGORIES:
        raise unknown_name("category", category, CATEGORIES)
    if count is not None and not 1 <= count <= MOST:
        raise PerceptError(f"count must be from 1 to {MOST}, got {count}.")
    rng = random.Random(derive(split_seed(seed, split), "focus", focus, count or 0, category or "", total or 0))
    style = rng.choices(STYLES, (5, 1, 1, 1, 1, 1))[0] if style == "mixed" else style
    empty = Scene(
        seed=seed, split=split, style=style, variant=choose_variant(rng, style, None, split), background="", things=()
    )
    while True:
        groups = _groups(rng, focus, count, category, total)
        scene = _attempt(rng, empty, groups, focus)
        if scene is not None:
            assert obeys(scene)
            return scene


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Space for one thing, in shorter sides of the image."""

    x: float
    """Centre."""
    y: float
    width: float
    height: float


def _groups(
    rng: random.Random, focus: str, count: int | None, category: str | None, total: int | None
) -> list[list[str]]:
    """Return the categories of the things, in groups that share category and colour."""
    names = tuple(CATEGORIES)
    first = category or rng.choice(names)
    if focus == "count":
        alike = count or rng.randint(1, MOST)
        more = rng.choice((0, 0, 1, 1, 2)) if total is None else max(0, total - alike)
    else:
        alike, more = 1, rng.randint(1, 3) if focus == "sides" else rng.choice((0, 1))
    chosen = [first]
    for _ in range(more):
        if focus == "count" and rng.random() < 0.35:
            chosen.append(first)  # of another colour
        else:
            chosen.append(rng.choice([name for name in names if not any(confusable(name, other) for other in chosen)]))
    return [[first] * alike, *([name] for name in chosen[1:])]


def _attempt(rng: random.Random, empty: Scene, groups: Sequence[Sequence[str]], focus: str) -> Scene | None:
    categories = [name for group in groups for name in group]
    ground = focus == "count" and len(categories) <= MOST and rng.random() < _GROUND
    background = _background(rng, empty, categories[0], ground)
    scene = replace(
        empty,
        background=background.name,
        background_seed=rng.getrandbits(32),
        horizon=rng.uniform(*background.horizon),
    )
    top, bottom = 0.0, 1.0
    if focus == "word":
        word = _large_word(rng, scene.split)
        high = rng.random() < 0.5
        word = replace(word, x=0.5, y=0.05 + word.size if high else 0.95 - word.size)
        scene = replace(scene, words=(word,))
        top, bottom = (0.08 + 1.9 * word.size, 1.0) if high else (0.0, 0.92 - 1.9 * word.size)
    if background.flat:
        cells = grid(rng, len(categories), top, bottom)
        things = [_floating(rng, scene, *pair) for pair in zip(categories, cells, strict=True)]
        depths = rng.sample(range(len(things)), len(things))
        things = [
            replace(thing, depth=0.1 + 0.8 * (rank + 0.5) / len(things))
            for thing, rank in zip(things, depths, strict=True)
        ]
    else:
        things = _standing(rng, scene, categories)
    painted = paint(rng, things, [len(group) for group in groups], scene.split, forced=_forced(rng, focus, groups))
    return None if painted is None else replace(scene, things=tuple(painted))


def _forced(rng: random.Random, focus: str, groups: Sequence[Sequence[str]]) -> int:
    """Return the group that shows a held-out composition in the evaluation split."""
    return 0 if focus == "count" else rng.randrange(len(groups))


def _background(rng: random.Random, scene: Scene, category: str, ground: bool) -> Background:
    if scene.style == "sketch":
        return BACKGROUNDS["paper"]
    habitat = CATEGORIES[category].habitat
    scenic = [each for each in BACKGROUNDS.values() if not each.flat and habitat in each.habitats]
    if ground and scenic and habitat in ("ground", "table"):
        return rng.choice(scenic)
    return rng.choice([each for each in BACKGROUNDS.values() if each.flat])


def grid(rng: random.Random, count: int, top: float = 0.0, bottom: float = 1.0) -> list[Cell]:
    """Return `count` cells of a random grid between two heights, in random order."""
    most = 3 if bottom - top > 0.8 else 2 if bottom - top > 0.5 else 1
    shapes = [
        (columns, rows)
        for columns in range(1, 4)
        for rows in range(1, most + 1)
        if count <= columns * rows <= count + 3
    ]
    columns, rows = rng.choice(shapes)
    width, height = 1 / columns, (bottom - top) / rows
    cells = [
        Cell(x=(column + 0.5) * width, y=top + (row + 0.5) * height, width=width, height=height)
        for row in range(rows)
        for column in range(columns)
    ]
    return rng.sample(cells, count)


def _floating(rng: random.Random, scene: Scene, category: str, cell: Cell) -> Thing:
    """Put a thing at a random position inside its cell."""
    room = min(cell.width, cell.height)
    scale, word = size_word(room * rng.uniform(0.7, 0.88) * min(1.0, CATEGORIES[category].size ** 0.3), rng)
    scale = min(scale, 0.94 * room)
    across, down = max(0.0, 0.96 * cell.width - scale) / 2, max(0.0, 0.96 * cell.height - scale) / 2
    return _thing(
        rng, scene, category, scale=scale, size=word, depth=0.5,
        x=cell.x + rng.uniform(-across, across), y=cell.y + rng.uniform(-down, down),
    )  # fmt: skip


def _standing(rng: random.Random, scene: Scene, categories: Sequence[str]) -> list[Thing]:
    """Put things on the ground in one or two rows; the back row is farther away."""
    count = len(categories)
    rows = 1 if count < 3 or (count == 3 and rng.random() < 0.5) else 2
    back = 0 if rows == 1 else count // 2
    ground = 1.0 - scene.horizon
    things = []
    for number, columns, foot in ((back, back, 0.1), (count - back, count - back, 0.93 if rows == 2 else 0.7)):
        shift = rng.uniform(-0.02, 0.02)
        for column in range(number):
            width = 1 / columns
            room = min(0.86 * width, 0.4 if rows == 2 else 0.55)
            scale, word = size_word(room * rng.uniform(0.8, 1.0), rng)
            slack = max(0.0, 0.96 * width - scale) / 2
            things.append(
                _thing(
                    rng,
                    scene,
                    "",
                    scale=min(scale, 0.92 * width),
                    size=word,
                    grounded=True,
                    x=(column + 0.5) * width + rng.uniform(-slack, slack),
                    y=scene.horizon + ground * (foot + shift),
                    depth=1 - (foot + shift),
                )
            )
    rng.shuffle(things)
    return [replace(thing, category=name) for thing, name in zip(things, categories, strict=True)]


def _thing(
    rng: random.Random,
    scene: Scene,
    category: str,
    *,
    x: float,
    y: float,
    scale: float,
    size: str,
    depth: float,
    grounded: bool = False,
) -> Thing:
    return Thing(
        category=category,
        colour="",
        fill="plain" if rng.random() < 0.5 else rng.choice(FILLS[1:]),
        size=size,
        x=x,
        y=y,
        scale=scale,
        depth=depth,
        grounded=grounded,
        seed=rng.getrandbits(32),
        **pose_of(rng, scene.variant),
    )


def paint(
    rng: random.Random, things: Sequence[Thing], sizes: Sequence[int], split: str, *, forced: int
) -> list[Thing] | None:
    """Give each group of things a colour that the split allows; None if there is none.

    Args:
        rng: source of random numbers.
        things: things without colour, group by group.
        sizes: number of things in each group.
        split: a name of `SPLITS`.
        forced: group that shows a held-out composition in the evaluation split.
    """
    relations_of_thing = all_relations(things)
    painted: list[Thing] = []
    for number, size in enumerate(sizes):
        first = len(painted)
        relations = set().union(*relations_of_thing[first : first + size])
        category = things[first].category
        if split == "evaluation":
            colours = reserved_colours(category, relations) if number == forced else list(COLOURS)
        else:
            colours = free_colours(category, relations)
        used = {thing.colour for thing in painted if thing.category == category}
        colours = [colour for colour in colours if colour not in used]
        if not colours:
            return None
        colour, fill = rng.choice(colours), things[first].fill if rng.random() < 0.7 else None
        painted += [replace(thing, colour=colour, fill=fill or thing.fill) for thing in things[first : first + size]]
    return painted


def held_out_print(word: Word) -> bool:
    """True if (word, board colour, case) is held out for evaluation."""
    return held_out(word.text, word.board or "no board", word.case)


def _large_word(rng: random.Random, split: str) -> Word:
    """Draw a word as large as the image allows, of a print that the split allows."""
    while True:
        word = draw_word(rng, size=rng.uniform(0.18, 0.3))
        if word.width > 0.94:
            word = replace(word, size=word.size * 0.94 / word.width)
        if held_out_print(word) == (split == "evaluation"):
            return word
