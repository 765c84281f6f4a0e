"""Clips as in DAVIS 2017 (Pont-Tuset et al. 2017, arXiv:1704.00675): JPEG frames, masks with a palette, and lists of sequences.

Objects that are visible in the first frame have the lowest numbers, because the masks of that frame are given to trackers. The
folders are named 480p, as in DAVIS, whatever the size. The splits validation and evaluation are both listed in val.txt.
"""

import json

import numpy as np
from jaxtyping import UInt8

from percept.world.clips import Clip
from percept.world.clips.footage import HAND
from percept.world.write.clips import clip_of
from percept.world.write.encode import jpeg, near_far_png, palette_png
from percept.world.write.job import Job, Lines, key_of


def write_frames(job: Job, numbers: range) -> Lines:
    """Write frames, masks, depth and truth; return the lines of the list of sequences."""
    names = []
    for number in numbers:
        clip, name = clip_of(job, number), key_of(number)
        objects = object_numbers(clip)
        masks = renumbered(clip, objects)
        assert clip.depth is not None
        for frame in range(len(clip.frames)):
            job.put(f"JPEGImages/480p/{name}/{frame:05d}.jpg", jpeg(clip.frames[frame]))
            job.put(f"Annotations/480p/{name}/{frame:05d}.png", palette_png(masks[frame]))
            job.put(f"Depth/480p/{name}/{frame:05d}.png", near_far_png(clip.depth[frame]))
        job.put(f"Truth/{name}.json", json.dumps({"objects": objects, **clip.record()}))
        if masks[0].any():
            names.append(f"{name}\n")
    return {f"ImageSets/2017/{job.subset}.txt": names}


def object_numbers(clip: Clip) -> list[int]:
    """Return the number of each track in the masks, from 1: those in the first frame come first; 0 for those never visible."""
    assert clip.ids is not None
    seen = [np.unique(ids[(ids > 0) & (ids != HAND)]) - 1 for ids in (clip.ids[0], clip.ids)]
    order = list(dict.fromkeys(np.concatenate(seen).tolist()))
    return [order.index(track.number) + 1 if track.number in order else 0 for track in clip.tracks]


def renumbered(clip: Clip, objects: list[int]) -> UInt8[np.ndarray, "t y x"]:
    """Return the number of the object at each pixel; 0 for the background and hands."""
    assert clip.ids is not None
    table = np.zeros(256, np.uint8)
    table[1 : len(objects) + 1] = objects
    return table[clip.ids]
