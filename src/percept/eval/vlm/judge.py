"""Judges of free answers and captions, and the offline judge that follows rules."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from percept.eval.vlm.stem import stem
from percept.eval.vlm.texts import ARTICLES, NUMBERS, words_of
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS


@dataclass(frozen=True, kw_only=True)
class Case:
    """A prediction to be judged."""

    kind: Literal["answer", "caption"]
    """answer: is it right? caption: how much of the reference does it say?"""
    prediction: str
    reference: str
    question: str = ""
    """Of an answer."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a judge says about a case."""

    score: float
    """From 0 to 1."""
    right: bool
    """Of an answer: whether it counts as right."""
    understood: bool = True
    """False if the judge's reply could not be read; the score is then 0, unless a yes was found in it."""
    reply: str = ""
    """What a language model replied."""


@runtime_checkable
class Judge(Protocol):
    """Grades predictions against references."""

    @property
    def name(self) -> str:
        """What the scores name as their judge."""
        ...

    def __call__(self, cases: Sequence[Case], /) -> list[Verdict]:
        """Return a verdict for each case, in order.

        Raises:
            PerceptError: the judge cannot be reached.
        """
        ...


_FILLERS = {
    *ARTICLES, "is", "are", "was", "were", "be", "it", "its", "there", "of", "in", "on", "at", "to", "and", "that", "this",
    "which", "with", "then", "as",
}  # fmt: skip
_SPELLINGS = {"color": "colour", "gray": "grey", "toward": "towards", "quick": "quickly", "slow": "slowly"}
_RIVALS: tuple[Iterable[str], ...] = (
    COLOURS,
    CATEGORIES,
    NUMBERS.values(),
    ("left", "right", "up", "down", "above", "below", "towards", "away"),
    ("clockwise", "counter-clockwise"),
    ("slowly", "quickly"),
    ("yes", "no"),
    ("before", "after", "first", "last"),
    ("grows", "shrinks"),
    ("enters", "leaves"),
    ("appears", "vanishes"),
)
"""Words of which a different one contradicts."""
NEGATIONS = {"no", "not", "never", "nothing", "none", "without"}
RIGHT = 0.5
"""Least score of a right answer."""
CONTRADICTED = 0.25
"""Factor of the score of a prediction that contradicts its reference."""


class RulesJudge:
    """Compares words by rules: no network, the same verdict every time.

    The score of an answer is the F-measure of its stemmed words without fillers; that of a caption is the recall, because a caption may say more.
    It is divided by 4 if the prediction contradicts the reference: it has a different colour, kind of object, number, direction, pace or
    order where the reference has one, or a negation that the reference lacks, or the reverse. It is a stand-in for a language model: it
    takes no synonyms, and its scores compare only with its own.
    """

    name = "rules"

    def __call__(self, cases: Sequence[Case], /) -> list[Verdict]:
        """Return a verdict for each case."""
        return [_verdict(case) for case in cases]


def _verdict(case: Case) -> Verdict:
    given, expected = _words(case.prediction), _words(case.reference)
    shared = _shared(given, expected)
    recall = shared / len(expected) if expected else float(not given)
    precision = shared / len(given) if given else float(not expected)
    f_measure = 2 * precision * recall / (precision + recall) if shared else float(given == expected)
    score = recall if case.kind == "caption" else f_measure
    if contradicts(case.prediction, case.reference, more=case.kind == "caption"):
        score *= CONTRADICTED
    return Verdict(score=score, right=score >= RIGHT)


def _words(text: str) -> list[str]:
    words = (_SPELLINGS.get(word, word) for word in _split(text))
    return [stem(NUMBERS.get(word, word)) for word in words if word not in _FILLERS]


def _split(text: str) -> list[str]:
    return words_of(text.replace("counter-clockwise", "counterclockwise"))


def _shared(given: Sequence[str], expected: Sequence[str]) -> int:
    left = list(expected)
    for word in given:
        if word in left:
            left.remove(word)
    return len(expected) - len(left)


def contradicts(prediction: str, reference: str, *, more: bool = True) -> bool:
    """Return True if a prediction has a different word of a group in which only one can be right.

    >>> contradicts("a red cup", "a blue cup"), contradicts("it is not there", "it is there"), contradicts("a cup", "a blue cup")
    (True, True, False)

    Args:
        more: a prediction may name further members of a group.
    """
    if (NEGATIONS & set(_split(prediction)) != set()) != (NEGATIONS & set(_split(reference)) != set()):
        return bool(_split(prediction))
    pairs = zip(_named(prediction), _named(reference), strict=True)
    return any(
        given and expected and not (_contains(given, expected) if more else given == expected)
        for given, expected in pairs
    )


def _contains(given: Sequence[str], expected: Sequence[str]) -> bool:
    """Return True if all of `expected` are in `given`, in the same order."""
    rest = iter(given)
    return all(any(word == other for other in rest) for word in expected)


def _named(text: str) -> list[list[str]]:
    """Return the members of each group in a text, in order; the longest name that fits counts."""
    words = f" {' '.join(NUMBERS.get(word, word) for word in (_SPELLINGS.get(each, each) for each in _split(text)))} "
    return [pattern.findall(words) for pattern in _PATTERNS]


def _pattern(members: Iterable[str]) -> re.Pattern[str]:
    names = sorted((member.replace("-", "") for member in members), key=len, reverse=True)
    return re.compile(rf"(?<= )(?:{'|'.join(map(re.escape, dict.fromkeys(names)))})(?:e?s)?(?= )")


_PATTERNS = [_pattern(group) for group in _RIVALS]
