"""Asking an index: by text, by picture, or by both at once; exact, by one matrix product."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.report import printable
from percept.data.images import ImageSource
from percept.search.build import prepared
from percept.search.contracts import Embeds
from percept.search.index import Entry, Index


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One picture found."""

    rank: int
    """From 1."""
    path: Path
    score: float
    """Cosine of query and picture."""
    width: int
    """Pixels, upright."""
    height: int
    missing: bool = False
    """No file is there any more."""
    copies: tuple[Path, ...] = ()
    """Other files with the same content."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A query and what was found; pages and sheets show these."""

    text: str | None = None
    image: Path | None = None
    """The picture asked with, where it was a file."""
    hits: tuple[Hit, ...]
    searched: int
    """Distinct pictures compared."""
    files: int = 0
    """Files that hold them."""
    seconds: float

    @property
    def among(self) -> str:
        """Say what was searched; copies count once."""
        copies = f" ({self.files:,} files, copies count once)" if self.files > self.searched else ""
        return f"{self.searched:,} pictures{copies}"

    def __str__(self) -> str:
        parts = ([f"“{self.text}”"] if self.text else []) + ([f"like {self.image.name}"] if self.image else [])
        return printable(", ".join(parts) or "a picture")


def ask(
    index: Index,
    encoder: Embeds,
    *,
    text: str | None = None,
    image: ImageSource | None = None,
    top: int = 5,
    weight: float = 0.5,
) -> Answer:
    """Search, and keep what was asked together with what was found; arguments as for `search`."""
    start = time.perf_counter()
    hits = search(index, encoder, text=text, image=image, top=top, weight=weight)
    file = Path(image) if isinstance(image, str | Path) else None
    return Answer(
        text=text,
        image=file,
        hits=tuple(hits),
        searched=len(index.matrix().ids),
        files=len(index),
        seconds=time.perf_counter() - start,
    )


def search(
    index: Index,
    encoder: Embeds,
    *,
    text: str | None = None,
    image: ImageSource | None = None,
    top: int = 5,
    weight: float = 0.5,
) -> list[Hit]:
    """Return the pictures nearest to a text, a picture or both, best first.

    Args:
        index: what is searched.
        encoder: the model the index was made with.
        text: what the pictures should show.
        image: a picture they should resemble.
        top: how many; fewer come back when the index holds fewer.
        weight: the share of the text in [0, 1] where both are given: unit vectors are summed, the sum is of unit length.

    Raises:
        PerceptError: nothing to ask, an empty index, another model, or a picture that cannot be read.
    """
    index.check(encoder)
    check_question(text=text, image=image, top=top, weight=weight)
    query = query_vector(encoder, text=text, image=image, weight=weight)
    matrix = index.matrix()
    if not matrix.ids:
        raise PerceptError(
            f"the index {index.folder} holds no pictures; add some with: percept index PICTURES --index {index.folder}"
        )
    scores = matrix.vectors @ query
    best = torch.topk(scores, min(top, len(scores))).indices.tolist()
    best.sort(key=lambda row: (-float(scores[row]), row))  # equal scores: the order in which they were added
    return [_hit(rank, index.entry(matrix.ids[row]), float(scores[row])) for rank, row in enumerate(best, start=1)]


def check_question(
    *, text: str | None = None, image: ImageSource | None = None, top: int = 1, weight: float = 0.5
) -> None:
    """Refuse what cannot be asked, before a model is loaded for it.

    Raises:
        PerceptError: neither text nor picture, a text without letters, no results wanted, a weight outside [0, 1].
    """
    if text is None and image is None:
        raise PerceptError("a search needs a text, a picture, or both")
    if not 0 <= weight <= 1:
        raise PerceptError(f"weight={weight} is the share of the text, from 0 (picture alone) to 1 (text alone)")
    if text is not None and not any(letter.isalnum() for letter in text):
        raise PerceptError(f"the text {text!r} has no letters or digits; write what the pictures should show")
    if top < 1:
        raise PerceptError(f"top={top} asks for no results; use at least 1")


def query_vector(
    encoder: Embeds, *, text: str | None = None, image: ImageSource | None = None, weight: float = 0.5
) -> Float[Tensor, " d"]:
    """Return the unit vector of a text, a picture, or of both: normalise(weight · text + (1 - weight) · picture)."""
    check_question(text=text, image=image, weight=weight)
    parts = []
    if text is not None:
        parts.append((weight if image is not None else 1.0, encoder.text([text])[0]))
    if image is not None:
        parts.append((1 - weight if text is not None else 1.0, encoder.image([prepared(image, encoder.preprocess)])[0]))
    total = torch.stack([share * F.normalize(vector.float().cpu(), dim=0) for share, vector in parts]).sum(0)
    return F.normalize(total, dim=0)


def _hit(rank: int, entry: Entry, score: float) -> Hit:
    """Show the first path that still exists; the others are its copies."""
    first = next((path for path in entry.paths if os.path.isfile(path)), None)
    shown = first or entry.paths[0]
    hit = Hit(rank=rank, path=shown, score=score, width=entry.width, height=entry.height, missing=first is None)
    return replace(hit, copies=tuple(path for path in entry.paths if path != shown))
