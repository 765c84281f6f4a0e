"""Blind ratings of captions by people: what is shown, which arm it came from, and what the ratings say.

A rater sees an image and a caption, without the arm that made it, and gives both questions of `QUESTIONS` 1 to 5. The arms are in a key file
that the page (`percept.eval.rating_page`) does not contain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from percept.core.errors import PerceptError
from percept.core.io import content_hash, read_object
from percept.core.seed import derive
from percept.eval.statistics import RESAMPLES, Score, mean

QUESTIONS = {"natural": "The caption reads naturally.", "true": "The caption is true of the image."}
"""Name and statement, which a rater disagrees (1) or agrees (5) with."""
LOWEST, HIGHEST = 1, 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """One caption to rate."""

    image: np.ndarray
    """Pixels [y, x, 3], uint8."""
    caption: str
    source: int
    """Number of the original caption; arms are compared on equal sources."""
    arm: str
    """What made the caption; not shown to the rater."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Captions in the order in which they are rated."""

    name: str
    """Identifies the sheet; ratings of another sheet are refused."""
    rows: tuple[Shown, ...]

    @classmethod
    def shuffled(cls, rows: Sequence[Shown], *, seed: int = 0) -> "Sheet":
        """Return the captions in random order; equal captions of one image are rated once.

        Raises:
            PerceptError: there are no captions.
        """
        if not rows:
            raise PerceptError("there are no captions to rate. Give at least one.")
        order = np.random.default_rng(derive(seed, "blind rating")).permutation(len(rows))
        once = {(row.source, row.caption): row for row in (rows[place] for place in order)}
        listed = "\n".join(f"{source}\t{caption}" for source, caption in once)
        return cls(name=content_hash(f"{seed}\n{listed}".encode())[:12], rows=tuple(once.values()))

    def key(self, rows: Sequence[Shown]) -> dict[str, Any]:
        """Return what the ratings are evaluated with: the sources and arms of every caption of the sheet."""
        arms: dict[tuple[int, str], list[str]] = {}
        for row in rows:
            arms.setdefault((row.source, row.caption), []).append(row.arm)
        listed = [
            {"source": row.source, "caption": row.caption, "arms": arms[row.source, row.caption]} for row in self.rows
        ]
        return {"sheet": self.name, "questions": QUESTIONS, "rows": listed}


@dataclass(frozen=True, kw_only=True)
class Ratings:
    """Ratings of several people on one sheet."""

    key: Mapping[str, Any]
    raters: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    """Ratings [raters, captions] by question; NaN where a caption was not rated."""


def read_ratings(key_file: Path, files: Sequence[Path]) -> Ratings:
    """Read a key file and the files that raters saved from the page.

    Raises:
        PerceptError: a file is not what it should be, belongs to another sheet, or two have the same rater.
    """
    key = read_object(key_file)
    if not {"sheet", "rows"} <= set(key):
        raise PerceptError(f"{key_file} is not a key file. Give the file that was written together with the page.")
    if not files:
        raise PerceptError("there are no ratings. Give at least one file that a rater saved from the page.")
    found: dict[str, dict[str, np.ndarray]] = {}
    for file in files:
        rater, values = _one_rater(file, key)
        if rater in found:
            raise PerceptError(f"{file} is a second file of the rater {rater!r}. Give one file per rater.")
        found[rater] = values
    values = {question: np.stack([each[question] for each in found.values()]) for question in QUESTIONS}
    return Ratings(key=key, raters=tuple(found), values=values)


def _one_rater(file: Path, key: Mapping[str, Any]) -> tuple[str, dict[str, np.ndarray]]:
    given = read_object(file)
    if not isinstance(given.get("ratings"), dict) or "sheet" not in given:
        raise PerceptError(f"{file} does not hold ratings. Give a file that was saved from the page.")
    if given["sheet"] != key["sheet"]:
        raise PerceptError(
            f"{file} rates the sheet {given['sheet']!r}, but the key is of {key['sheet']!r}. Give its key."
        )
    values = {question: np.full(len(key["rows"]), np.nan) for question in QUESTIONS}
    for place, answers in given["ratings"].items():
        if not isinstance(answers, dict):
            raise PerceptError(
                f"{file} gives caption {place} {answers!r} in place of its ratings. Save it again from the page."
            )
        for question, value in answers.items():
            _check(file, place, question, value, len(key["rows"]))
            values[question][int(place)] = value
    if all(np.isnan(each).all() for each in values.values()):
        raise PerceptError(f"{file} holds no rating. Rate at least one caption before saving.")
    return str(given.get("rater") or file.stem), values


def _check(file: Path, place: str, question: str, value: Any, count: int) -> None:
    if not (str(place).isdecimal() and int(place) < count and question in QUESTIONS):
        raise PerceptError(
            f"{file} rates {question!r} of caption {place}, which the sheet does not have. Save it again from the page."
        )
    if not isinstance(value, int) or isinstance(value, bool) or not LOWEST <= value <= HIGHEST:
        raise PerceptError(
            f"{file} gives caption {place} {value!r}. Ratings are whole numbers from {LOWEST} to {HIGHEST}."
        )


def by_arm(ratings: Ratings, *, seed: int = 0) -> dict[str, list[Score]]:
    """Return the mean rating of every arm per question; the interval is over captions, each with the mean of its raters."""
    places = _places(ratings.key)
    scores: dict[str, list[Score]] = {}
    for arm, sources in places.items():
        for question, values in ratings.values.items():
            rated = _rated(values[:, list(sources.values())])
            if len(rated):
                scores.setdefault(arm, []).append(mean(question, rated, unit="", seed=seed))
    return scores


def differences(ratings: Ratings, arm: str, *, seed: int = 0) -> dict[str, list[Score]]:
    """Return how much higher `arm` is rated than every other arm, paired by the original caption.

    Raises:
        PerceptError: the sheet does not have the arm.
    """
    places = _places(ratings.key)
    if arm not in places:
        raise PerceptError(f"the sheet has no arm {arm!r}. Give one of {', '.join(places)}.")
    scores: dict[str, list[Score]] = {}
    for other, sources in places.items():
        shared = [source for source in sources if source in places[arm]] if other != arm else []
        for question, values in ratings.values.items():
            pair = [values[:, [places[each][source] for source in shared]] for each in (arm, other)]
            rated = _rated(pair[0] - pair[1])
            if len(rated):
                scores.setdefault(other, []).append(mean(question, rated, unit="", seed=seed))
    return scores


def agreement(values: np.ndarray, *, seed: int = 0) -> Score | None:
    """Return Krippendorff's alpha of ratings [raters, captions] on an interval scale, with captions resampled; None if no caption has two.

    1 is perfect agreement, 0 that of chance. Krippendorff 2011, "Computing Krippendorff's alpha-reliability".
    """
    columns = [column[~np.isnan(column)] for column in values.T]
    columns = [column for column in columns if len(column) > 1]
    if not columns:
        return None
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(columns), (RESAMPLES // 2, len(columns)))
    draws = [alpha([columns[place] for place in row]) for row in picks]
    low, high = np.nanquantile(draws, (0.025, 0.975)) if not np.isnan(draws).all() else (np.nan, np.nan)
    return Score(name="agreement", value=alpha(columns), unit="", n=len(columns), low=float(low), high=float(high))


def alpha(units: Sequence[np.ndarray]) -> float:
    """Return Krippendorff's alpha of units of at least two ratings each; NaN if all ratings are equal.

    >>> round(alpha([np.array([1, 1]), np.array([2, 3])]), 3)
    0.727
    """
    everything = np.concatenate(units).astype(float)
    observed = sum(_square_differences(unit) / (len(unit) - 1) for unit in units) / len(everything)
    expected = _square_differences(everything) / (len(everything) - 1) / len(everything)
    return float(1 - observed / expected) if expected > 0 else float("nan")


def _square_differences(values: np.ndarray) -> float:
    """Return the sum of squared differences over all ordered pairs."""
    values = np.asarray(values, float)
    return float(2 * (len(values) * np.square(values).sum() - values.sum() ** 2))


def _rated(values: np.ndarray) -> np.ndarray:
    """Return the mean over raters of every caption that has one."""
    known = ~np.isnan(values)
    some = known.any(axis=0)
    return np.where(known, values, 0).sum(axis=0)[some] / known.sum(axis=0)[some]


def _places(key: Mapping[str, Any]) -> dict[str, dict[int, int]]:
    """Return, by arm and original caption, the place of the caption on the sheet."""
    places: dict[str, dict[int, int]] = {}
    for place, row in enumerate(key["rows"]):
        for arm in row["arms"]:
            places.setdefault(arm, {})[row["source"]] = place
    return dict(sorted(places.items()))


def rater_pairs(ratings: Ratings, question: str) -> dict[str, float]:
    """Return the share of captions that two raters rate within one point of each other, for all pairs of raters."""
    values, found = ratings.values[question], {}
    for one, other in combinations(range(len(ratings.raters)), 2):
        gaps = np.abs(values[one] - values[other])
        gaps = gaps[~np.isnan(gaps)]
        if len(gaps):
            found[f"{ratings.raters[one]}, {ratings.raters[other]}"] = float((gaps <= 1).mean())
    return found
