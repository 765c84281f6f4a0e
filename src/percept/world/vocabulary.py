"""Printed words on signs and labels, and their positions in a scene."""

import random
from dataclasses import replace

from percept.world.elements import Scene, Thing, Word

WORDS: tuple[str, ...] = tuple(
    """
    open closed sale hello exit halt go yes no new old free menu taxi bar hotel shop market museum park school
    bank post office police fire help danger push pull in out up down left right north south east west today now
    later never always monday friday sunday summer winter spring autumn morning night noon week year time day
    tea coffee milk water juice soup bread rice salt sugar honey butter cheese fresh spice cold sweet sour big
    fast slow quiet loud clean wet dry soft hard warm cool happy lucky love peace home welcome thanks please
    enter wait start end begin final first last next best super extra mega mini max plus turbo power energy
    magic dream hope joy smile music dance song jazz rock radio cinema theatre circus zoo farm garden river lake
    island city town london paris rome berlin tokyo lima oslo cairo zone area level floor room lift stairs
    toilet ticket price cash only
    """.split()  # noqa: SIM905 - readable as a list of words only like this
)
"""Short common words. None of them is the name of a category or a colour of the world."""

BOARDS = (
    ("black", "white"),
    ("white", "black"),
    ("blue", "white"),
    ("white", "blue"),
    ("red", "white"),
    ("white", "red"),
    ("black", "yellow"),
    ("white", "green"),
    ("black", "cyan"),
    ("brown", "white"),
)
"""(Text, board) colours with good contrast."""
_BLANK = ("black", "white", "red", "blue")
"""Colours of text without a board, which gets an outline of the opposite lightness."""


def sample_words(rng: random.Random, scene: Scene) -> tuple[Word, ...]:
    """Sample one word, rarely two, at positions where they hide little; none if there is no such position."""
    words: list[Word] = []
    for _ in range(2 if rng.random() < 0.12 else 1):
        word = _sample_word(rng, scene)
        spots = [_move(rng, word, scene) for _ in range(14)]
        costs = [sum(_overlap(spot, thing) for thing in scene.things) for spot in spots]
        costs = [
            cost + 9 * any(_collide(spot, placed) for placed in words) for cost, spot in zip(costs, spots, strict=True)
        ]
        best = min(range(len(spots)), key=costs.__getitem__)
        if costs[best] < 0.3:
            words.append(spots[best])
    return tuple(words)


def _sample_word(rng: random.Random, scene: Scene) -> Word:
    word = draw_word(rng)
    if word.width > 0.9 * scene.width:
        word = replace(word, size=word.size * (0.9 * scene.width / word.width))
    return word


def draw_word(rng: random.Random, size: float | None = None) -> Word:
    """Draw a word and its print, without a position. `size` is the font size, random if None."""
    text, drawn = rng.choice(WORDS), rng.choice((0.11, 0.13, 0.16, 0.2))
    case = rng.choice(("lower", "upper", "title"))
    colour, board = rng.choice(BOARDS) if rng.random() < 0.65 else (rng.choice(_BLANK), "")
    return Word(text=text, x=0.0, y=0.0, size=size or drawn, colour=colour, board=board, case=case)


def _move(rng: random.Random, word: Word, scene: Scene) -> Word:
    half, tall = word.width / 2, 0.75 * word.size
    x = rng.uniform(half, max(half, scene.width - half))
    y = rng.uniform(tall, scene.height - tall)
    return Word(text=word.text, x=x, y=y, size=word.size, colour=word.colour, board=word.board, case=word.case)


def _overlap(word: Word, thing: Thing) -> float:
    """Estimate the share of a thing that a word hides."""
    reach = 0.42 * thing.scale
    across = min(word.x + word.width / 2, thing.x + reach) - max(word.x - word.width / 2, thing.x - reach)
    down = min(word.y + 0.7 * word.size, thing.middle + reach) - max(word.y - 0.7 * word.size, thing.middle - reach)
    return max(0.0, across) * max(0.0, down) / (2 * reach) ** 2


def _collide(a: Word, b: Word) -> bool:
    return abs(a.x - b.x) < (a.width + b.width) / 2 and abs(a.y - b.y) < 0.8 * (a.size + b.size)
