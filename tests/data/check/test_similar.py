"""Groups of duplicates against naive comparison of all pairs."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from percept.data.check.similar import BITS, equal, look_of, minima_of, near_looks, near_texts


def naive(count: int, close: np.ndarray) -> list[int]:
    """The first item of each item's group, joined pair by pair."""
    groups = list(range(count))
    for left, right in zip(*np.nonzero(close), strict=True):
        low, high = sorted((groups[left], groups[right]))
        groups = [low if group == high else group for group in groups]
    return groups


@pytest.mark.parametrize("seed", range(5))
def test_near_looks_are_all_pairs_within_the_bits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    looks = rng.integers(0, 1 << 64, 30, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in rng.choice(64, rng.integers(0, 6), replace=False)) for _ in range(60)]
    looks = np.concatenate([looks, looks[rng.integers(0, 30, 60)] ^ np.array(flips, np.uint64)])
    rng.shuffle(looks)
    close = np.array([[(int(left) ^ int(right)).bit_count() <= BITS for right in looks] for left in looks])
    assert near_looks(looks).tolist() == naive(len(looks), close)
    assert len(set(naive(len(looks), close))) < 90


def test_chains_of_near_looks_are_one_group() -> None:
    looks = np.array([1, 0xFFFF0, 0b111, 0b111111, 0b111111111], np.uint64)
    assert near_looks(looks).tolist() == [0, 1, 0, 0, 0]


def test_copies_of_an_image_look_alike_and_other_images_do_not() -> None:
    small = np.random.default_rng(0).integers(0, 256, (40, 9, 12, 3), dtype=np.uint8)
    images = [Image.fromarray(pixels).resize((200, 150), Image.Resampling.BICUBIC) for pixels in small]
    copies = []
    for image in images:
        file = io.BytesIO()
        image.resize((120, 90)).save(file, "JPEG", quality=70)
        copies.append(Image.open(file).convert("RGB"))
    looks = np.array([look_of(image) for image in images + copies], np.uint64)
    groups = near_looks(looks)
    assert (groups[40:] == np.arange(40)).mean() >= 0.95
    assert groups[:40].tolist() == list(range(40))
    assert look_of(Image.new("RGB", (80, 60), (12, 200, 30))) is None


def test_near_texts_share_most_pairs_of_words() -> None:
    base = "a red cup with a broken handle stands on the left side of a long wooden table near the window"
    texts = [
        base,
        f"{base}.",
        base.upper(),
        base.replace("near the window", "near the door"),
        "a dog runs",
        "a dog sleeps",
    ]
    assert near_texts(np.stack([minima_of(text) for text in texts])).tolist() == [0, 0, 0, 0, 4, 5]


def test_minima_estimate_the_share_of_common_pairs() -> None:
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(50):
        words = [f"w{number}" for number in rng.permutation(60)]
        cut = int(rng.integers(10, 50))
        left, right = words, words[:cut] + [f"x{number}" for number in range(60 - cut)]
        pairs = [set(itertools.pairwise(each)) for each in (left, right)]
        share = len(pairs[0] & pairs[1]) / len(pairs[0] | pairs[1])
        errors.append((minima_of(" ".join(left)) == minima_of(" ".join(right))).mean() - share)
    assert abs(np.mean(errors)) < 0.03
    assert np.std(errors) < 0.12


def test_equal_names_the_first() -> None:
    assert equal(np.array([9, 4, 9, 4, 1], np.uint64)).tolist() == [0, 1, 0, 1, 4]
