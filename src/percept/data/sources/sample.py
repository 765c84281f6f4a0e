"""One row of a source as plain data, and what every reader of rows offers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from percept.core.errors import PerceptError

Media: TypeAlias = Path | bytes
"""An image or video as it is stored: the path of a file, or its bytes."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A row, read but not decoded."""

    key: str
    """Identifies the row within its source; the same in every run."""
    images: tuple[Media, ...] = ()
    """Encoded images of the row, in order."""
    video: Media | None = None
    """Encoded video of the row."""
    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Texts by the name of their field; a field may hold several alternatives."""
    label: str | None = None
    """Name of the class of the row."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """All other fields of the row, as in the file. `conversations` has the turns of `percept.data.sources.conversation`."""


class BadSample(PerceptError):
    """A row that cannot be used. The reason is a short phrase of which there are few; the detail says more."""

    def __init__(self, reason: str, key: str, detail: str = "") -> None:
        self.reason, self.key, self.detail = reason, key, detail
        super().__init__(f"{key} cannot be used: {reason}" + (f" ({detail})" if detail else ""))

    def __reduce__(self) -> tuple[type["BadSample"], tuple[str, str, str]]:
        """Copy the three arguments to another process; an exception would send only its message."""
        return type(self), (self.reason, self.key, self.detail)


def check_index(rows: "Rows", index: int) -> None:
    """Check the number of a row.

    Raises:
        PerceptError: there is no such row.
    """
    if not 0 <= index < len(rows):
        raise PerceptError(f"{rows.name} has no row {index}. Its {len(rows)} rows are numbered from 0.")


@runtime_checkable
class Rows(Protocol):
    """Random access to the rows of a source. It can be copied to other processes, and opens its files where it reads them."""

    @property
    def name(self) -> str:
        """What messages call the source."""
        ...

    def __len__(self) -> int:
        """Return the number of rows, broken ones included."""
        ...

    def key(self, index: int) -> str:
        """Return the key of a row without decoding anything."""
        ...

    def read(self, index: int) -> Sample:
        """Read a row.

        Raises:
            BadSample: the row cannot be read.
        """
        ...
