"""Rename keys by ordered rules, in both directions; no two keys become one, and keys that a layout does not have are marked."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from percept.core.errors import PerceptError

Rules = tuple[tuple[str, str], ...]
STRANGE = "? "
"""Prefix of a key that its layout does not have, so that it cannot be taken for one of our names."""


def rename(key: str, rules: Rules) -> str:
    """Apply all rules to a key, one after the other.

    >>> rename("blocks.0.norm1.bias", ((r"\\bnorm([12])\\.", r"norm_\\1."),))
    'blocks.0.norm_1.bias'
    """
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


@dataclass(frozen=True)
class Names:
    """The names of a layout and ours: rules for both directions.

    >>> names = Names(((r"^proj$", "projection"),), ((r"^projection$", "proj"),))
    >>> names.ours("proj"), names.ours("projection")
    ('projection', '? projection')
    """

    inward: Rules
    outward: Rules

    def ours(self, key: str) -> str:
        """Return our name of a key, or the marked key if the rules do not lead back to it."""
        name = rename(key, self.inward)
        return name if rename(name, self.outward) == key else STRANGE + key

    def theirs(self, name: str) -> str:
        """Return the key of one of our names; a marked key loses its mark."""
        return name.removeprefix(STRANGE) if name.startswith(STRANGE) else rename(name, self.outward)


def renamed(state: Mapping[Any, Any], name: Callable[[Any], str]) -> dict[str, Any]:
    """Rename all keys of a state.

    Raises:
        PerceptError: two keys would have the same name.
    """
    origins: dict[str, Any] = {}
    for key in state:
        first = origins.setdefault(name(key), key)
        if first is not key:
            raise PerceptError(f"the keys {first} and {key} of this file both map to {name(key)}; remove one of them")
    return {new: state[key] for new, key in origins.items()}
