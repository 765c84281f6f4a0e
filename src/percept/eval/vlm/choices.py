"""Multiple choice: the letter of an answer, the choice by likelihood, and binary questions that count in groups (MBAcc)."""

import re
from collections.abc import Sequence

from percept.eval.vlm.item import Version
from percept.eval.vlm.texts import plain

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MARKS = r"[\s:=*\"'(\[]*"
_STATED = re.compile(
    rf"\b(?i:answer|option|choice)\b{_MARKS}(?i:is\b)?{_MARKS}(?:([A-Z])\b(?!')|([a-z])(?=[\s\"'*]*$|[.:)\],\n]))"
)
_BRACKETED = re.compile(r"[\(\[]\s*([A-Za-z])\s*[\)\]]")
_LEADING = re.compile(r"^[\s\"'*]*([A-Za-z])(?:[\s\"'*]*$|[.:)\],\n])")


def lettered(options: Sequence[str]) -> str:
    """Return options as lines with letters.

    >>> lettered(["red", "blue"])
    '(A) red\\n(B) blue'
    """
    return "\n".join(f"({LETTERS[number]}) {option}" for number, option in enumerate(options))


def chosen(text: str, options: Sequence[str]) -> int | None:
    """Return the number of the option that an answer names, or None if it names none, or several.

    Looked for in this order: the whole answer is the text of an option; a letter at the beginning, alone or before a
    mark; a letter after "answer", "option" or "choice"; the only letter in brackets; the only option whose text occurs.

    >>> [chosen(text, ["red", "dark blue"]) for text in ("B", "(b) dark blue", "The answer is A.", "it is dark blue", "A or (B)")]
    [1, 1, 0, 1, 1]
    >>> chosen("a red car or a dark blue one", ["red", "dark blue"]) is None
    True
    """
    texts = [plain(option) for option in options]
    if plain(text) and texts.count(plain(text)) == 1:
        return texts.index(plain(text))
    letters = LETTERS[: len(options)]
    for pattern in (_LEADING, _STATED):
        match = pattern.search(text)
        letter = (match[1] or match[match.lastindex or 1]).upper() if match else ""
        if letter and letter in letters:
            return letters.index(letter)
    bracketed = {letter.upper() for letter in _BRACKETED.findall(text) if letter.upper() in letters}
    if bracketed:
        return letters.index(bracketed.pop()) if len(bracketed) == 1 else None
    spaced = f" {plain(text)} "
    named = [number for number, option in enumerate(texts) if option and f" {option} " in spaced]
    return named[0] if len(named) == 1 else None


def most_likely(likelihoods: Sequence[float]) -> int:
    """Return the number of the most likely option, the first one of equals.

    >>> most_likely([-2.0, -1.5, -1.5])
    1
    """
    return max(range(len(likelihoods)), key=lambda number: likelihoods[number])


def binary_right(text: str, options: Sequence[str], answer: int, version: Version = "fixed") -> bool:
    """Return True if the answer to a question with two options is right.

    `published` compares the part before the first space with "(a)" or "(b)": right if one contains the other, after full stops are
    removed. A lone full stop or bracket is therefore always right. `fixed` uses `chosen`.

    >>> binary_right("(B)", ["red", "blue"], 1), binary_right("(", ["red", "blue"], 1)
    (True, False)
    >>> binary_right("(", ["red", "blue"], 1, "published"), binary_right("Answer: b.", ["red", "blue"], 0, "published")
    (True, False)
    """
    if version == "fixed":
        return chosen(text, options) == answer
    text = text.lower()
    first = (text.replace("answer:", "").strip() if "answer:" in text else text).split(" ")[0]
    gold = f"({LETTERS[answer].lower()})"
    return bool(first) and (first.replace(".", "") in gold or gold in first)


def mbacc(right: Sequence[bool], groups: Sequence[str]) -> list[bool]:
    """Return for each group, in order of appearance, whether all of its answers are right (multi-binary accuracy).

    Cho et al. 2025, arXiv:2504.13180, section 5: a question counts only if it is answered correctly against every distractor.

    >>> mbacc([True, True, True, False], ["q1", "q1", "q2", "q2"])
    [True, False]
    """
    by_group: dict[str, bool] = {}
    for answer, group in zip(right, groups, strict=True):
        by_group[group] = by_group.get(group, True) and bool(answer)
    return list(by_group.values())
