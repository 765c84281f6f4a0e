"""Keys by ordered rules, there and back; no key takes the place of another, and what a layout does not know is marked."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from percept.core.errors import PerceptError

Rules = tuple[tuple[str, str], ...]
STRANGE = "? "
"""Stands before a key that its layout does not have, so that it cannot pass for a name of ours."""


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
    """The names of a layout and ours: rules for either way.

    >>> names = Names(((r"^proj$", "projection"),), ((r"^projection$", "proj"),))
    >>> names.ours("proj"), names.ours("projection")
    ('projection', '? projection')
    """

    inward: Rules
    outward: Rules

    def ours(self, key: str) -> str:
        """Return our name of a key, or the key with a mark where the rules do not lead back to it."""
        name = rename(key, self.inward)
        return name if rename(name, self.outward) == key else STRANGE + key

    def theirs(self, name: str) -> str:
        """Return the key of one of our names; a marked one is what stands behind the mark."""
        return name.removeprefix(STRANGE) if name.startswith(STRANGE) else rename(name, self.outward)


def renamed(state: Mapping[Any, Any], name: Callable[[Any], str]) -> dict[str, Any]:
    """Give everything in a state another name.

    Raises:
        PerceptError: two keys would have the same name.
    """
    origins: dict[str, Any] = {}
    for key in state:
        other = origins.setdefault(name(key), key)
        if other is not key:
            raise PerceptError(
                f"the keys {other} and {key} of this file are one tensor here, {name(key)}; take out the one that does "
                "not belong there"
            )
    return {new: state[key] for new, key in origins.items()}
