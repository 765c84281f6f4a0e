"""RealSyn: give the images of documents realistic sentences by retrieval, a synthetic caption, and balance them.

Gu et al. 2025, "RealSyn: An Effective and Scalable Multimodal Interleaved Document Transformation Paradigm", arXiv:2502.12513. Rows are images
with the sentences of their document (`documents.rows_of`); image vectors v and sentence vectors t are of unit length.

    extract    sentences of all documents that pass the text rules, each text once; images by the steps before this one
    retrieve   an image goes to the clusters of sentences whose centres are nearest, and takes its k best sentences there:
               argtop_k v · t over t in clusters(v)                    # O(K + n / K) instead of O(n) per image
    synthesise one caption written from the image and its best sentence
    balance    image clusters of n_c rows share a budget of M rows: m_c = min(n_c, λ n_c^γ), Σ m_c = M, drawn at random

The thresholds, the sizes of the clusters and the rule of the balance are not published; γ = 0.5 is ours. Rows keep the retrieved
sentences as captions, and get the columns `synthetic` and `similarities`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.curate import clusters
from percept.data.curate.duplicates import NO_IMAGE, hash128, of_chunk, plain
from percept.data.curate.groups import surplus
from percept.data.curate.rules import TextRules
from percept.data.curate.step import Images, Pass, Place, Plain, as_numpy, image_vectors, located
from percept.data.curate.store import Arrays, Chunk, Decision, Parts, pack_texts, unpack_texts

NOT_DRAWN = "a frequent kind of image, not drawn"
SYNTHETIC, SIMILARITIES = "synthetic", "similarities"


@dataclass(frozen=True, kw_only=True)
class RealSyn(Plain):
    """Retrieve sentences for images, write a caption from them, and balance the images."""

    extract: bool = True
    """Use only sentences that pass the text rules, each text once; if false, all sentences of the documents."""
    sentences: int = 3
    """Sentences that each image gets (k)."""
    text_clusters: int | None = None
    """Clusters of sentences (K). Default: the square root of the number of sentences; the paper has 2 million for 840 million."""
    probes: int = 1
    """Clusters in which the sentences of an image are searched."""
    synthesise: bool = False
    """Write a caption from the image and its best sentence; needs a writer."""
    share: float = 1.0
    """Share of the images that remains after the balance (M)."""
    image_clusters: int | None = None
    """Clusters of images for the balance. Default: the square root of the number of images."""
    power: float = 0.5
    """Exponent of the size of a cluster in its share of the budget (γ): 1 draws from all rows alike, 0 equally from all clusters."""
    seed: int = 0
    """Seed of the clusters and of the draws."""

    def __post_init__(self) -> None:
        if self.sentences < 1 or self.probes < 1:
            raise PerceptError(f"sentences={self.sentences} and probes={self.probes}; both must be at least 1.")
        if not 0 < self.share <= 1:
            raise PerceptError(f"share must be above 0 and at most 1, got {self.share}.")
        if not 0 <= self.power <= 1:
            raise PerceptError(f"power must be from 0 to 1, got {self.power}.")

    @property
    def needs(self) -> tuple[str, ...]:
        """The models used."""
        return ("images", "texts", "fuse") if self.synthesise else ("images", "texts")

    def passes(self) -> Sequence[Pass]:
        """Extract, retrieve and balance; then write captions for the rows that remain."""
        stages = (Pass(self._extract, self._index, tools=True), Pass(self._retrieve, self._balance, tools=True))
        return (*stages, Pass(_write, lambda parts, earlier: earlier, tools=True)) if self.synthesise else stages

    def _extract(self, chunk: Chunk, state: Arrays, place: Place) -> Arrays:
        """Return the sentences of a chunk, once each, with their vectors."""
        assert place.tools.texts is not None
        rules = TextRules()
        usable = [text for text in dict.fromkeys(chunk.flat) if not self.extract or rules.reason(text) is None]
        texts = [" ".join(text.split()) for text in usable]
        hashes = [hash128(plain(text).encode("utf-8", "surrogatepass")) for text in texts]
        vectors = as_numpy(place.tools.texts(texts)) if texts else np.zeros((0, place.tools.dim))
        return {
            "sentences": pack_texts(texts),
            "hash": np.stack(hashes) if hashes else np.zeros((0, 2), dtype=np.uint64),
            "vectors": vectors.astype(np.float16),
        }

    def _index(self, parts: Parts, earlier: Arrays) -> Arrays:
        """Return the sentences sorted by cluster, with their vectors and the centres."""
        fresh = ~surplus(parts.joined("hash")) if self.extract else np.ones(len(parts.joined("hash")), dtype=bool)
        texts = [text for part in parts for text in unpack_texts(part["sentences"])]
        vectors = parts.joined("vectors")[fresh].astype(np.float32)
        if not len(vectors):
            raise PerceptError("the documents hold no sentence that passes the text rules. Check the caption column.")
        centres = clusters.train(vectors, self.text_clusters or max(1, round(len(vectors) ** 0.5)), seed=self.seed)
        label = clusters.assign(vectors, centres)
        order = np.argsort(label, kind="stable")
        kept = [text for text, once in zip(texts, fresh, strict=True) if once]
        return {
            "sentences": pack_texts([kept[place] for place in order]),
            "vectors": vectors[order].astype(np.float16),
            "centres": centres,
            "begins": np.searchsorted(label[order], np.arange(len(centres) + 1)),
        }

    def _retrieve(self, chunk: Chunk, state: Arrays, place: Place) -> Arrays:
        vectors = image_vectors(chunk, place)
        usable = clusters.finite_rows(vectors)
        rows = np.full((len(chunk), self.sentences), -1, dtype=np.int64)
        cosine = np.full((len(chunk), self.sentences), -1, dtype=np.float32)
        rows[usable], cosine[usable] = retrieve(vectors[usable], state, count=self.sentences, probes=self.probes)
        draws = [derive(self.seed, "realsyn", key) for key in chunk.keys]
        return {
            "rows": rows,
            "cosine": cosine,
            "vectors": vectors.astype(np.float16),
            "draw": np.array(draws, dtype=np.int64),
        }

    def _balance(self, parts: Parts, earlier: Arrays) -> Arrays:
        vectors = parts.joined("vectors").astype(np.float32)
        usable = clusters.finite_rows(vectors)
        if not usable.any():
            raise PerceptError("no image can be read, so there is nothing to balance. Check the image column.")
        drawn = usable.copy()
        if self.share < 1:
            wanted = self.image_clusters or max(1, round(float(usable.sum()) ** 0.5))
            label = clusters.assign(vectors[usable], clusters.train(vectors[usable], wanted, seed=self.seed))
            drawn[usable] = draw(label, parts.joined("draw")[usable], round(self.share * usable.sum()), self.power)
        return {"sentences": earlier["sentences"], "drawn": drawn, "starts": parts.starts("vectors")}

    def decide(self, chunk: Chunk, measured: Arrays, state: Arrays) -> Decision:
        """Replace the captions of the rows that were drawn by their sentences."""
        sentences, drawn = unpack_texts(state["sentences"]), of_chunk(state, chunk.number, "drawn")
        found = measured["rows"][:, 0] >= 0
        reasons = [
            NO_IMAGE if not fine else None if chosen else NOT_DRAWN for fine, chosen in zip(found, drawn, strict=True)
        ]
        texts = [[sentences[row] for row in rows if row >= 0] for rows in measured["rows"].tolist()]
        cosines = [[round(value, 4) for value in values if value > -1] for values in measured["cosine"].tolist()]
        added: dict[str, Sequence[Any]] = {SIMILARITIES: cosines}
        if self.synthesise:
            written = iter(unpack_texts(measured["captions"]))
            added[SYNTHETIC] = ["" if reason else next(written) for reason in reasons]
        return Decision(reasons=reasons, texts=texts, added=added)


def retrieve(
    images: Float[np.ndarray, "n d"], index: Arrays, *, count: int, probes: int
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Return the best sentences of each image in its nearest clusters, best first, and their cosines; -1 where there are too few."""
    near = clusters.ranked(images, index["centres"], probes)[0]
    rows = np.full((len(images), count), -1, dtype=np.int64)
    cosine = np.full((len(images), count), -1, dtype=np.float32)
    for cluster in np.unique(near):
        mine = np.flatnonzero((near == cluster).any(axis=1))
        begin, end = (int(index["begins"][place]) for place in (cluster, cluster + 1))
        if begin == end:
            continue
        scores = images[mine] @ index["vectors"][begin:end].astype(np.float32).T
        places = np.broadcast_to(np.arange(begin, end), scores.shape)
        scores, places = np.concatenate([cosine[mine], scores], 1), np.concatenate([rows[mine], places], 1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        rows[mine], cosine[mine] = np.take_along_axis(places, best, 1), np.take_along_axis(scores, best, 1)
    return rows, cosine


def quotas(sizes: Int[np.ndarray, " c"], budget: int, power: float) -> Int[np.ndarray, " c"]:
    """Return how many rows each cluster keeps: min(n_c, λ n_c^γ), rounded, with the sum `budget`.

    >>> quotas(np.array([100, 4, 1]), 15, 0.5).tolist()
    [12, 2, 1]
    """
    budget = min(budget, int(sizes.sum()))
    low, high = 0.0, float(max(1, sizes.max()))
    weights = sizes.astype(np.float64) ** power * (sizes > 0)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(sizes, middle * weights).sum() < budget else (low, middle)
    exact = np.minimum(sizes, high * weights)
    whole = np.floor(exact + 1e-9).astype(np.int64)
    rest = np.argsort(-(exact - whole), kind="stable")
    for place in [place for place in rest if whole[place] < sizes[place]][: budget - int(whole.sum())]:
        whole[place] += 1
    return whole


def draw(
    label: Int[np.ndarray, " n"], draws: Int[np.ndarray, " n"], budget: int, power: float
) -> Bool[np.ndarray, " n"]:
    """Draw `budget` rows, in each cluster those with the smallest random numbers."""
    wanted = quotas(np.bincount(label), budget, power)
    order = np.lexsort((draws, label))
    begins = np.searchsorted(label[order], np.arange(len(wanted)))
    ranks = np.empty(len(label), dtype=np.int64)
    ranks[order] = np.arange(len(label)) - begins[label[order]]
    return ranks < wanted[label]


def _write(chunk: Chunk, state: Arrays, place: Place) -> Arrays:
    """Write a caption for each row that was drawn."""
    assert place.tools.fuse is not None
    measured = place.measured(chunk.number, "measured-1")
    sentences, drawn = unpack_texts(state["sentences"]), of_chunk(state, chunk.number, "drawn")
    chosen = np.flatnonzero(drawn & (measured["rows"][:, 0] >= 0))
    every = located(chunk.images, place.root)
    best = [[sentences[number] for number in measured["rows"][row] if number >= 0] for row in chosen]
    captions = place.tools.fuse([every[row] for row in chosen], best) if len(chosen) else []
    kept = {name: measured[name] for name in ("rows", "cosine")}
    return {**kept, "captions": pack_texts([" ".join(text.split()) for text in captions])}


@dataclass(frozen=True)
class Tagger:
    """Writes a caption from the best sentence and the names of what the image shows most probably, without a language model."""

    images: Callable[[Images], Any]
    texts: Callable[[Sequence[str]], Any]
    names: Sequence[str]
    tags: int = 2
    """Names in a caption."""

    def __call__(self, images: Images, sentences: Sequence[Sequence[str]]) -> list[str]:
        """Return one caption per image."""
        names = as_numpy(self.texts([f"a photo of {name}" for name in self.names]))
        best = np.argsort(-(as_numpy(self.images(images)) @ names.T), axis=1, kind="stable")[:, : self.tags]
        tags = [" and ".join(str(self.names[place]) for place in places) for places in best]
        return [fused(tag, some[0] if some else "") for tag, some in zip(tags, sentences, strict=True)]


def fused(tags: str, sentence: str) -> str:
    """Join names and a sentence.

    >>> fused("cup and table", "It stands in the kitchen.")
    'cup and table. It stands in the kitchen.'
    """
    return f"{tags}. {sentence}".strip() if sentence else tags
