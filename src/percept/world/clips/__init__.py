"""Clips of the labelled world: objects that act, a moving camera and cuts, with complete ground truth in every frame.

>>> clip = generate_clip(3, frames=8)
>>> clip.frames.shape, clip.masks.shape == (8, len(clip.tracks), 96, 96)
((8, 96, 96, 3), True)
"""

from percept.world.clips.clip import Clip
from percept.world.clips.planning import plan_clip
from percept.world.clips.render import render_clip


def generate_clip(seed: int, *, split: str = "train", frames: int = 16, size: int = 96, truth: bool = True) -> Clip:
    """Plan clip number `seed` of a split and render it. Arguments are those of `plan_clip` and `render_clip`."""
    return render_clip(plan_clip(seed, split=split, frames=frames), size=size, truth=truth)
