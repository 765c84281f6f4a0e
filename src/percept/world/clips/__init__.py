"""Clips of the labelled world: objects that act, a moving camera and cuts, with complete ground truth in every frame.

>>> clip = generate_clip(3, frames=8)
>>> clip.frames.shape, clip.masks.shape == (8, len(clip.tracks), 96, 96)
((8, 96, 96, 3), True)
"""

from percept.world.clips.actions import ACTIONS
from percept.world.clips.clip import Clip
from percept.world.clips.elements import CAMERA_KINDS, Event, Plan, Shot, Track
from percept.world.clips.planning import plan_clip
from percept.world.clips.questions import Question
from percept.world.clips.render import render_clip
from percept.world.clips.rows import Row, clip_rows, pvd_record
from percept.world.clips.splits import held_out_action, is_held_out

__all__ = [
    "ACTIONS",
    "CAMERA_KINDS",
    "Clip",
    "Event",
    "Plan",
    "Question",
    "Row",
    "Shot",
    "Track",
    "clip_rows",
    "generate_clip",
    "held_out_action",
    "is_held_out",
    "plan_clip",
    "pvd_record",
    "render_clip",
]


def generate_clip(seed: int, *, split: str = "train", frames: int = 16, size: int = 96, truth: bool = True) -> Clip:
    """Plan clip number `seed` of a split and render it. Arguments are those of `plan_clip` and `render_clip`."""
    return render_clip(plan_clip(seed, split=split, frames=frames), size=size, truth=truth)
