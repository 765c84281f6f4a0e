"""Exact and near duplicates of images and captions."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.curate import clusters
from percept.data.curate.duplicates import NO_IMAGE, ExactImages, ExactTexts
from percept.data.curate.groups import candidates, removed, similar, surplus
from percept.data.curate.near import NearImages, NearTexts, minima, perceptual_hash, runs
from percept.data.curate.sizes import LONG, SMALL, ImageSizes
from percept.data.curate.step import Tools
from tests.data.curate.making import chunk, kept, picture, run


def encoded(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 3))
def test_surplus_counts_earlier_equal_keys(keys: list[int], copies: int) -> None:
    expected = [key != 0 and keys[:place].count(key) >= copies for place, key in enumerate(keys)]
    assert surplus(np.array(keys, dtype=np.uint64), copies).tolist() == expected


def test_equal_texts_are_found_across_chunks_whatever_their_case_and_signs(tmp_path: Path) -> None:
    chunks = [chunk([["A red cup!"], ["a dog"]], 0), chunk([["a  RED cup", "a cat"], ["a dog."]], 1, first=2)]
    decisions, _ = run(ExactTexts(), chunks, tmp_path)
    assert kept(decisions) == [True, True, True, False]
    assert decisions[1].texts == [["a cat"], []]
    assert kept(run(ExactTexts(copies=2), chunks, tmp_path)[0]) == [True] * 4


def test_equal_images_and_unreadable_ones_are_found(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2), ("c", 1)):
        (tmp_path / f"{name}.png").write_bytes(encoded(picture(seed)))
    images = ["a.png", "b.png", "c.png", "none.png", None, "https://example.org/a.png"]
    decisions, _ = run(ExactImages(), [chunk([["x"]] * 6, images=images)], tmp_path)
    assert kept(decisions) == [True, True, False, False, False, False]


def test_icons_banners_and_unreadable_images_are_removed(tmp_path: Path) -> None:
    sizes = {"fine": (300, 100), "icon": (99, 99), "banner": (301, 100), "column": (100, 301)}
    for name, size in sizes.items():
        (tmp_path / f"{name}.png").write_bytes(encoded(Image.new("RGB", size)))
    images = [*(f"{name}.png" for name in sizes), "none.png", None]
    decisions, _ = run(ImageSizes(), [chunk([["x"]] * 6, images=images)], tmp_path)
    assert decisions[0].reasons == [None, SMALL, LONG, LONG, NO_IMAGE, NO_IMAGE]
    assert (
        kept(run(ImageSizes(min_side=1, max_ratio=4.0), [chunk([["x"]] * 4, images=images[:4])], tmp_path)[0])
        == [True] * 4
    )
    with pytest.raises(PerceptError, match="no image can be read"):
        run(ImageSizes(), [chunk([["x"]], images=["none.png"])], tmp_path)


@given(st.sets(st.integers(0, 60), min_size=20, max_size=60), st.sets(st.integers(0, 60), min_size=20, max_size=60))
def test_minima_estimate_the_jaccard_similarity(first: set[int], second: set[int]) -> None:
    true = len(first & second) / len(first | second)
    estimate = np.mean(minima([f"w{n}" for n in first]) == minima([f"w{n}" for n in second]))
    assert abs(estimate - true) < 5 * np.sqrt(max(true * (1 - true), 0.01) / 64)


def test_nearly_equal_captions_are_removed_and_others_stay(tmp_path: Path) -> None:
    base = "a large wooden table with a red cup and two green apples near the open window of an old house by the sea"
    texts = [
        base,
        base + " today",
        base.replace("red", "blue"),
        "a completely different caption about a flying dog",
        base.upper(),
    ]
    decisions, _ = run(
        NearTexts(similarity=0.75), [chunk([[t] for t in texts[:2]]), chunk([[t] for t in texts[2:]], 1, 2)], tmp_path
    )
    assert kept(decisions) == [True, False, False, True, False]


def test_no_unlike_caption_is_removed_and_every_removed_one_is_like_a_kept_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = [f"w{n}" for n in range(200)]
    texts = [" ".join(rng.choice(words, 12)) for _ in range(150)]
    texts += [" ".join([*text.split()[:-1], "new"]) for text in texts[:50]]
    step = NearTexts(similarity=0.7)
    decisions, _ = run(step, [chunk([[text] for text in texts])], tmp_path)
    stays = kept(decisions)
    assert all(stays[:150])
    assert sum(stays[150:]) <= 5

    def jaccard(a: str, b: str) -> float:
        first, second = set(runs(a, 2)), set(runs(b, 2))
        return len(first & second) / len(first | second)

    survivors = [text for text, stay in zip(texts, stays, strict=True) if stay]
    for text, stay in zip(texts, stays, strict=True):
        assert stay or max(jaccard(text, other) for other in survivors) > 0.5


def test_no_chain_of_similar_items_is_removed_as_a_whole() -> None:
    pairs = np.array([[n, n + 1] for n in range(9)])
    assert (removed(pairs, 10) < 0).tolist() == [n % 2 == 0 for n in range(10)]


def test_pairs_of_a_bucket_are_found_once() -> None:
    bands = [np.array([5, 5, 0, 5, 0], dtype=np.uint64), np.array([1, 2, 3, 1, 3], dtype=np.uint64)]
    found = similar(candidates(bands), lambda pairs: np.ones(len(pairs), dtype=bool))
    assert found.tolist() == [[0, 1], [0, 3], [1, 3], [2, 4]]


def test_images_that_look_alike_are_found(tmp_path: Path) -> None:
    first, second = picture(1), picture(2)
    images = [
        encoded(first),
        encoded(second),
        encoded(first, "JPEG", quality=60),
        encoded(first.resize((200, 180))),
        encoded(Image.eval(first, lambda value: min(255, int(value * 1.06)))),
        encoded(picture(3)),
        b"broken",
    ]
    decisions, _ = run(NearImages(bits=4), [chunk([["x"]] * 7, images=images)], tmp_path)
    assert kept(decisions) == [True, True, False, False, False, True, False]


def test_hashes_of_different_images_are_far_apart() -> None:
    hashes = [perceptual_hash(encoded(picture(seed))) for seed in range(20)]
    apart = [(a ^ b).bit_count() for place, a in enumerate(hashes) for b in hashes[:place]]
    assert min(apart) > 8
    assert perceptual_hash(encoded(Image.new("RGB", (50, 50), "red"))) != 0


def test_vectors_find_duplicates_that_the_hash_misses(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 16)).astype(np.float32)
    vectors[4] = vectors[1] + 0.01 * rng.normal(size=16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    images: list[str | bytes] = [encoded(picture(seed)) for seed in range(6)]
    tools = Tools(images=lambda some: np.stack([vectors[images.index(image)] for image in some]), dim=16)
    decisions, _ = run(NearImages(cosine=0.99), [chunk([["x"]] * 6, images=images)], tmp_path, tools)
    assert kept(decisions) == [True, True, True, True, False, True]


@pytest.mark.parametrize("count", [1, 3, 50])
def test_clusters_find_separate_groups(count: int) -> None:
    rng = np.random.default_rng(0)
    centres = 10 * rng.normal(size=(3, 4))
    vectors = (centres[np.arange(60) % 3] + 0.01 * rng.normal(size=(60, 4))).astype(np.float32)
    found = clusters.train(vectors, count, seed=0)
    assert len(found) == min(count, 60)
    label = clusters.assign(vectors, found)
    naive = ((vectors[:, None] - found[None]) ** 2).sum(-1).argmin(1)
    np.testing.assert_allclose(
        ((vectors - found[label]) ** 2).sum(1), ((vectors - found[naive]) ** 2).sum(1), atol=1e-3
    )
