"""Rows of several files as one."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from percept.data.sources.sample import Rows, Sample, check_index


@dataclass(frozen=True)
class JoinedRows:
    """The rows of several files, one file after the other."""

    name: str
    parts: Sequence[Any]
    """Rows of the files."""
    ends: tuple[int, ...]
    """Rows up to the end of each file."""

    @classmethod
    def of(cls, parts: Sequence[Rows], name: str) -> Rows:
        """Join rows; those of a single file stay what they are."""
        return parts[0] if len(parts) == 1 else cls(name, tuple(parts), tuple(accumulate(len(part) for part in parts)))

    def __len__(self) -> int:
        return self.ends[-1]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, where the first file has them."""
        return getattr(self.parts[0], "classes", ())

    def key(self, index: int) -> str:
        """Return the key of a row in its file."""
        part, row = self._place(index)
        return part.key(row)

    def where(self, index: int) -> str:
        """Return the place of a row in its file, for messages."""
        part, row = self._place(index)
        return getattr(part, "where", part.key)(row)

    def read(self, index: int) -> Sample:
        """Read a row of its file."""
        check_index(self, index)
        part, row = self._place(index)
        return part.read(row)

    def member(self, index: int, ending: str) -> bytes | None:
        """Return the member of a row of shards with an ending, see `TarRows.member`."""
        part, row = self._place(index)
        return part.member(row, ending)

    def _place(self, index: int) -> tuple[Any, int]:
        number = bisect_right(self.ends, index)
        return self.parts[number], index - (self.ends[number - 1] if number else 0)
