"""Rendered clips: the ground truth is that of the pixels, events are visible in the pixels, and the bytes are always the same."""

import hashlib
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.world.clips import Clip, Event, generate_clip, plan_clip, render_clip
from percept.world.clips.render import Studio

from .corpus import FRAMES, clips


def seen(kind: str) -> list[tuple[Clip, Event]]:
    """Return the events of a kind during which the camera does not move and no other one covers the object."""
    table: dict[str, list[tuple[Clip, Event]]] = defaultdict(list)
    for clip in clips():
        for event in clip.events:
            table[event.kind].append((clip, event))
    assert len(table[kind]) >= 5
    return table[kind]


def middle(clip: Clip, track: int, frame: int) -> np.ndarray:
    """Return the centre of an object's visible pixels, (x, y) in [0, 1]."""
    return np.argwhere(clip.mask(track)[frame]).mean(axis=0)[::-1] / clip.size


def area(clip: Clip, track: int, frame: int) -> int:
    return int(clip.mask(track)[frame].sum())


def test_shapes_and_types() -> None:
    for clip in clips()[:20]:
        count = len(clip.tracks)
        assert clip.frames.shape == (FRAMES, 64, 64, 3)
        assert clip.masks.shape == (FRAMES, count, 64, 64)
        assert clip.masks.sum(axis=1).max() <= 1
        assert clip.boxes is not None
        assert clip.boxes.shape == (FRAMES, count, 4)
        assert clip.depth is not None
        assert clip.depth.shape == (FRAMES, 64, 64)
        assert 0 <= clip.depth.min() <= clip.depth.max() <= 1
        assert 0 <= clip.shares().min() <= clip.shares().max() <= 1


def test_boxes_are_those_of_the_masks() -> None:
    for clip in clips()[:6]:
        assert clip.boxes is not None
        for frame in range(0, FRAMES, 5):
            for track in clip.tracks:
                points = np.argwhere(clip.mask(track.number)[frame])
                expected = np.zeros(4)
                if len(points):
                    (top, left), (bottom, right) = points.min(axis=0), points.max(axis=0) + 1
                    expected = np.array([left, top, right, bottom]) / 64
                assert np.allclose(clip.boxes[frame, track.number], expected)


def test_every_frame_is_what_drawing_everything_again_gives() -> None:
    for clip in clips()[:4]:
        for frame in range(0, FRAMES, 6):
            frames, ids = np.empty_like(clip.frames), np.zeros((FRAMES, 64, 64), np.uint8)
            shares = np.zeros_like(clip.shares())
            Studio(clip.plan, clip.plan.shot_at(frame).place, 64).compose(frame, frames, ids, shares)
            assert (frames[frame] == clip.frames[frame]).all()
            assert clip.ids is not None
            assert (ids[frame] == clip.ids[frame]).all()
            assert (shares[frame] == clip.shares()[frame]).all()


def test_pixels_change_where_an_object_appears_and_nowhere_else() -> None:
    checked = 0
    for clip, event in seen("appears"):
        if not any(
            event.start <= other.end and other.start <= event.end for other in clip.events if other is not event
        ):
            before, after = clip.frames[event.start].astype(int), clip.frames[event.end].astype(int)
            changed, mask = np.abs(after - before).max(axis=2) > 8, clip.mask(event.subjects[0])[event.end]
            assert changed[mask].mean() > 0.8
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            changed[max(0, rows[0] - 8) : rows[-1] + 9, max(0, columns[0] - 8) : columns[-1] + 9] = False
            assert not changed.any()
            checked += 1
    assert checked > 4


def test_frames_without_events_are_equal() -> None:
    equal = 0
    for clip in clips():
        for frame in range(1, FRAMES):
            if frame not in clip.cuts and not any(each.start < frame <= each.end for each in clip.events):
                assert (clip.frames[frame] == clip.frames[frame - 1]).all(), (clip.plan.seed, frame)
                equal += 1
    assert equal > 100


STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@pytest.mark.parametrize("kind", ["moves", "approaches", "collides"])
def test_objects_move_in_their_direction(kind: str) -> None:
    for clip, event in seen(kind):
        track, way = event.subjects[0], event.direction
        if way in ("towards", "away"):
            first, last = area(clip, track, event.start), area(clip, track, event.end)
            assert last > 1.3 * first if way == "towards" else first > 1.3 * last
            continue
        step = middle(clip, track, event.end) - middle(clip, track, event.start)
        assert step @ STEPS[way] > 0.1, (clip.plan.seed, event)
        assert abs(step @ np.array(STEPS[way])[::-1]) < 0.06


def test_a_hit_object_moves_after_it_is_touched() -> None:
    for clip, event in seen("collides"):
        step = middle(clip, event.subjects[1], event.end) - middle(clip, event.subjects[1], event.start)
        assert step @ STEPS[event.direction] > 0.08
        masks = clip.masks
        gaps = []
        for frame in range(event.start, event.end + 1):
            one, two = (np.argwhere(masks[frame, number]) for number in event.subjects)
            gaps.append(np.sqrt(((one[:, None] - two[None]) ** 2).sum(-1)).min())
        assert min(gaps) < 6, (clip.plan.seed, event, min(gaps))
        assert gaps[0] > min(gaps)


def test_what_passes_behind_is_hidden_and_comes_out_on_the_other_side() -> None:
    hidden = []
    for clip, event in seen("passes behind"):
        one, two = event.subjects
        shares = clip.shares()[event.start : event.end + 1, one]
        hidden.append(shares.min())
        assert shares[0] > 0.9 < shares[-1] + 0.1
        sides = [
            np.sign(middle(clip, one, frame)[0] - middle(clip, two, frame)[0]) for frame in (event.start, event.end)
        ]
        assert sides == ([-1, 1] if event.direction == "right" else [1, -1])
    assert np.mean(np.array(hidden) < 0.5) > 0.9
    assert np.median(hidden) < 0.2


def test_what_grows_grows_and_what_shrinks_shrinks() -> None:
    for clip, event in seen("grows"):
        assert area(clip, event.subjects[0], event.end) > 1.6 * area(clip, event.subjects[0], event.start)
    for clip, event in seen("shrinks"):
        assert area(clip, event.subjects[0], event.end) < 0.65 * area(clip, event.subjects[0], event.start)


def test_what_spins_turns_and_comes_back() -> None:
    different = []
    for clip, event in seen("spins"):
        masks = clip.mask(event.subjects[0])[event.start : event.end + 1]
        overlaps = [(mask & masks[0]).sum() / (mask | masks[0]).sum() for mask in masks]
        assert overlaps[-1] > 0.9
        different.append(min(overlaps))
    assert np.median(different) < 0.7


def test_what_appears_was_not_there_and_what_vanishes_is_gone() -> None:
    for clip, event in seen("appears"):
        shares = clip.shares()[:, event.subjects[0]]
        assert shares[: event.start + 1].max() == 0
        assert shares[event.end] > 0.9
    for kind in ("vanishes", "leaves", "is picked up"):
        for clip, event in seen(kind):
            shares = clip.shares()[:, event.subjects[0]]
            assert shares[event.start] > 0.4, (clip.plan.seed, event)
            assert shares[event.end :].max() == 0, (clip.plan.seed, event)


def test_what_enters_or_falls_comes_from_outside() -> None:
    for kind in ("enters", "falls"):
        for clip, event in seen(kind):
            shares = clip.shares()[:, event.subjects[0]]
            assert shares[: event.start + 1].max() == 0
            assert shares[event.end] > 0.9
            visible = np.flatnonzero(shares[: event.end + 1] > 0.5)
            start, end = (middle(clip, event.subjects[0], frame) for frame in (visible[0], event.end))
            if event.end > visible[0]:
                assert (end - start) @ STEPS[event.direction] > 0


def test_what_bounces_rises_and_comes_back() -> None:
    for clip, event in seen("bounces"):
        heights = [middle(clip, event.subjects[0], frame)[1] for frame in range(event.start, event.end + 1)]
        assert abs(heights[0] - heights[-1]) < 0.02
        assert heights[0] - min(heights) > 0.07


def test_the_hand_is_seen_only_when_something_is_picked_up() -> None:
    for clip in clips():
        assert clip.ids is not None
        shown = (clip.ids == 255).any(axis=(1, 2))
        allowed = np.zeros(FRAMES, bool)
        for event in clip.events:
            if event.kind == "is picked up":
                allowed[event.start : event.end + 1] = True
                assert shown[event.start : event.end + 1].any()
        assert not (shown & ~allowed).any()


def test_the_camera_moves_still_objects_the_other_way() -> None:
    checked = 0
    for clip, event in seen("pans"):
        for track in clip.tracks:
            shares = clip.shares()[event.start : event.end + 1, track.number]
            still = not any(track.number in other.subjects for other in clip.events)
            clear = np.flatnonzero(shares > 0.95) + event.start
            if still and len(clear) > 1:
                step = middle(clip, track.number, clear[-1]) - middle(clip, track.number, clear[0])
                assert step[0] * STEPS[event.direction][0] < 0
                checked += 1
    assert checked > 3
    for clip, event in seen("zooms"):
        sides = clip.camera[[event.start, event.end], 2]
        assert (sides[1] < sides[0]) == (event.direction == "in")


def test_a_cut_changes_the_whole_image_and_a_return_shows_the_same_place() -> None:
    cuts = [(clip, cut) for clip in clips() for cut in clip.cuts]
    assert len(cuts) > 10
    for clip, cut in cuts:
        change = np.abs(clip.frames[cut].astype(int) - clip.frames[cut - 1]).max(axis=2)
        assert (change > 8).mean() > 0.3
    clip = next(
        clip for clip in (generate_clip(seed, frames=48, size=32) for seed in range(60)) if len(clip.shots) == 3
    )
    here = [track.number for track in clip.tracks if track.place == 0]
    away = slice(clip.shots[1].start, clip.shots[1].end + 1)
    assert clip.shares()[away][:, here].max() == 0
    assert clip.shares()[clip.shots[0].start, here].max() > 0.5 < clip.shares()[clip.shots[2].end, here].max() + 0.5


def test_depth_orders_what_covers_what() -> None:
    for clip, event in seen("passes behind"):
        assert clip.depth is not None
        masks, frame = clip.masks, event.start
        one, two = (clip.depth[frame][masks[frame, number]].mean() for number in event.subjects)
        assert two < one


def test_rendering_without_truth_gives_the_same_frames() -> None:
    plan = plan_clip(3, frames=8)
    bare = render_clip(plan, size=48, truth=False)
    assert (bare.frames == render_clip(plan, size=48).frames).all()
    assert bare.boxes is bare.visible is bare.depth is bare.ids is None
    with pytest.raises(PerceptError, match="truth=True"):
        bare.record()
    with pytest.raises(PerceptError, match="truth=True"):
        bare.mask(0)


def test_all_processes_render_the_same_bytes() -> None:
    program = (
        "import hashlib; from percept.world.clips import generate_clip; import json; c = generate_clip(9, frames=32, size=48); "
        "print(hashlib.sha256(c.frames.tobytes() + c.ids.tobytes() + json.dumps(c.record()).encode()).hexdigest())"
    )
    digests = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        digests.add(done.stdout.strip())
    assert len(digests) == 1
    assert len(digests.pop()) == len(hashlib.sha256().hexdigest())


@pytest.mark.parametrize("size", [31, 1025])
def test_bad_sizes_are_refused(size: int) -> None:
    with pytest.raises(PerceptError, match="from 32 to 1024"):
        render_clip(plan_clip(0, frames=8), size=size)


def test_other_sizes() -> None:
    plan = plan_clip(11, frames=8)
    small, large = (render_clip(plan, size=size) for size in (33, 160))
    assert small.frames.shape[1:3] == (33, 33)
    assert np.abs(small.shares() - large.shares()).max() < 0.2
