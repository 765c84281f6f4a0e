"""Filter captions by the cosine of the vectors of image and text, as CLIP filtering does (Schuhmann et al. 2021, arXiv:2111.02114)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from percept.core.errors import PerceptError
from percept.data.curate.duplicates import NO_IMAGE, check_images
from percept.data.curate.step import Pass, Place, Plain, as_numpy, image_vectors
from percept.data.curate.store import Arrays, Chunk, Decision, Parts

LOW = "image and caption do not match"
SCORES = "scores"


@dataclass(frozen=True, kw_only=True)
class Score(Plain):
    """Remove captions that do not match their image. The column `scores` has the cosines of the captions that remain."""

    threshold: float | None = None
    """Smallest cosine that remains."""
    top: float | None = 0.5
    """Share of the captions that remains, those of the highest cosines, where no threshold is given."""

    def __post_init__(self) -> None:
        if self.threshold is None and (self.top is None or not 0 < self.top <= 1):
            raise PerceptError(f"top must be above 0 and at most 1, got {self.top}. Or give a threshold.")

    @property
    def needs(self) -> tuple[str, ...]:
        """An encoder."""
        return ("images", "texts")

    def passes(self) -> Sequence[Pass]:
        """Compute the cosines, then the threshold."""
        return (Pass(lambda chunk, _, place: {"score": cosines(chunk, place)}, self._threshold, tools=True),)

    def _threshold(self, parts: Parts, earlier: Arrays) -> Arrays:
        scores = parts.joined("score")
        scores = scores[np.isfinite(scores)]
        check_images(len(scores) > 0)
        threshold = self.threshold if self.threshold is not None else top_threshold(scores, self.top or 1.0)
        middle = np.quantile(scores, (0.05, 0.25, 0.5, 0.75, 0.95))
        return {"threshold": np.array(threshold), "quantiles": middle}

    def decide(self, chunk: Chunk, measured: Arrays, state: Arrays) -> Decision:
        """Remove the captions below the threshold."""
        scores = measured["score"]
        lost = [NO_IMAGE if np.isnan(score) else LOW if score < state["threshold"] else None for score in scores]
        groups: list[list[float]] = [[] for _ in range(len(chunk))]
        for row, score, reason in zip(chunk.owners, scores.tolist(), lost, strict=True):
            groups[row] += [round(score, 4)] if reason is None else []
        return chunk.per_text(lost, {SCORES: groups})

    def describe(self, measured: Parts, decided: Sequence[Any], state: Arrays) -> dict[str, Any]:
        """Return the threshold and quantiles of the cosines."""
        quantiles = [round(float(value), 4) for value in state["quantiles"]]
        return {"threshold": round(float(state["threshold"]), 4), "cosines at 5, 25, 50, 75, 95 %": quantiles}


def top_threshold(scores: Float[np.ndarray, " n"], share: float) -> float:
    """Return the lowest of the highest scores that make up a share.

    >>> top_threshold(np.array([0.1, 0.4, 0.2, 0.3]), 0.5)
    0.3
    """
    if not len(scores):
        return 0.0
    return float(np.sort(scores)[::-1][max(1, round(share * len(scores))) - 1])


def cosines(chunk: Chunk, place: Place) -> Float[np.ndarray, " t"]:
    """Return the cosine of each caption with the image of its row; NaN where the image cannot be read."""
    assert place.tools.texts is not None
    images = image_vectors(chunk, place)[chunk.owners]
    if not len(images):
        return np.zeros(0, dtype=np.float32)
    return np.einsum("nd,nd->n", images, as_numpy(place.tools.texts(chunk.flat)))
