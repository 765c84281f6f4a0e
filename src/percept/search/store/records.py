"""What is stored in an index, and what is asked of it."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from percept.search.contracts import Stamp

KINDS = ("image", "video")


@dataclass(frozen=True, kw_only=True)
class Space:
    """The vectors of one model. An index may hold several spaces; queries use the current one."""

    id: int
    stamp: Stamp
    current: bool


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What one vector stands for: an image, or a span of a video."""

    id: int
    content: int
    """Number of the distinct image or video; several files may hold it."""
    hash: str
    """BLAKE2b of the file's bytes."""
    kind: str
    """image or video."""
    width: int
    """Pixels, upright."""
    height: int
    start: float | None
    """First second of the span; None for an image."""
    stop: float | None
    """Second at which the span ends; None for an image."""
    seconds: float | None
    """Length of the whole video; None for an image."""
    taken: float | None
    """When it was taken, seconds since 1970; None if the file does not say."""
    paths: tuple[Path, ...]
    """Files that hold it, in order."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Condition on pieces; a piece passes if one of its files meets all parts of it.

    Patterns are those of the shell (`*` also matches /) and are compared with the absolute path; a pattern that does not
    begin with / or * may begin at any folder.
    """

    include: tuple[str, ...] = ()
    """Patterns of which at least one has to match; none means every path."""
    exclude: tuple[str, ...] = ()
    """Patterns of which none may match."""
    below: tuple[str, ...] = ()
    """Folders or files; the path has to be one of them or inside one."""
    kind: str | None = None
    """image or video."""
    after: float | None = None
    """Seconds since 1970: taken then or later; the time of the last change counts where the file does not say."""
    before: float | None = None
    """Seconds since 1970: taken earlier."""
    min_side: int | None = None
    """Pixels that the shorter side has at least."""
    max_side: int | None = None
    """Pixels that the longer side has at most."""


@dataclass(frozen=True, kw_only=True)
class NewContent:
    """A distinct image or video to store, with the vectors of its pieces."""

    hash: str
    kind: str
    width: int
    height: int
    vectors: Float[np.ndarray, "n d"]
    """One per piece; float32, unit length."""
    spans: tuple[tuple[float, float] | None, ...] = (None,)
    """[start, stop] in seconds of each piece; None for an image."""
    seconds: float | None = None
    taken: float | None = None
    thumbnail: bytes | None = None
    """JPEG, or None."""


@dataclass(frozen=True, kw_only=True)
class FileState:
    """A file and the data that shows a change without reading it."""

    path: Path
    bytes: int
    modified: int
    """Nanoseconds since 1970."""
    hash: str = ""
    """Hash of its content; empty if it was not read."""


@dataclass(frozen=True, kw_only=True)
class BadState:
    """A file that could not be read, and why; it is not read again until it changes."""

    path: Path
    bytes: int
    modified: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Root:
    """A folder that was indexed, and which of its files are selected."""

    path: Path
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False


@dataclass(frozen=True, kw_only=True)
class Status:
    """State of an index."""

    files: int
    images: int
    """Distinct images."""
    videos: int
    """Distinct videos."""
    pieces: int
    """Images and spans of videos that can be found."""
    dead: int
    """Vectors of removed pieces that are still stored."""
    pending: int
    """Files that have to be read again."""
    bad: int
    """Files that could not be read."""
    segments: int
    damaged: int
    """Rows of vectors in blocks that do not match their checksum."""
    vector_bytes: int
    database_bytes: int
    roots: tuple[Root, ...]


@dataclass(kw_only=True)
class Repair:
    """What a repair found."""

    rows: int = 0
    """Rows of vectors that were damaged and dropped."""
    files: list[Path] = field(default_factory=list)
    """Files whose vectors were lost; they have to be read again."""
    leftovers: int = 0
    """Files of interrupted writes that were deleted."""
