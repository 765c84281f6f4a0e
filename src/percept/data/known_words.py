"""The words of the texts that a model was trained on, so that a user hears about a word that it cannot know."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from percept.core.io import replacing

FILE = "words.txt"
"""Name of the file beside tokenizer.json: one word per line, sorted."""
MOST = 200_000
"""Most words that are kept, the most frequent ones."""
OFTEN = 5
"""Number of texts in which a word must occur before it counts as learned in a further stage of training."""
_WORD = re.compile(r"[^\W\d_]{3,}")


def words_of(text: str) -> list[str]:
    """Return the words of three or more letters, in lower case.

    >>> words_of("The CAFÉ's 2 red_cups")
    ['the', 'café', 'red', 'cups']
    """
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())


class WordCount:
    """Counts the words of texts that pass through."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def passing(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield the texts and count their words."""
        for text in texts:
            self._counts.update(words_of(text))
            yield text

    def known(self) -> frozenset[str]:
        """Return the words counted so far."""
        return frozenset(word for word, _ in self._counts.most_common(MOST))


def unknown(texts: Iterable[str], known: frozenset[str]) -> list[str]:
    """Return the words of texts that are not known, each once; a plural counts as known with its singular.

    >>> unknown(["two red cups", "a zebra"], frozenset({"two", "red", "cup"}))
    ['zebra']
    """
    found = dict.fromkeys(word for text in texts for word in words_of(text))
    return [word for word in found if not known.intersection((word, word.removesuffix("s"), word.removesuffix("es")))]


def save_words(words: frozenset[str], folder: Path) -> None:
    """Write the words beside a tokenizer."""
    with replacing(folder / FILE) as temporary:
        temporary.write_text("".join(f"{word}\n" for word in sorted(words)), encoding="utf-8")


def read_words(folder: Path) -> frozenset[str]:
    """Return the words beside a tokenizer; none if there is no such file."""
    try:
        return frozenset((folder / FILE).read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError):
        return frozenset()
