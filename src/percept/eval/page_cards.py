"""Facts about saved cards for a page: names, evaluations, first scores, images, machines, and the clearly best value of a row."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from percept.eval.card import is_of_world
from percept.eval.statistics import Score
from percept.eval.table import WITHOUT_SAMPLES

HEADLINES = (
    ("zeroshot", "category top-1"),
    ("zeroshot", "colour top-1"),
    ("retrieval", "caption→image R@1"),
    ("retrieval", "image→caption R@1"),
    ("video", "caption→clip R@1"),
    ("robustness", "mean of the styles"),
    ("artists", "mean of the 4 domains"),
    ("dense", "mIoU of groups"),
    ("dense", "depth error (RMSE, 0 to 1)"),
    ("correspondence", "PCK@0.2"),
    ("calibration", "ECE"),
    ("speed", "images per second"),
    ("speed", "images, share of the peak"),
    ("speed", "texts per second"),
    ("memory", "peak while a batch is embedded"),
)
"""Evaluation and score of each row of the first table."""
TITLES = {
    "zeroshot": "Classification",
    "retrieval": "Retrieval",
    "video": "Video",
    "robustness": "Robustness",
    "artists": "Drawings by artists",
    "dense": "Dense tasks",
    "correspondence": "Correspondence",
    "calibration": "Calibration",
    "speed": "Speed",
    "memory": "Memory",
}


def unique(names: Sequence[str]) -> list[str]:
    """Number names that occur more than once.

    >>> unique(["nano", "mine", "nano"])
    ['nano (1)', 'mine', 'nano (2)']
    """
    return [
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]


def score_of(row: Mapping[str, Any]) -> Score:
    """Return the score of a row of a card."""
    return Score(**{name: row[name] for name in ("name", "value", "unit", "better", "n", "low", "high")})


def rows_of(card: Mapping[str, Any], evaluation: str) -> dict[str, Mapping[str, Any]]:
    """Return the scores of an evaluation by name."""
    return {row["name"]: row for row in card["scores"] if row["evaluation"] == evaluation}


def evaluations_of(cards: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the evaluations of which some card has scores: those of the suite first, in its order."""
    present = dict.fromkeys(row["evaluation"] for card in cards for row in card["scores"])
    return [name for name in TITLES if name in present] + [name for name in present if name not in TITLES]


def machines_of(cards: Sequence[Mapping[str, Any]]) -> set[tuple[Any, Any]]:
    """Return the machines and devices on which the models were measured."""
    return {(card["facts"].get("machine"), card["facts"].get("device")) for card in cards}


def images_of(card: Mapping[str, Any]) -> str:
    """Return which images a card is about: those of the world, sets of files, or both."""
    data = card.get("data", ())
    sets = [f"{each['name']}, {each['samples']:,} samples, hash {each['hash'][:12]}" for each in data]
    if is_of_world(((row["evaluation"], row["name"]) for row in card["scores"]), data):
        sets = [f"{card['split']} split, seed {card['seed']}", *sets]
    return "; ".join(sets)


def counts_differ(cards: Sequence[Mapping[str, Any]]) -> bool:
    """True if a score was measured on more images in one card than in another. Speed and memory have no images."""
    counts: dict[tuple[str, str], set[int]] = {}
    for row in (row for card in cards for row in card["scores"] if row["evaluation"] not in WITHOUT_SAMPLES):
        counts.setdefault((row["evaluation"], row["name"]), set()).add(row["n"])
    return any(len(numbers) > 1 for numbers in counts.values())


def headlines(cards: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the rows of the first table. An evaluation without a score in `HEADLINES` has its first score there."""
    chosen: dict[tuple[str, str], None] = {}
    for card in cards:
        present = dict.fromkeys((row["evaluation"], row["name"]) for row in card["scores"])
        usual = [pair for pair in HEADLINES if pair in present]
        first = {evaluation: (evaluation, name) for evaluation, name in reversed(present)}
        named = {evaluation for evaluation, _ in usual}
        chosen |= dict.fromkeys([*usual, *(pair for name, pair in first.items() if name not in named)])
    order = {name: place for place, name in enumerate(evaluations_of(cards))}
    return sorted(chosen, key=lambda pair: order[pair[0]])


def less_is_better(found: Iterable[Mapping[str, Any] | None]) -> bool:
    """True if a smaller value of these scores is better."""
    return any(row and row["better"] == "less" for row in found)


def clear_best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the row whose interval is better than all other intervals; None if there is none, or only one row."""
    if less_is_better(rows):
        clear = [row for row in rows if all(row["high"] < other["low"] for other in rows if other is not row)]
    else:
        clear = [row for row in rows if all(row["low"] > other["high"] for other in rows if other is not row)]
    return clear[0] if clear and len(rows) > 1 else None
