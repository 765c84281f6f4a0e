"""The ground truth of an image agrees with its pixels."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.world import BACKGROUNDS, SEEN, STYLES, UNSEEN, Rendering, generate, render, sample_scene

DIGEST = """
import hashlib
from percept.world import generate
h = hashlib.sha256()
for seed in range(12):
    p = generate(seed, split="evaluation", style="mixed")
    h.update(p.image.tobytes() + p.masks.tobytes() + p.depth.tobytes() + repr(p.scene).encode())
print(h.hexdigest())
"""


def test_same_seed_same_bytes_in_another_process() -> None:
    there = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout.strip()
    here = hashlib.sha256()
    for seed in range(12):
        rendering = generate(seed, split="evaluation", style="mixed")
        assert rendering.masks is not None
        assert rendering.depth is not None
        here.update(rendering.image.tobytes() + rendering.masks.tobytes() + rendering.depth.tobytes())
        here.update(repr(rendering.scene).encode())
    assert here.hexdigest() == there


def test_pixels_do_not_depend_on_the_truth_being_asked_for() -> None:
    for seed in range(12):
        scene = sample_scene(seed, style="mixed")
        fast, full = render(scene, truth=False), render(scene)
        assert np.array_equal(fast.image, full.image)
        assert fast.masks is fast.depth is None


@pytest.mark.parametrize("style", STYLES)
def test_boxes_enclose_masks_tightly_and_masks_are_disjoint(style: str) -> None:
    for seed in range(25):
        rendering = generate(seed, style=style, split="evaluation")
        assert rendering.masks is not None
        assert rendering.masks.sum(0).max() <= 1
        for mask, box in zip(rendering.masks, rendering.boxes, strict=True):
            rows, columns = np.nonzero(mask)
            if len(rows):
                left, top, right, bottom = np.rint(box * 96)
                assert (left, top, right, bottom) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def _alone(rendering: Rendering, index: int) -> np.ndarray:
    """Return the mask a thing would have if nothing else were there."""
    masks = render(replace(rendering.scene, things=(rendering.scene.things[index],), words=())).masks
    assert masks is not None
    return masks[0]


def test_nearer_things_hide_farther_ones_and_the_depth_map_says_so() -> None:
    overlaps = 0
    for seed in range(40):
        rendering = generate(seed, things=(2, 5))
        assert rendering.masks is not None
        assert rendering.depth is not None
        whole = [_alone(rendering, index) for index in range(len(rendering.masks))]
        for index, thing in enumerate(rendering.scene.things):
            assert np.allclose(rendering.depth[rendering.masks[index]], thing.depth, atol=1e-6)
            for other, partner in enumerate(rendering.scene.things):
                shared = whole[index] & whole[other]
                if thing.depth < partner.depth and shared.sum() > 8:
                    overlaps += 1
                    assert not (rendering.masks[other] & shared).any()
    assert overlaps > 10


def test_visible_share_is_that_of_the_mask() -> None:
    for seed in range(20):
        rendering = generate(seed, things=(3, 6))
        assert rendering.masks is not None
        for index, share in enumerate(rendering.visible):
            inside = rendering.masks[index].sum() / max(1, _alone(rendering, index).sum())
            assert share <= inside + 0.08  # equal but for what lies outside the image, and rounding


def test_things_stay_visible() -> None:
    for style in ("plain", "rendition", "sketch", "unusual", "corruption"):
        shares = np.concatenate([generate(seed, style=style).visible for seed in range(120)])
        assert shares.min() >= 0.15
        assert np.mean(shares < 0.35) < 0.01


def test_things_stand_out_from_what_is_behind() -> None:
    """Every thing leaves its mark on the image, whatever its colour and background."""
    for name in BACKGROUNDS:
        for colour in ("white", "black", "grey", "green", "brown", "blue", "yellow"):
            base = sample_scene(3, things=(1, 1))
            horizon = BACKGROUNDS[name].horizon[0]
            scene = replace(
                base,
                background=name,
                horizon=horizon,
                words=(),
                things=(replace(base.things[0], colour=colour, fill="plain"),),
            )
            rendering, empty = render(scene), render(replace(scene, things=(replace(scene.things[0], x=-3.0),)))
            assert rendering.masks is not None
            change = np.abs(rendering.image.astype(int) - empty.image.astype(int)).max(2)[rendering.masks[0]]
            assert np.mean(change > 25) > 0.15, (name, colour)


def test_boxes_of_words_hold_their_ink() -> None:
    found = 0
    for seed in range(150):
        scene = sample_scene(seed)
        if not scene.words:
            continue
        found += 1
        with_words, without = render(scene), render(replace(scene, words=()))
        change = np.abs(with_words.image.astype(int) - without.image.astype(int)).max(2) > 20
        for word, box in zip(scene.words, with_words.word_boxes, strict=True):
            left, top, right, bottom = np.rint(box * 96).astype(int)
            assert change[top:bottom, left:right].any()
            assert 0 <= box.min() <= box.max() <= 1
            assert right - left > 0.25 * 96 * word.size * len(word.text)
        assert with_words.depth is not None
        assert with_words.depth.min() == 0
    assert found > 8


@pytest.mark.parametrize("aspect", [0.5, 1.0, 1.7])
def test_other_sizes_show_the_same_scene(aspect: float) -> None:
    scene = sample_scene(5, aspect=aspect)
    small, large = render(scene, size=64), render(scene, size=200)
    assert small.image.shape[0] == round(64 * scene.height)
    assert large.image.shape[1] == round(200 * scene.width)
    assert np.abs(small.boxes - large.boxes).max() < 0.05
    assert np.abs(small.visible - large.visible).max() < 0.06


def test_every_variant_changes_the_image_and_can_be_drawn_at_any_size() -> None:
    for style in ("rendition", "sketch", "corruption"):
        for variant in SEEN[style] + UNSEEN[style]:
            scene = sample_scene(1, style=style, variant=variant, split="evaluation", aspect=1.5)
            rendering = render(scene, size=150)
            plain = render(replace(scene, style="plain", variant="plain"), size=150)
            assert np.abs(rendering.image.astype(int) - plain.image.astype(int)).mean() > 2, variant


@pytest.mark.parametrize("size", [0, 31, 4000])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(PerceptError, match="32 to 2048"):
        render(sample_scene(0), size=size)
