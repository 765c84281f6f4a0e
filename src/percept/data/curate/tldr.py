"""TL;DR: keep representatives of clusters of codebook indices that match their captions, and add a generated caption.

Wang et al. 2023, "Too Large; Data Reduction for Vision-Language Pre-Training", arXiv:2305.20087; showlab/datacentric.vlp,
codebook_cluster.py and generate_train_json_w_caption.py. With the codes of an image z ∈ {1..K}^T, the match of image and caption s(x), and
the rank r(x) of a row among those of its cluster, in the order of the source:

    features  f(x) = unit(whiten(z))                             # principal components, at most 256
    cluster   c(x) = argmin_k |f(x) - μ_k|                        # k-means, 20 rounds
    keep      {x : r(x) ≡ 0 mod N} ∩ {x : s(x) ≥ quantile of s}    # N = 5, the better half
    caption   "original; generated"

Differences: s is the cosine of an encoder where the release uses a matching head; `features` can be a histogram of the codes, or the vectors
of the encoder: indices are names, and their Euclidean distance means nothing unless the codebook is ordered (the release uses "codes").
Rows are paired with their features by number, not by the order of a folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from percept.core.errors import PerceptError, unknown_name
from percept.data.curate import clusters
from percept.data.curate.duplicates import NO_IMAGE, of_chunk
from percept.data.curate.score import LOW, cosines, top_threshold
from percept.data.curate.step import Pass, Place, Plain, as_numpy, image_vectors, located
from percept.data.curate.store import Arrays, Chunk, Decision, Parts, pack_texts, unpack_texts

NOT_CHOSEN = "another row represents its cluster"
FEATURES = ("codes", "histogram", "vectors")
SAMPLE = 200_000
"""Rows from which the whitening and the clusters are computed."""
WIDTH = 256
"""Largest number of principal components."""


@dataclass(frozen=True, kw_only=True)
class Reduce(Plain):
    """Keep representatives of clusters of images, and add generated captions."""

    features: Literal["codes", "histogram", "vectors"] = "vectors"
    """What images are clustered by: codes or the histogram of codes (both need a captioner with a codebook), or vectors."""
    clusters: int | None = None
    """Number of clusters. Default: one per 2,820 rows as for CC3M, but at least 50 where there are as many rows."""
    every: int = 5
    """One in this many rows of a cluster may remain (N)."""
    top: float = 0.5
    """Share of the rows, by the match of image and caption, that may remain."""
    caption: bool = False
    """Append a generated caption; needs a captioner."""
    seed: int = 0
    """Seed of the clusters."""

    def __post_init__(self) -> None:
        if self.features not in FEATURES:
            raise unknown_name("features", self.features, FEATURES)
        if self.every < 1 or not 0 < self.top <= 1:
            raise PerceptError(
                f"every={self.every} and top={self.top}; every must be at least 1, top above 0 and at most 1."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """The models used."""
        extra = () if self.features == "vectors" else ("codes",)
        return ("images", "texts", *extra, *(("captions",) if self.caption else ()))

    def passes(self) -> Sequence[Pass]:
        """Measure features and matches, assign clusters and choose, then caption what was chosen."""
        choose = (Pass(self._measure, self._centres, tools=True), Pass(_assign, self._choose))
        return (*choose, Pass(_caption, lambda parts, earlier: earlier, tools=True)) if self.caption else choose

    def _measure(self, chunk: Chunk, state: Arrays, place: Place) -> Arrays:
        scores = np.full(len(chunk), np.nan, dtype=np.float32)
        np.fmax.at(scores, chunk.owners, cosines(chunk, place))
        return {"score": scores, "feature": self._features(chunk, place).astype(np.float16)}

    def _features(self, chunk: Chunk, place: Place) -> Float[np.ndarray, "n f"]:
        vectors = image_vectors(chunk, place)
        if self.features == "vectors":
            return vectors
        assert place.tools.codes is not None
        readable = clusters.finite_rows(vectors)
        images = [image for image, fine in zip(located(chunk.images, place.root), readable, strict=True) if fine]
        codes = (
            np.asarray(as_numpy(place.tools.codes(images)), dtype=np.int64) if images else np.zeros((0, 1), np.int64)
        )
        found = histogram(codes, place.tools.num_codes) if self.features == "histogram" else codes.astype(np.float32)
        features = np.full((len(chunk), found.shape[1]), np.nan, dtype=np.float32)
        features[readable] = found
        return features

    def _centres(self, parts: Parts, earlier: Arrays) -> Arrays:
        scores = parts.joined("score")
        sample = _sample(parts, self.seed)
        mean, components = whitening(sample)
        wanted = self.clusters or max(min(50, len(scores)), round(len(scores) / 2820))
        return {
            "mean": mean,
            "components": components,
            "centres": clusters.train(whitened(sample, mean, components), wanted, seed=self.seed),
            "threshold": np.array(top_threshold(scores[np.isfinite(scores)], self.top)),
        }

    def _choose(self, parts: Parts, earlier: Arrays) -> Arrays:
        labels, scores = parts.joined("label"), parts.joined("score")
        return {
            "representative": positions(labels) % self.every == 0,
            "match": scores >= earlier["threshold"],
            "threshold": earlier["threshold"],
            "starts": parts.starts("label"),
        }

    def decide(self, chunk: Chunk, measured: Arrays, state: Arrays) -> Decision:
        """Keep what represents its cluster and matches its caption, with the generated caption appended."""
        first, match = (of_chunk(state, chunk.number, name) for name in ("representative", "match"))
        lost: list[bool] = np.asarray(np.isnan(measured["score"])).tolist()
        reasons = [
            NO_IMAGE if gone else None if fine and chosen else NOT_CHOSEN if fine else LOW
            for gone, fine, chosen in zip(lost, match, first, strict=True)
        ]
        if not self.caption:
            return Decision(reasons=reasons)
        written = iter(unpack_texts(measured["captions"]))
        texts = [
            texts if reason else [f"{text}; {new}" for new in (next(written),) for text in texts]
            for texts, reason in zip(chunk.texts, reasons, strict=True)
        ]
        return Decision(reasons=reasons, texts=texts)

    def describe(self, measured: Parts, decided: Sequence[Any], state: Arrays) -> dict[str, Any]:
        """Return the threshold of the match."""
        return {"threshold": round(float(state["threshold"]), 4)}


def _sample(parts: Parts, seed: int) -> Float[np.ndarray, "n f"]:
    """Return the usable features of a random sample of the rows."""
    total = max(1, int(parts.starts("score")[-1]))
    rng = np.random.default_rng(seed)
    chosen = [part["feature"][rng.random(len(part["feature"])) < SAMPLE / total].astype(np.float32) for part in parts]
    sample = np.concatenate(chosen)
    sample = sample[clusters.finite_rows(sample)]
    if len(sample) < 2:
        raise PerceptError("fewer than two images can be read, so there is nothing to reduce. Check the image column.")
    return sample


def whitening(
    features: Float[np.ndarray, "n f"],
) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, "f p"]]:
    """Return the mean and the principal components divided by their deviation; components that do not vary are left out."""
    mean = features.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(features.T.astype(np.float64)).reshape(features.shape[1], -1))
    order = np.argsort(-values)[:WIDTH]
    order = order[values[order] > 1e-8 * max(values.max(), 1e-12)]
    return mean, (vectors[:, order] / np.sqrt(values[order])).astype(np.float32)


def whitened(
    features: Float[np.ndarray, "n f"], mean: Float[np.ndarray, " f"], components: Float[np.ndarray, "f p"]
) -> Float[np.ndarray, "n p"]:
    """Return the whitened features as unit vectors."""
    values = (features - mean) @ components
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def histogram(codes: Int[np.ndarray, "n t"], num_codes: int) -> Float[np.ndarray, "n k"]:
    """Return the share of each code among the codes of an image.

    >>> histogram(np.array([[0, 2, 2, 2]]), 3).tolist()
    [[0.25, 0.0, 0.75]]
    """
    counts = np.zeros((len(codes), num_codes), dtype=np.float32)
    np.add.at(counts, (np.arange(len(codes))[:, None], codes), 1 / max(1, codes.shape[1]))
    return counts


def positions(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return how many earlier rows have the same label.

    >>> positions(np.array([4, 4, 1, 4])).tolist()
    [0, 1, 0, 2]
    """
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    begins = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order)) - begins
    return ranks


def _assign(chunk: Chunk, state: Arrays, place: Place) -> Arrays:
    measured = place.measured(chunk.number, "measured-0")
    features = measured["feature"].astype(np.float32)
    usable = clusters.finite_rows(features)
    labels = np.full(len(chunk), -1, dtype=np.int64)
    values = whitened(features[usable], state["mean"], state["components"])
    labels[usable] = clusters.assign(values, state["centres"])
    return {"label": labels, "score": measured["score"]}


def _caption(chunk: Chunk, state: Arrays, place: Place) -> Arrays:
    assert place.tools.captions is not None
    chosen: Bool[np.ndarray, " n"] = of_chunk(state, chunk.number, "representative") & of_chunk(
        state, chunk.number, "match"
    )
    images = [image for image, keep in zip(located(chunk.images, place.root), chosen, strict=True) if keep]
    captions = [" ".join(text.split()) for text in place.tools.captions(images)] if images else []
    scores = place.measured(chunk.number, "measured-1")["score"]
    return {"captions": pack_texts(captions), "score": scores}
