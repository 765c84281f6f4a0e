"""Query an index by text, by image, or by both; exact search with one matrix product."""

import os
import shlex
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
from percept.infer.labels import name_unknown_words
from percept.search.contracts import ImageEncoder
from percept.search.store import Piece, Store


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One result of a search."""

    rank: int
    """From 1."""
    path: Path
    score: float
    """Cosine of query and image."""
    width: int
    """Pixels, upright."""
    height: int
    missing: bool = False
    """The file no longer exists."""
    copies: tuple[Path, ...] = ()
    """Other files with the same content."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A query with its hits."""

    text: str | None = None
    image: Path | None = None
    """The image of the query, if it was a file."""
    hits: tuple[Hit, ...]
    searched: int
    """Distinct images compared."""
    files: int = 0
    """Files that hold them."""
    seconds: float

    @property
    def among(self) -> str:
        """Description of the searched images; copies count once."""
        copies = f" ({self.files:,} files, copies count once)" if self.files > self.searched else ""
        return f"{self.searched:,} images{copies}"

    def __str__(self) -> str:
        parts = ([f"“{self.text}”"] if self.text else []) + ([f"like {self.image.name}"] if self.image else [])
        return printable(", ".join(parts) or "an image")


def ask(
    index: Store,
    encoder: ImageEncoder,
    *,
    text: str | None = None,
    image: ImageSource | None = None,
    top: int = 5,
    weight: float = 0.5,
) -> Answer:
    """Search and return the query with its hits. Arguments are those of `search`."""
    start = time.perf_counter()
    hits = search(index, encoder, text=text, image=image, top=top, weight=weight)
    file = Path(image) if isinstance(image, str | Path) else None
    return Answer(
        text=text,
        image=file,
        hits=tuple(hits),
        searched=index.status().images,
        files=len(index),
        seconds=time.perf_counter() - start,
    )


def search(
    index: Store,
    encoder: ImageEncoder,
    *,
    text: str | None = None,
    image: ImageSource | None = None,
    top: int = 5,
    weight: float = 0.5,
) -> list[Hit]:
    """Return the images nearest to a text, an image or both, best first.

    Args:
        index: the index to search.
        encoder: the model the index was made with.
        text: description of the images to find.
        image: image that they should resemble.
        top: number of hits; fewer if the index holds fewer.
        weight: share of the text in [0, 1] if both are given: unit vectors are summed, and the sum is normalised.

    Raises:
        PerceptError: an empty query or index, a different model, or an image that cannot be read.
    """
    index.check(encoder)
    check_question(text=text, image=image, top=top, weight=weight)
    query = query_vector(encoder, text=text, image=image, weight=weight)
    best = _best(index, query, top)
    if not best:
        raise PerceptError(
            f"the index {index.folder} holds no images; add some with: "
            f"percept index IMAGES --index {shlex.quote(str(index.folder))}"
        )
    scores = {piece: score for score, piece in best}
    pieces = [piece for piece in index.pieces([piece for _, piece in best]) if piece.paths]
    return [_hit(rank, piece, scores[piece.id]) for rank, piece in enumerate(pieces, start=1)]


def _best(index: Store, query: Float[Tensor, " d"], top: int) -> list[tuple[float, int]]:
    """Return score and id of the nearest pieces; equal scores in the order in which they were added."""
    found: list[tuple[float, int]] = []
    for ids, vectors in index.vectors():
        scores = vectors @ query.numpy()
        found += zip(scores.tolist(), ids.tolist(), strict=True)
        found = sorted(found, key=lambda pair: (-pair[0], pair[1]))[:top]
    return found


def check_question(
    *, text: str | None = None, image: ImageSource | None = None, top: int = 1, weight: float = 0.5
) -> None:
    """Refuse an impossible query before a model is loaded for it.

    Raises:
        PerceptError: neither text nor image, a text without letters, `top` below 1, or a weight outside [0, 1].
    """
    if text is None and image is None:
        raise PerceptError("a search needs a text, an image, or both")
    if not 0 <= weight <= 1:
        raise PerceptError(f"weight must be from 0 (image only) to 1 (text only), got {weight}")
    if text is not None and not any(letter.isalnum() for letter in text):
        raise PerceptError(f"the text {text!r} has no letters or digits; describe the images to find")
    if top < 1:
        raise PerceptError(f"top must be at least 1, got {top}")


def query_vector(
    encoder: ImageEncoder, *, text: str | None = None, image: ImageSource | None = None, weight: float = 0.5
) -> Float[Tensor, " d"]:
    """Return the unit vector of a text, an image, or of both: normalise(weight · text + (1 - weight) · image)."""
    check_question(text=text, image=image, weight=weight)
    parts = []
    if text is not None:
        name_unknown_words(encoder, [text])
        parts.append((weight if image is not None else 1.0, encoder.text([text])[0]))
    if image is not None:
        parts.append((1 - weight if text is not None else 1.0, encoder.image([image])[0]))
    total = torch.stack([share * F.normalize(vector.float().cpu(), dim=0) for share, vector in parts]).sum(0)
    return F.normalize(total, dim=0)


def _hit(rank: int, entry: Piece, score: float) -> Hit:
    """Return the hit for the first path that still exists; further paths are its copies."""
    first = next((path for path in entry.paths if os.path.isfile(path)), None)
    shown = first or entry.paths[0]
    hit = Hit(rank=rank, path=shown, score=score, width=entry.width, height=entry.height, missing=first is None)
    return replace(hit, copies=tuple(path for path in entry.paths if path != shown))
