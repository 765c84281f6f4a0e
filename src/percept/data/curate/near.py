"""Near duplicates: captions that share most of their words, images that look alike.

Captions: MinHash of sets of word runs with locality-sensitive hashing (Broder 1997; Indyk and Motwani 1998). Of m hash functions the share of
equal minima estimates the Jaccard similarity s of two sets; with b bands of r = m / b minima a pair is compared with probability
1 - (1 - s^r)^b.

Images: the signs of the 8 x 8 lowest frequencies of the cosine transform of a 32 x 32 grey image, against their median. Two hashes that
differ in at most d bits are equal in one of d + 1 parts, so all pairs up to d are found, except in buckets larger than `groups.WINDOW`.
Where an encoder is given and `cosine` is set, images are compared by their vectors too, within clusters of similar images: a
pair on both sides of a border between clusters is missed.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, UInt32, UInt64
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.curate import clusters
from percept.data.curate.duplicates import check_images, image_reasons, of_chunk, plain
from percept.data.curate.groups import Pairs, candidates, removed, similar
from percept.data.curate.rules import words_of
from percept.data.curate.step import Pass, Place, Plain, image_vectors, located
from percept.data.curate.store import Arrays, Chunk, Decision, Parts

NEAR_TEXT, NEAR_IMAGE = "nearly the same caption as an earlier one", "nearly the same image as an earlier row"
BANDS, ROWS = 16, 4
"""Bands of MinHash and minima in each: pairs of similarity 0.8 are compared with a probability of 0.9998, of 0.5 with 0.64."""


@dataclass(frozen=True, kw_only=True)
class NearTexts(Plain):
    """Remove captions that are nearly equal to an earlier one that remains."""

    similarity: float = 0.8
    """Smallest Jaccard similarity of near duplicates."""
    run: int = 2
    """Words in the runs that are compared; captions of fewer words are compared as a whole."""

    def __post_init__(self) -> None:
        if not 0 < self.similarity <= 1:
            raise PerceptError(f"similarity must be above 0 and at most 1, got {self.similarity}.")
        if self.run < 1:
            raise PerceptError(f"run must be at least 1, got {self.run}.")

    def passes(self) -> Sequence[Pass]:
        """Compute the minima of every caption, then compare."""
        return (Pass(self._minima, self._repeated),)

    def _minima(self, chunk: Chunk, state: Arrays, place: Place) -> Arrays:
        return {
            "minima": np.stack([minima(runs(text, self.run)) for text in chunk.flat] or [minima([])])[: len(chunk.flat)]
        }

    def _repeated(self, parts: Parts, earlier: Arrays) -> Arrays:
        signatures = parts.joined("minima")
        least = round(self.similarity * BANDS * ROWS)

        def close(pairs: Pairs) -> Bool[np.ndarray, " _"]:
            return (signatures[pairs[:, 0]] == signatures[pairs[:, 1]]).sum(axis=1) >= least

        pairs = similar(candidates(text_bands(signatures)), close)
        return {"repeated": removed(pairs, len(signatures)) >= 0, "starts": parts.starts("minima")}

    def decide(self, chunk: Chunk, measured: Arrays, state: Arrays) -> Decision:
        """Remove the captions that were found."""
        return chunk.per_text([NEAR_TEXT if repeated else None for repeated in of_chunk(state, chunk.number)])


def runs(text: str, length: int) -> list[str]:
    """Return the runs of `length` words of a text, in plain letters.

    >>> runs("A red cup!", 2)
    ['a red', 'red cup']
    """
    words = words_of(plain(text)) or plain(text).split()
    return [" ".join(words[start : start + length]) for start in range(max(1, len(words) - length + 1))]


def minima(items: Sequence[str]) -> UInt32[np.ndarray, " m"]:
    """Return the minimum of each of m hash functions over a set."""
    hashes = np.array([zlib.crc32(item.encode("utf-8", "surrogatepass")) for item in items] or [0], dtype=np.uint64)
    values = _mixed(np.unique(hashes)[:, None] ^ _seeds())
    return (values.min(axis=0) >> np.uint64(32)).astype(np.uint32)


def _mixed(values: UInt64[np.ndarray, "*n"]) -> UInt64[np.ndarray, "*n"]:
    """Return well-mixed bits: the finaliser of SplitMix64, a bijection."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache
def _seeds() -> UInt64[np.ndarray, " m"]:
    return np.random.default_rng(0).integers(0, 1 << 63, BANDS * ROWS, dtype=np.uint64)


def text_bands(signatures: UInt32[np.ndarray, "n m"]) -> Iterator[UInt64[np.ndarray, " n"]]:
    """Yield one integer per text and band, not 0."""
    for band in range(BANDS):
        mixed = np.full(len(signatures), band + 1, dtype=np.uint64)
        for column in signatures[:, band * ROWS : (band + 1) * ROWS].T:
            mixed = _mixed(mixed ^ column)
        yield mixed | np.uint64(1)


@dataclass(frozen=True, kw_only=True)
class NearImages(Plain):
    """Remove rows whose image looks nearly like that of an earlier row that remains, and rows whose image cannot be read."""

    bits: int = 3
    """Largest number of the 64 bits in which the hashes of near duplicates differ."""
    cosine: float | None = None
    """Smallest cosine of the vectors of near duplicates; needs an encoder. Default: only the hashes decide."""

    def __post_init__(self) -> None:
        if not 0 <= self.bits <= 15:
            raise PerceptError(f"bits must be from 0 to 15, got {self.bits}.")
        if self.cosine is not None and not 0 < self.cosine <= 1:
            raise PerceptError(f"cosine must be above 0 and at most 1, got {self.cosine}.")

    @property
    def needs(self) -> tuple[str, ...]:
        """An encoder, where vectors are compared."""
        return () if self.cosine is None else ("images",)

    def passes(self) -> Sequence[Pass]:
        """Hash every image; with an encoder, compute its vector too."""
        return (Pass(self._measure, self._repeated, tools=self.cosine is not None),)

    def _measure(self, chunk: Chunk, state: Arrays, place: Place) -> Arrays:
        hashes = np.array([perceptual_hash(image) for image in located(chunk.images, place.root)], dtype=np.uint64)
        vectors = (
            image_vectors(chunk, place) if self.cosine is not None else np.zeros((len(chunk), 0), dtype=np.float32)
        )
        return {"hash": hashes, "vectors": vectors}

    def _repeated(self, parts: Parts, earlier: Arrays) -> Arrays:
        hashes = parts.joined("hash")
        check_images(bool(hashes.any()))
        close = similar(candidates(hash_bands(hashes, self.bits)), lambda pairs: distance(hashes, pairs) <= self.bits)
        if self.cosine is not None:
            close = similar(
                [close, *alike(parts.joined("vectors"), self.cosine)], lambda pairs: np.ones(len(pairs), bool)
            )
        return {"repeated": removed(close, len(hashes)) >= 0, "starts": parts.starts("hash")}

    def decide(self, chunk: Chunk, measured: Arrays, state: Arrays) -> Decision:
        """Remove the rows that were found."""
        readable, repeated = measured["hash"] != 0, of_chunk(state, chunk.number)
        return Decision(reasons=image_reasons(readable, repeated, NEAR_IMAGE))


def perceptual_hash(image: str | bytes) -> int:
    """Return the 64-bit hash of an image; 0 if it cannot be read, and never 0 otherwise."""
    from percept.data.images import read_image

    try:
        return hash_of(read_image(image, at_least=32)) if image else 0
    except PerceptError:
        return 0


def hash_of(image: Image.Image) -> int:
    """Return the 64-bit hash of an image in memory, never 0."""
    pixels = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    low = (_cosines() @ pixels @ _cosines().T).ravel()
    bits = low > np.median(low[1:])  # the mean of the image (first) decides nothing
    bits[0] = True
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


@lru_cache
def _cosines() -> Float[np.ndarray, "8 32"]:
    place = np.arange(32) + 0.5
    return np.cos(np.pi / 32 * np.arange(8)[:, None] * place)


def hash_bands(hashes: UInt64[np.ndarray, " n"], bits: int) -> Iterator[UInt64[np.ndarray, " n"]]:
    """Yield `bits` + 1 parts of the hashes; images without a hash take no part."""
    edges = np.linspace(0, 64, bits + 2).astype(int)
    for low, high in pairwise(edges):
        mask = np.uint64((1 << int(high - low)) - 1)
        part = (hashes >> np.uint64(low)) & mask
        yield np.where(hashes != 0, (part << np.uint64(1)) | np.uint64(1) if high - low < 64 else hashes, np.uint64(0))


def distance(hashes: UInt64[np.ndarray, " n"], pairs: Pairs) -> np.ndarray:
    """Return the number of bits in which the hashes of each pair differ."""
    return np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])


def alike(vectors: Float[np.ndarray, "n d"], cosine: float) -> Iterator[Pairs]:
    """Yield the pairs of unit vectors of at least this cosine within each cluster, the earlier first."""
    usable = np.flatnonzero(clusters.finite_rows(vectors))
    if len(usable) < 2:
        return
    count = max(1, round(len(usable) ** 0.5 / 8))
    centres = clusters.train(vectors[usable], count, seed=0)
    label = clusters.assign(vectors[usable], centres)
    for number in range(len(centres)):
        rows = usable[label == number]
        for start in range(0, len(rows), 4096):
            block = rows[start : start + 4096]
            first, second = np.nonzero(vectors[block] @ vectors[rows].T >= cosine)
            pairs = np.stack([rows[second], block[first]], axis=1)
            yield pairs[pairs[:, 0] < pairs[:, 1]]
