"""Clips with sentences to look for: three sets of clips that differ in what happens and in how it is filmed.

actions: one place, fixed camera; things act one after the other or at the same time.
camera: the camera moves, or there are cuts, or both; things act and the camera's own moves are asked for too.
albums: images in a row, each seen for a while by a camera that drifts; a sentence describes one image.

>>> asked = queried_clip("albums", 0, size=32)
>>> asked.frames.shape[1:], all(0 <= each.start <= each.end < len(asked.frames) for each in asked.moments)
((32, 32, 3), True)
"""

import random
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from percept.core.errors import unknown_name
from percept.core.seed import derive
from percept.world.clips.elements import CAMERA_KINDS, Plan
from percept.world.clips.language import Segment, moments
from percept.world.clips.planning import plan_clip
from percept.world.clips.render import render_clip
from percept.world.language import short_caption
from percept.world.render import render
from percept.world.scene import sample_scene
from percept.world.splits import split_seed

KINDS = ("actions", "camera", "albums")
LENGTHS = (20, 24, 28)
"""Numbers of frames of a clip."""
TRIALS = 64
"""Plans tried for one clip."""
IMAGES = (3, 5)
"""Fewest and most images of an album."""
SHORTEST = 3
"""Fewest frames of an image of an album."""
MARGIN = 1.2
"""Side of an image of an album as a multiple of the window that drifts over it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Queried:
    """Frames, and sentences that are each true of one span of them."""

    frames: UInt8[np.ndarray, "t y x 3"]
    moments: tuple[Segment, ...]


def queried_clip(kind: str, number: int, *, split: str = "train", size: int = 96) -> Queried:
    """Return clip `number` of a set. The same arguments give the same clip.

    Clips of the evaluation split show compositions that the training split never does, see `percept.world.clips.splits`.

    Args:
        kind: a name of `KINDS`.
        number: from 0.
        split: a name of `percept.world.SPLITS`.
        size: side of the frames in pixels.

    Raises:
        PerceptError: unknown kind or split, or size out of range.
    """
    if kind not in KINDS:
        raise unknown_name("kind of clips", kind, KINDS)
    if kind == "albums":
        return _album(number, split, size)
    plan = _plan(kind, number, split)
    return Queried(frames=render_clip(plan, size=size, truth=False).frames, moments=tuple(moments(plan)))


def _plan(kind: str, number: int, split: str) -> Plan:
    """Return the first plan that belongs to a set and has at least two sentences to look for."""
    for trial in range(TRIALS):
        plan = plan_clip(TRIALS * number + trial, split=split, frames=LENGTHS[number % len(LENGTHS)])
        if (kind == "camera") == _changes_view(plan) and len(moments(plan)) >= 2:
            return plan
    raise AssertionError(f"no plan of kind {kind} among {TRIALS}")


def _changes_view(plan: Plan) -> bool:
    return len(plan.shots) > 1 or any(event.kind in CAMERA_KINDS for event in plan.events)


def _album(number: int, split: str, size: int) -> Queried:
    """Show images one after the other; captions that occur twice are left out."""
    frames = LENGTHS[number % len(LENGTHS)]
    rng = random.Random(derive(split_seed(number, split), "album", frames))
    count = rng.randint(*IMAGES)
    cuts = sorted(rng.sample(range(1, frames - count * (SHORTEST - 1)), count - 1))
    starts = [0, *(cut + place * (SHORTEST - 1) for place, cut in enumerate(cuts, start=1))]
    shown, segments = [], []
    for place, (start, stop) in enumerate(zip(starts, [*starts[1:], frames], strict=True)):
        scene = sample_scene((IMAGES[1] + 1) * number + place, split=split, things=(1, 2))
        image = Image.fromarray(render(scene, size=round(MARGIN * size), truth=False).image)
        shown.append(_drifting(rng, image, stop - start, size))
        segments.append(Segment(start=start, end=stop - 1, text=short_caption(scene, rng)))
    texts = [segment.text for segment in segments]
    return Queried(
        frames=np.concatenate(shown), moments=tuple(each for each in segments if texts.count(each.text) == 1)
    )


def _drifting(rng: random.Random, image: Image.Image, frames: int, size: int) -> UInt8[np.ndarray, "t y x 3"]:
    """Return windows of an image along a straight line."""
    room = image.width - size
    first, last = ((rng.uniform(0, room), rng.uniform(0, room)) for _ in range(2))
    corners = np.linspace(first, last, frames)
    boxes = [(left, top, left + size, top + size) for left, top in corners.tolist()]
    return np.stack([np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box)) for box in boxes])
