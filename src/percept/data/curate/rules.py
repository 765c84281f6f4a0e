"""Rules for captions that need no model and no language: length, repetition, boilerplate, share of letters, addresses."""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from percept.core.errors import PerceptError
from percept.data.curate.step import Plain
from percept.data.curate.store import Arrays, Chunk, Decision

BOILERPLATE = (
    r"^(untitled|image|picture|photo|img|dsc[fn]?|screenshot|thumbnail|logo|icon|banner|avatar)[\s_\-.]*\d*$",
    r"^[\w\-]+\.(jpe?g|png|gif|webp|bmp|tiff?|svg)$",
    r"^(click (here )?to (enlarge|zoom|view)|no (description|caption|image)( available)?|loading|see more|read more)\W*$",
    r"^(my upload|default|placeholder|null|none|n/?a|undefined)$",
    r"(all rights reserved|cookie policy|privacy policy|sign up for our newsletter|javascript is disabled)",
)
"""Patterns of captions that say nothing about an image; case is ignored."""
_ADDRESS = re.compile(r"(https?://|www\.)\S+|\S+@\S+\.\w+", re.IGNORECASE)
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0002fa1f]"
)


@dataclass(frozen=True, kw_only=True)
class TextRules(Plain):
    """Remove captions that break a rule. A row is removed when none of its captions remains."""

    min_words: int = 2
    """Fewest words; a letter of a script that is written without blanks counts as one."""
    max_words: int = 256
    """Most words."""
    min_characters: int = 3
    """Fewest characters."""
    max_characters: int = 2000
    """Most characters."""
    min_letters: float = 0.5
    """Smallest share of letters and marks of any script among the characters that are not blanks."""
    max_repeated: float = 0.6
    """Largest share of the words that repeat an earlier word, in captions of at least 4 words."""
    max_run: int = 8
    """Longest run of one character."""
    max_address: float = 0.5
    """Largest share of the characters in addresses of the web and of mail."""
    boilerplate: tuple[str, ...] = BOILERPLATE
    """Regular expressions of captions to remove; case is ignored."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_words <= self.max_words:
            raise PerceptError(
                f"min_words={self.min_words} and max_words={self.max_words} leave no caption. Change one of them."
            )
        for pattern in self.boilerplate:
            try:
                re.compile(pattern)
            except re.error as error:
                raise PerceptError(
                    f"the boilerplate pattern {pattern!r} is not a regular expression: {error}."
                ) from None

    def decide(self, chunk: Chunk, measured: Arrays, state: Arrays) -> Decision:
        """Remove the captions that break a rule."""
        return chunk.per_text([self.reason(text) for text in chunk.flat])

    def reason(self, text: str) -> str | None:
        """Return which rule a caption breaks first; None if it breaks none.

        >>> TextRules().reason("IMG_0042.jpg"), TextRules().reason("a red cup"), TextRules().reason("一只红色的杯子")
        ('boilerplate', None, None)
        """
        text = text.strip()
        words = words_of(text)
        solid = [letter for letter in text if not letter.isspace()]
        rules = (
            ("too few words", len(words) < self.min_words or len(text) < self.min_characters),
            ("too many words", len(words) > self.max_words or len(text) > self.max_characters),
            ("boilerplate", _any_of(self.boilerplate).search(text) is not None),
            ("mostly an address", _address_share(text) > self.max_address),
            ("too few letters", sum(map(_is_letter, solid)) < self.min_letters * len(solid)),
            ("repeated words", len(words) >= 4 and repeated(words) > self.max_repeated),
            ("repeated characters", longest_run(text) > self.max_run),
        )
        return next((name for name, broken in rules if broken), None)


def words_of(text: str) -> list[str]:
    """Split a text into words in lower case; each letter of a script written without blanks is a word.

    >>> words_of("A red 杯子!")
    ['a', 'red', '杯', '子']
    """
    spaced = _UNSPACED.sub(r" \g<0> ", text.lower())
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", spaced)


def repeated(words: list[str]) -> float:
    """Return the share of words that repeat an earlier one.

    >>> repeated(["buy", "buy", "buy", "cups"])
    0.5
    """
    return 1 - len(Counter(words)) / max(1, len(words))


def longest_run(text: str) -> int:
    """Return the length of the longest run of one character.

    >>> longest_run("wooow")
    3
    """
    return max((len(match[0]) for match in re.finditer(r"(.)\1*", text, re.DOTALL)), default=0)


def _address_share(text: str) -> float:
    return sum(len(match[0]) for match in _ADDRESS.finditer(text)) / max(1, len(text))


def _is_letter(letter: str) -> bool:
    return letter.isalpha() or unicodedata.category(letter)[0] == "M"


@lru_cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)", re.IGNORECASE)
