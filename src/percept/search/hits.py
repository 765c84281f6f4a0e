"""What is wanted from a search, and what it returns."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from percept.core.errors import PerceptError, unknown_name
from percept.search.question import Question
from percept.search.spans import LEVEL, Span
from percept.search.store import Filter

GROUPS = ("folder", "duplicate")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How many hits, which, and how they are put together."""

    top: int = 5
    """Number of hits; fewer if the index holds fewer."""
    where: Filter | None = None
    """Condition on the files."""
    min_score: float | None = None
    """Least cosine of a hit."""
    group: str | None = None
    """folder: one hit per folder. duplicate: one hit per group of near-duplicates."""
    above: float = 0.95
    """Cosine from which two hits are near-duplicates."""
    moments: bool = False
    """Hits are moments of videos, several of one video if it has them."""
    level: float = LEVEL
    """Where a moment ends; see `percept.search.spans.moments`."""

    def check(self) -> "Wanted":
        """Return the same.

        Raises:
            PerceptError: a value that cannot be used.
        """
        if self.top < 1:
            raise PerceptError(f"top must be at least 1, got {self.top}")
        if self.min_score is not None and not -1 <= self.min_score <= 1:
            raise PerceptError(f"min_score must be a cosine from -1 to 1, got {self.min_score}")
        if self.group is not None and self.group not in GROUPS:
            raise unknown_name("group", self.group, GROUPS)
        if not 0 < self.above <= 1:
            raise PerceptError(f"above must be a cosine from 0 to 1, got {self.above}")
        if not 0 <= self.level <= 1:
            raise PerceptError(f"level must be from 0 to 1, got {self.level}")
        if self.moments and self.group is not None:
            raise PerceptError("moments are hits of their own and cannot be grouped. Leave out group or moments.")
        if self.moments and self.where is not None and self.where.kind == "image":
            raise PerceptError("only videos have moments. Search for videos, or without moments.")
        return self

    @property
    def condition(self) -> Filter | None:
        """The filter, for videos alone if moments are wanted."""
        return replace(self.where or Filter(), kind="video") if self.moments else self.where


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One result of a search."""

    rank: int
    """From 1."""
    path: Path
    score: float
    """Cosine of the query and the image, or the best span of the video."""
    width: int
    """Pixels, upright."""
    height: int
    kind: str = "image"
    """image or video."""
    span: Span | None = None
    """The best span of a video."""
    spans: tuple[Span, ...] = ()
    """All moments of a video that stand out, best first."""
    seconds: float | None = None
    """Length of a video."""
    taken: float | None = None
    """When it was taken, seconds since 1970, if the file says so."""
    missing: bool = False
    """The file no longer exists."""
    copies: tuple[Path, ...] = ()
    """Other files with the same content."""
    group: str = ""
    """Folder of the group; empty without groups of folders."""
    others: tuple[Path, ...] = ()
    """Further hits of the group, best first."""
    content: int = 0
    """Number of the content in the index, by which its thumbnail is found."""
    other_contents: tuple[int, ...] = ()
    """Contents of `others`."""
    thumbnail: bytes | None = field(default=None, repr=False)
    """JPEG for a page or sheet; `percept.search.thumbnails.illustrated` adds it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A query with its hits."""

    question: Question
    hits: tuple[Hit, ...]
    searched: int
    """Images and spans of videos that were compared: those that pass the filter."""
    seconds: float
    exact: bool = True
    """False if an approximate index proposed the hits. Scores are exact in both cases."""

    @property
    def among(self) -> str:
        """Description of what was searched; copies count once."""
        return f"{self.searched:,} {'item' if self.searched == 1 else 'items'}"

    def __str__(self) -> str:
        return str(self.question)
