"""Visualness of text: remove captions that evoke no image, and label sentences of documents by how well an image matches them.

Verma et al. 2023, "Learning the Visualness of Text Using Large Vision-Language Models", arXiv:2305.10434. An encoder is fine-tuned so that
visual texts match their image and all other texts one NULL image of random pixels (`percept.methods.curation.visualness`). Then

    S(text) = 1 - cos(NULL, text)          # high for visual texts; no image is needed

The corpus for the fine-tuning comes from documents: a sentence is visual if its largest cosine with an image of its page is among the highest
(above 0.35 in the paper, the top 1 %), and not visual if it is among the lowest (below 0.18, the bottom 5 %); others are left out.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.curate.documents import DOCUMENT
from percept.data.curate.score import top_threshold
from percept.data.curate.step import Pass, Place, Plain, as_numpy, image_vectors
from percept.data.curate.store import Arrays, Chunk, Decision, Parts

NOT_VISUAL, UNCLEAR = "the caption evokes no image", "neither clearly visual nor clearly not"
VISUAL, VISUALNESS = "visual", "visualness"
NULL_SIZE = 224
"""Side of the NULL image in pixels."""


@lru_cache
def null_image(seed: int = 0) -> bytes:
    """Return the NULL image: random pixels, as a PNG file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (NULL_SIZE, NULL_SIZE, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True, kw_only=True)
class Visualness(Plain):
    """Remove captions that evoke no image, by an encoder tuned for it. The column `visualness` has S of those that remain."""

    threshold: float | None = None
    """Smallest S that remains; it belongs to the encoder."""
    top: float | None = 0.5
    """Share of the captions that remains where no threshold is given."""
    null_seed: int = 0
    """Seed of the NULL image; that of the fine-tuning."""

    def __post_init__(self) -> None:
        if self.threshold is None and (self.top is None or not 0 < self.top <= 1):
            raise PerceptError(f"top must be above 0 and at most 1, got {self.top}. Or give a threshold.")

    @property
    def needs(self) -> tuple[str, ...]:
        """An encoder."""
        return ("images", "texts")

    def passes(self) -> Sequence[Pass]:
        """Measure S, then the threshold."""
        return (Pass(self._measure, self._threshold, tools=True),)

    def _measure(self, chunk: Chunk, state: Arrays, place: Place) -> Arrays:
        assert place.tools.images is not None
        assert place.tools.texts is not None
        null = as_numpy(place.tools.images([null_image(self.null_seed)]))[0]
        vectors = as_numpy(place.tools.texts(chunk.flat)) if chunk.flat else np.zeros((0, len(null)))
        return {"visualness": (1 - vectors @ null).astype(np.float32)}

    def _threshold(self, parts: Parts, earlier: Arrays) -> Arrays:
        values = parts.joined("visualness")
        chosen = self.threshold if self.threshold is not None else top_threshold(values, self.top or 1.0)
        return {"threshold": np.array(chosen)}

    def decide(self, chunk: Chunk, measured: Arrays, state: Arrays) -> Decision:
        """Remove the captions below the threshold."""
        values, keep = measured["visualness"], measured["visualness"] >= state["threshold"]
        groups: list[list[float]] = [[] for _ in range(len(chunk))]
        for row, value, stays in zip(chunk.owners, values.tolist(), keep, strict=True):
            groups[row] += [round(value, 4)] if stays else []
        return chunk.per_text([None if stays else NOT_VISUAL for stays in keep], {VISUALNESS: groups})

    def describe(self, measured: Parts, decided: Sequence[Any], state: Arrays) -> dict[str, Any]:
        """Return the threshold."""
        return {"threshold": round(float(state["threshold"]), 4)}


@dataclass(frozen=True, kw_only=True)
class LabelVisualness(Plain):
    """Label the sentences of documents as visual or not by their match with the images of their page; others are removed.

    Rows need the sentences of their document as captions, see `documents.rows_of`. The column `visual` has a label per caption. A visual
    sentence remains with the image that matches it best, every other sentence with the first image of its document.
    """

    above: float | None = None
    """Smallest cosine of visual sentences: 0.35 in the paper. Default: by the share `top`."""
    below: float | None = None
    """Largest cosine of other sentences: 0.18 in the paper. Default: by the share `bottom`."""
    top: float = 0.01
    """Share of the sentences that is taken for visual."""
    bottom: float = 0.05
    """Share of the sentences that is taken for not visual."""

    def __post_init__(self) -> None:
        if not (0 < self.top < 1 and 0 < self.bottom < 1 and self.top + self.bottom <= 1):
            raise PerceptError(
                f"top={self.top} and bottom={self.bottom}; both must be above 0, and at most 1 together."
            )
        if self.above is not None and self.below is not None and self.below >= self.above:
            raise PerceptError(f"below={self.below} must be less than above={self.above}.")

    @property
    def needs(self) -> tuple[str, ...]:
        """An encoder."""
        return ("images", "texts")

    def passes(self) -> Sequence[Pass]:
        """Measure the best match of every sentence, then the thresholds."""
        return (Pass(_match, self._thresholds, tools=True),)

    def _thresholds(self, parts: Parts, earlier: Arrays) -> Arrays:
        best = np.concatenate([part["best"][part["owner"]] for part in parts])
        best = best[np.isfinite(best)]
        above = self.above if self.above is not None else top_threshold(best, self.top)
        below = self.below if self.below is not None else -top_threshold(-best, self.bottom)
        if below >= above:
            raise PerceptError(
                f"the match of all sentences is nearly the same ({below:.3f} to {above:.3f}). Use another encoder."
            )
        return {"above": np.array(above), "below": np.array(below)}

    def decide(self, chunk: Chunk, measured: Arrays, state: Arrays) -> Decision:
        """Keep the sentences that are clearly visual or clearly not, each once."""
        best = measured["best"]
        visual = (best >= state["above"]) & measured["winner"]
        other = (best <= state["below"]) & measured["owner"]
        reasons = [None if stays else UNCLEAR for stays in visual | other]
        groups: list[list[bool]] = [[] for _ in range(len(chunk))]
        for row, sees, stays in zip(chunk.owners, visual.tolist(), (visual | other).tolist(), strict=True):
            groups[row] += [sees] if stays else []
        return chunk.per_text(reasons, {VISUAL: groups})

    def describe(self, measured: Parts, decided: Sequence[Any], state: Arrays) -> dict[str, Any]:
        """Return the thresholds and the number of labels."""
        labels = [label for decision in decided for group in decision[VISUAL].to_pylist() for label in group or ()]
        bounds = {name: round(float(state[name]), 4) for name in ("above", "below")}
        return {**bounds, "visual sentences": sum(labels), "other sentences": len(labels) - sum(labels)}


def _match(chunk: Chunk, state: Arrays, place: Place) -> Arrays:
    """Return for every caption of a row its largest cosine with an image of the document, and whether this row is the one to keep it."""
    assert place.tools.texts is not None
    images = image_vectors(chunk, place)
    documents = chunk.column(DOCUMENT)
    pages = [key if page is None else page for key, page in zip(chunk.keys, documents, strict=True)]
    distinct = {text: number for number, text in enumerate(dict.fromkeys(chunk.flat))}
    vectors = as_numpy(place.tools.texts(list(distinct))) if distinct else np.zeros((0, place.tools.dim))
    texts = np.array([distinct[text] for text in chunk.flat], dtype=np.int64)
    cosine = np.einsum("nd,nd->n", images[chunk.owners], vectors[texts])
    numbers = {page: number for number, page in enumerate(dict.fromkeys(pages))}
    page_of = np.array([numbers[page] for page in pages], dtype=np.int64)[chunk.owners]
    return best_of(page_of * max(1, len(distinct)) + texts, cosine)


def best_of(group: Int[np.ndarray, " t"], cosine: Float[np.ndarray, " t"]) -> Arrays:
    """Return the largest value of each group at all its members, its first member (owner), and the member that has it (winner)."""
    found, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    filled = np.where(np.isfinite(cosine), cosine, -np.inf)
    best = np.full(len(found), -np.inf)
    np.maximum.at(best, inverse, filled)
    owner: Bool[np.ndarray, " t"] = np.zeros(len(group), dtype=bool)
    owner[first] = True
    has = filled == best[inverse]
    winner = np.zeros(len(group), dtype=bool)
    winner[np.flatnonzero(has)[np.unique(inverse[has], return_index=True)[1]]] = True
    return {
        "best": np.where(np.isfinite(best), best, np.nan)[inverse].astype(np.float32),
        "owner": owner,
        "winner": winner,
    }
