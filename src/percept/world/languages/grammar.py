"""What a caption in another language needs: nouns, and functions that put them in agreement."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """A noun with its forms."""

    one: str
    """Singular."""
    many: str
    """Plural."""
    gender: str
    """Gender of the article: "m", "f" or "n"."""
    agrees: str = ""
    """Gender and number of adjectives ("fp": feminine plural) if they do not follow the noun itself."""
    dative: str = ""
    """Dative singular if it differs from `one`."""


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """A language, as far as captions need it."""

    nouns: Mapping[str, Noun]
    """English category → noun."""
    name: Callable[[str, str, str, int], str]
    """Function of category, colour, pattern and number that returns a noun phrase in the nominative, with article."""
    related: Callable[[str, str, str], str]
    """Function of category, colour and relation that returns the relation with its object."""
    places: Mapping[str, tuple[str, ...]]
    """Background → phrases."""
    openings: tuple[tuple[str, str], ...]
    """Words before one thing, and before several things."""
    word: str
    """Phrase for a printed word."""
    conjunction: str
    """"and"."""


def parse_nouns(text: str) -> dict[str, Noun]:
    """Read lines `english: singular, plural, gender[, agrees[, dative]]`; an empty field may be left out.

    >>> parse_nouns("cat: Katze, Katzen, f")["cat"].many
    'Katzen'
    """
    nouns = {}
    for line in text.strip().splitlines():
        category, forms = line.split(":")
        nouns[category.strip()] = Noun(*(form.strip() for form in forms.split(",")))
    return nouns
