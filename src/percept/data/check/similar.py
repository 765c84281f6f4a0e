"""What repeats in a source: equal hashes, and hashes that are nearly equal. The hashes are those of `percept.data.curate.near`."""

import hashlib
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Int, UInt32, UInt64
from PIL import Image

from percept.data.curate import near
from percept.data.curate.groups import Pairs, candidates, similar

BITS = 3
"""Largest number of different bits, of 64, in the hashes of near duplicates."""
BLANK = 4
"""Largest difference of grey values, of 255, in an image that is called blank."""
MINIMA, SHARE = near.BANDS * near.ROWS, 0.8
"""Minima of a caption, and the least share of equal ones in near duplicates."""
RUN = 2
"""Words in the runs that captions are compared by."""

Groups: TypeAlias = Int[np.ndarray, " n"]
"""For each item, the number of the first item of its group."""


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
    low, high = image.convert("L").resize((32, 32), Image.Resampling.BOX).getextrema()
    return None if high - low <= BLANK else near.hash_of(image)  # type: ignore[operator]


def minima_of(text: str) -> UInt32[np.ndarray, " m"]:
    """Return the minima of the hash functions over the pairs of neighbouring words of a text."""
    return near.minima(near.runs(text, RUN))


def equal(values: UInt64[np.ndarray, " n"]) -> Groups:
    """Group equal values.

    >>> equal(np.array([5, 7, 5], np.uint64)).tolist()
    [0, 1, 0]
    """
    _, first, place = np.unique(values, return_index=True, return_inverse=True)
    return first[place]


def near_looks(looks: UInt64[np.ndarray, " n"]) -> Groups:
    """Group hashes of images that differ in at most BITS bits, directly or through others; a hash of 0 is never compared."""
    close = candidates(near.hash_bands(looks, BITS))
    return joined(similar(close, lambda pairs: near.distance(looks, pairs) <= BITS), len(looks))


def near_texts(minima: UInt32[np.ndarray, "n m"]) -> Groups:
    """Group minima of captions of which at least SHARE are equal, directly or through others."""

    def close(pairs: Pairs) -> Bool[np.ndarray, " _"]:
        return (minima[pairs[:, 0]] == minima[pairs[:, 1]]).mean(axis=1) >= SHARE

    return joined(similar(candidates(near.text_bands(minima)), close), len(minima))


def joined(pairs: Pairs, count: int) -> Groups:
    """Join pairs to groups, each called by its first item.

    >>> joined(np.array([[1, 2], [2, 4]]), 5).tolist()
    [0, 1, 1, 3, 1]
    """
    groups = np.arange(count)
    left, right = pairs.T
    while not np.array_equal(groups[left], groups[right]):
        low = np.minimum(groups[left], groups[right])
        for side in (left, right):
            np.minimum.at(groups, groups[side], low)
        while not np.array_equal(groups, groups[groups]):
            groups = groups[groups]
    return groups
