"""Copies among files: leaders, pairs, sharpness, and which file is kept."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from percept.core.errors import PerceptError
from percept.data.copies import FileFacts, best_first, groups_of, led, near_pairs, read_facts, sharpness_of


def unit(count: int, seed: int = 0, dim: int = 3) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def led_by_loop(vectors: np.ndarray, least: float) -> list[int]:
    """The rule, one vector at a time."""
    leaders, result = [], []
    for row, vector in enumerate(vectors):
        cosines = [float(vectors[leader] @ vector) for leader in leaders]
        if cosines and max(cosines) >= least:
            result.append(leaders[int(np.argmax(cosines))])
        else:
            leaders.append(row)
            result.append(row)
    return result


@pytest.mark.parametrize("block", [1, 7, 64, 500])
@pytest.mark.parametrize("least", [0.5, 0.9, 0.99])
def test_leaders_are_those_of_the_loop(block, least):
    vectors = unit(200)
    leader, cosine = led(vectors, least, block=block)
    assert leader.tolist() == led_by_loop(vectors, least)
    followers = np.flatnonzero(leader != np.arange(200))
    assert (cosine[followers] >= least).all()
    expected = (vectors * vectors[leader]).sum(axis=1)[followers]
    np.testing.assert_allclose(cosine[followers], expected, atol=1e-5)


def test_no_chain_becomes_one_group():
    angles = np.deg2rad(np.arange(0, 90, 10))  # neighbours are near, the ends are not
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    leader, _ = led(vectors, 0.98)
    assert len(set(leader.tolist())) > 3
    assert len(set(groups_of((pairs for pairs, _ in near_pairs(vectors, 0.98)), 9).tolist())) == 1


@pytest.mark.parametrize("block", [3, 100])
def test_pairs_are_all_pairs(block):
    vectors = unit(50, seed=1)
    found = {tuple(pair) for pairs, _ in near_pairs(vectors, 0.8, block=block) for pair in pairs.tolist()}
    first, second = np.nonzero(np.triu(vectors @ vectors.T >= 0.8, k=1))
    assert found == set(zip(first.tolist(), second.tolist(), strict=True))
    assert found


def test_nothing_to_compare():
    leader, _ = led(np.zeros((0, 4), dtype=np.float32), 0.9)
    assert len(leader) == 0
    assert groups_of((), 3).tolist() == [0, 1, 2]


def fact(name: str, **values) -> FileFacts:
    return FileFacts(path=Path(name), **{"hash": name, "bytes": 1, "modified": 1, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "best"),
    [("largest", "big"), ("sharpest", "sharp"), ("oldest", "old"), ("newest", "new"), ("first", "plain")],
)
def test_the_rule_decides_what_is_kept(rule, best):
    files = [
        fact("plain", width=5, height=5, modified=5), fact("big", width=9, height=9, modified=5),
        fact("sharp", width=5, height=5, modified=5, sharpness=3.0), fact("old", width=5, height=5, modified=1),
        fact("new", width=5, height=5, modified=9),
    ]  # fmt: skip
    assert str(files[best_first(files, rule)[0]].path) == best


def test_an_unknown_rule_names_the_nearest():
    with pytest.raises(PerceptError, match="did you mean 'largest'"):
        best_first([], "largst")


def test_a_blurred_copy_is_less_sharp_and_size_does_not_matter(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 700, 3), dtype=np.uint8))
    image = image.resize((70, 60)).resize((700, 600))
    image.save(tmp_path / "sharp.png")
    image.filter(ImageFilter.GaussianBlur(12)).save(tmp_path / "soft.png")
    assert sharpness_of(tmp_path / "sharp.png") > 2 * sharpness_of(tmp_path / "soft.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    assert sharpness_of(tmp_path / "dot.png") == 0


def test_facts_name_bad_files(tmp_path):
    Image.new("RGB", (7, 5), "red").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    good, bad = read_facts([tmp_path / "a.png", tmp_path / "b.png"])
    assert (good.width, good.height, good.sharpness) == (7, 5, 0.0)  # type: ignore[union-attr]
    assert "empty" in bad.reason  # type: ignore[union-attr]
