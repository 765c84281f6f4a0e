"""Exact duplicates: images whose files have equal bytes, and captions that are equal but for case, blanks and signs."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from jaxtyping import Bool

from percept.core.errors import PerceptError
from percept.data.curate.groups import surplus
from percept.data.curate.step import Pass, Place, Plain, located
from percept.data.curate.store import Arrays, Chunk, Decision, Parts

NO_IMAGE, SAME_IMAGE, SAME_TEXT = (
    "the image cannot be read",
    "the same image as an earlier row",
    "the same caption as earlier rows",
)


@dataclass(frozen=True, kw_only=True)
class ExactImages(Plain):
    """Remove rows whose image has the same bytes as that of an earlier row, and rows whose image cannot be read."""

    copies: int = 1
    """Rows that remain of each image."""

    def __post_init__(self) -> None:
        _check(self.copies)

    def passes(self) -> Sequence[Pass]:
        """Hash the files."""
        return (Pass(_hash_images, self._repeated),)

    def _repeated(self, parts: Parts, earlier: Arrays) -> Arrays:
        check_images(any(part["hash"].any() for part in parts))
        return marks(parts, self.copies)

    def decide(self, chunk: Chunk, measured: Arrays, state: Arrays) -> Decision:
        """Remove repeated images."""
        readable, repeated = (measured["hash"] != 0).any(axis=1), of_chunk(state, chunk.number)
        return Decision(reasons=image_reasons(readable, repeated, SAME_IMAGE))


@dataclass(frozen=True, kw_only=True)
class ExactTexts(Plain):
    """Remove captions that are equal to earlier ones but for case, blanks and signs."""

    copies: int = 1
    """Captions that remain of each text."""

    def __post_init__(self) -> None:
        _check(self.copies)

    def passes(self) -> Sequence[Pass]:
        """Hash the captions."""
        return (Pass(_hash_texts, lambda parts, _: marks(parts, self.copies)),)

    def decide(self, chunk: Chunk, measured: Arrays, state: Arrays) -> Decision:
        """Remove repeated captions."""
        return chunk.per_text([SAME_TEXT if repeated else None for repeated in of_chunk(state, chunk.number)])


def image_reasons(readable: Bool[np.ndarray, " n"], repeated: Bool[np.ndarray, " n"], reason: str) -> list[str | None]:
    """Return why rows are removed: their image cannot be read, or it is repeated."""
    pairs = zip(readable, repeated, strict=True)
    return [NO_IMAGE if not fine else reason if again else None for fine, again in pairs]


def check_images(some: bool) -> None:
    """Raise a PerceptError if no image could be read, so that a wrong column does not remove all rows."""
    if not some:
        raise PerceptError(
            "no image can be read. Check --image: its column has bytes, or paths relative to the source."
        )


def _check(copies: int) -> None:
    if copies < 1:
        raise PerceptError(f"copies must be at least 1, got {copies}.")


def hash128(data: bytes) -> np.ndarray:
    """Return a 128-bit hash as two integers, not both 0."""
    return np.frombuffer(blake2b(data, digest_size=16).digest(), dtype=np.uint64)


def _hash_images(chunk: Chunk, state: Arrays, place: Place) -> Arrays:
    hashes = np.zeros((len(chunk), 2), dtype=np.uint64)
    for row, image in enumerate(located(chunk.images, place.root)):
        if data := file_bytes(image):
            hashes[row] = hash128(data)
    return {"hash": hashes}


def file_bytes(image: str | bytes) -> bytes:
    """Return the bytes of an image's file; none if it cannot be read."""
    if isinstance(image, bytes):
        return image
    try:
        with open(image, "rb") as file:
            return file.read()
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return b""


def _hash_texts(chunk: Chunk, state: Arrays, place: Place) -> Arrays:
    hashes = [hash128(plain(text).encode("utf-8", "surrogatepass")) for text in chunk.flat]
    return {"hash": np.stack(hashes) if hashes else np.zeros((0, 2), dtype=np.uint64)}


def plain(text: str) -> str:
    """Return a text without case, signs, forms of the same letter, and repeated blanks.

    >>> plain("A  RED cup!"), plain("ﬁne")
    ('a red cup', 'fine')
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(letter if letter.isalnum() or _is_mark(letter) else " " for letter in folded).split())


def _is_mark(letter: str) -> bool:
    return not letter.isascii() and unicodedata.category(letter)[0] in "MS"  # accents, and signs such as emoji


def marks(parts: Parts, copies: int) -> Arrays:
    """Return which items of all chunks are repeated, and where each chunk begins."""
    return {"repeated": surplus(parts.joined("hash"), copies), "starts": parts.starts("hash")}


def of_chunk(state: Arrays, number: int, name: str = "repeated") -> np.ndarray:
    """Return the part of an array that belongs to a chunk."""
    starts = state["starts"]
    return state[name][starts[number] : starts[number + 1]]
