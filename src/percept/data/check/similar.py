"""What repeats: equal hashes, and hashes that are nearly equal.

Images: each bit of the hash says whether one of the 8 × 8 lowest frequencies of the cosine transform of a 32 × 32 grey image is above
their median. Of two hashes that differ in at most `BITS` bits, one of BITS + 1 parts is equal, so only hashes with an equal part
are compared.

Captions: MinHash of pairs of neighbouring words (Broder 1997). The share of equal minima estimates the share of pairs of words
that two captions have in common; captions are compared where one of `BANDS` groups of minima is equal.
"""

import hashlib
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, UInt32, UInt64
from PIL import Image

BITS = 3
"""Largest number of different bits, of 64, in the hashes of near duplicates."""
GREY = 32
"""Side in pixels of the grey image that is transformed."""
BLANK = 4
"""Largest difference of grey values, of 255, in an image that is called blank."""
MINIMA, BANDS, SHARE = 32, 8, 0.8
"""Hash functions, groups of their minima, and the least share of equal minima in near duplicates."""
WINDOW = 512
"""Hashes with an equal part are compared with at most this many neighbours in order."""

Groups: TypeAlias = Int[np.ndarray, " n"]
"""For each item, the number of the first item of its group."""
Items: TypeAlias = Int[np.ndarray, " k"]
"""Numbers of items that are compared with those at the same place of another array."""


def number_of(*parts: bytes) -> int:
    """Return a 64-bit hash of some bytes."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest(), "big")


def look_of(image: Image.Image) -> int | None:
    """Return the hash of what an RGB image looks like; None for a blank image, which looks like many others.

    >>> look_of(Image.new("RGB", (40, 30), "red")), look_of(Image.linear_gradient("L").convert("RGB")) is None
    (None, False)
    """
    grey = np.asarray(image.convert("L").resize((GREY, GREY), Image.Resampling.BOX), dtype=np.float32)
    if grey.max() - grey.min() <= BLANK:
        return None
    low = (_cosines() @ grey @ _cosines().T).reshape(-1)
    return int.from_bytes(np.packbits(low > np.median(low[1:])).tobytes(), "big")


@lru_cache
def _cosines() -> Float[np.ndarray, "8 g"]:
    """Return the rows of the cosine transform (DCT-II) for the lowest frequencies."""
    places = 2 * np.arange(GREY) + 1
    return np.cos(np.pi * places * np.arange(8)[:, None] / (2 * GREY)).astype(np.float32)


def minima_of(text: str) -> UInt32[np.ndarray, " m"]:
    """Return the minima of MINIMA hash functions over the pairs of neighbouring words of a text, whatever their case."""
    words = re.findall(r"\w+", text.lower()) or [text]
    pairs = [" ".join(pair) for pair in pairwise(words)] or words
    hashes = np.array([zlib.crc32(pair.encode("utf-8", "surrogatepass")) for pair in pairs], np.uint64)
    mixed = hashes[:, None] * _factors() + (_factors() >> np.uint64(7))
    return (mixed >> np.uint64(32)).min(axis=0).astype(np.uint32)


@lru_cache
def _factors() -> UInt64[np.ndarray, " m"]:
    return np.random.default_rng(0).integers(1 << 62, 1 << 63, MINIMA, dtype=np.uint64) | np.uint64(1)


def equal(values: UInt64[np.ndarray, " n"]) -> Groups:
    """Group equal values.

    >>> equal(np.array([5, 7, 5], np.uint64)).tolist()
    [0, 1, 0]
    """
    _, first, place = np.unique(values, return_index=True, return_inverse=True)
    return first[place]


def near_looks(looks: UInt64[np.ndarray, " n"]) -> Groups:
    """Group hashes of images that differ in at most BITS bits, directly or through others."""

    def close(left: Items, right: Items) -> Bool[np.ndarray, " k"]:
        return np.bitwise_count(looks[left] ^ looks[right]) <= BITS

    width = 64 // (BITS + 1)
    parts = [(looks >> np.uint64(width * part)) & np.uint64((1 << width) - 1) for part in range(BITS + 1)]
    return _grouped(len(looks), parts, close)


def near_texts(minima: UInt32[np.ndarray, "n m"]) -> Groups:
    """Group minima of captions of which at least SHARE are equal, directly or through others."""

    def close(left: Items, right: Items) -> Bool[np.ndarray, " k"]:
        return (minima[left] == minima[right]).mean(axis=1) >= SHARE

    bands = minima.astype(np.uint64).reshape(len(minima), BANDS, MINIMA // BANDS)
    keys = (bands * _factors()[: MINIMA // BANDS]).sum(axis=2, dtype=np.uint64)
    return _grouped(len(minima), list(keys.T), close)


def _grouped(count: int, keys: Sequence[np.ndarray], close: Callable[[Items, Items], Bool[np.ndarray, " k"]]) -> Groups:
    """Join the items that are close among those with an equal key."""
    groups = np.arange(count)
    for key in keys:
        for left, right in _candidates(key):
            joined = close(left, right)
            groups = _joined(groups, left[joined], right[joined])
    return groups


def _candidates(key: np.ndarray) -> Iterator[tuple[Items, Items]]:
    """Yield pairs of items with equal keys, those at each distance in the order of the keys together."""
    order = np.argsort(key, kind="stable")
    values = key[order]
    for distance in range(1, min(WINDOW, len(order))):
        same = values[distance:] == values[:-distance]
        if not same.any():
            return
        yield order[:-distance][same], order[distance:][same]


def _joined(groups: Groups, left: Items, right: Items) -> Groups:
    """Join the groups of pairs of items; a group is called by its first item."""
    while not np.array_equal(groups[left], groups[right]):
        low = np.minimum(groups[left], groups[right])
        for side in (left, right):
            np.minimum.at(groups, groups[side], low)
        while not np.array_equal(groups, groups[groups]):
            groups = groups[groups]
    return groups
