"""Images with their truth: a folder, json lines or tar shards."""

import json
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from percept.core.seed import derive
from percept.world.elements import Scene
from percept.world.languages import caption_in
from percept.world.noise import noisy_caption
from percept.world.record import describe
from percept.world.render import Rendering, render
from percept.world.scene import sample_scene
from percept.world.write.encode import add_member, near_far_png, png
from percept.world.write.job import INDEX, UNITS, Job, Lines, index_line, key_of


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image with its truth, encoded."""

    key: str
    truth: dict[str, Any]
    image: bytes
    masks: bytes
    depth: bytes

    @property
    def caption(self) -> str:
        """The noisy caption if noise was asked for, else the short one."""
        return self.truth.get("caption", self.truth["short_caption"])


def check(job: Job) -> None:
    """Draw the first image.

    Raises:
        PerceptError: an argument is out of range.
    """
    rendering_of(job, 0)


def rendering_of(job: Job, number: int) -> Rendering:
    """Return image `number` of a job."""
    return render(sample_scene(job.seed + number, split=job.split, style=job.style), size=job.side)


def texts_of(job: Job, scene: Scene, number: int) -> dict[str, str]:
    """Return the captions that only some jobs ask for: one with noise, and one in each language."""
    texts = {}
    if job.noise is not None:
        noisy = noisy_caption(scene, job.seed + number, job.noise)
        texts = {"caption": noisy.text, "clean_caption": noisy.clean, "noise": noisy.kind}
    for language in job.languages:
        rng = random.Random(derive(scene.seed, "caption in", language, scene.split, scene.style))
        texts[f"caption_{language}"] = caption_in(scene, language, rng)
    return texts


def numbered(rendering: Rendering) -> np.ndarray:
    """Return the number of the visible thing at each pixel, from 1, or 0."""
    assert rendering.masks is not None
    order = np.arange(1, len(rendering.masks) + 1, dtype=np.uint8)[:, None, None]
    return (rendering.masks * order).sum(0).astype(np.uint8)


def _samples(job: Job, numbers: range) -> Iterator[Sample]:
    """Draw and encode one unit of work."""
    for number in numbers:
        rendering = rendering_of(job, number)
        assert rendering.depth is not None
        yield Sample(
            key=key_of(number),
            truth={"key": key_of(number), **describe(rendering), **texts_of(job, rendering.scene, number)},
            image=png(rendering.image),
            masks=png(numbered(rendering)),
            depth=near_far_png(rendering.depth),
        )


def write_folder(job: Job, numbers: range) -> Lines:
    """Write images, masks, depth and truth as one file each; return their lines of the index."""
    lines = []
    for sample in _samples(job, numbers):
        image, masks, depth = _write_images(job, sample)
        truth = job.put(f"truth/{sample.key}.json", json.dumps(sample.truth, indent=1))
        captions = {"caption": sample.caption} | {
            name: text for name, text in sample.truth.items() if "caption" in name and isinstance(text, str)
        }
        lines.append(index_line(image, **captions, masks=masks, depth=depth, truth=truth))
    return {INDEX: lines}


def write_jsonl(job: Job, numbers: range) -> Lines:
    """Write the images of one unit; return their lines of truth."""
    lines = []
    for sample in _samples(job, numbers):
        image, masks, depth = _write_images(job, sample)
        lines.append(json.dumps({"image": image, "masks": masks, "depth": depth, **sample.truth}) + "\n")
    return {"truth.jsonl": lines}


def _write_images(job: Job, sample: Sample) -> list[str]:
    """Write image, masks and depth; return their paths relative to the folder."""
    parts = {"images": sample.image, "masks": sample.masks, "depth": sample.depth}
    return [job.put(f"{part}/{sample.key}.png", data) for part, data in parts.items()]


def write_webdataset(job: Job, numbers: range) -> Lines:
    """Write one tar shard."""
    path = Path(job.folder) / f"{numbers.start // UNITS['images']:06d}.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in _samples(job, numbers):
            add_member(tar, f"{sample.key}.png", sample.image)
            add_member(tar, f"{sample.key}.json", json.dumps(sample.truth).encode())
            add_member(tar, f"{sample.key}.txt", sample.caption.encode())
            add_member(tar, f"{sample.key}.masks.png", sample.masks)
            add_member(tar, f"{sample.key}.depth.png", sample.depth)
    return {}
