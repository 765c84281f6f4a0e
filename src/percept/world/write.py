"""Write the labelled world as files: a folder, json lines or tar shards. An interrupted run leaves no files.

- folder: `images/KEY.png`, `truth/KEY.json`, `masks/KEY.png`, `depth/KEY.png`
- jsonl: `images/KEY.png`, `masks/KEY.png`, `depth/KEY.png`, and one line of truth per image in `truth.jsonl`, with
  the paths of these files as `image`, `masks` and `depth`
- webdataset: `SHARD.tar` with `KEY.png`, `KEY.json`, `KEY.txt` (short caption), `KEY.masks.png`, `KEY.depth.png`

Pixels of masks are the number of the visible thing, or 0; those of depth are from 0 (near) to 255 (far).
"""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from percept.core.errors import PerceptError, unknown_name
from percept.core.parallel import map_processes
from percept.core.report import track
from percept.world.record import describe
from percept.world.render import render
from percept.world.scene import sample_scene

SHARD = 250
"""Images per unit of work, and per tar file."""
MANY = 1500
"""Smallest number of images for which processes are started by default."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Arguments of `write` that every unit of work needs."""

    folder: str
    count: int
    seed: int
    split: str
    style: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image with its truth, encoded."""

    key: str
    truth: dict[str, Any]
    image: bytes
    masks: bytes
    depth: bytes


def write(
    folder: Path | str,
    count: int,
    *,
    seed: int = 0,
    split: str = "train",
    style: str = "plain",
    format: str = "folder",
    size: int = 96,
    workers: int | None = None,
) -> Path:
    """Write images number `seed`, `seed` + 1, … of a split with their truth; return the folder.

    The bytes do not depend on the number of workers.

    Args:
        folder: new or empty folder.
        count: number of images.
        seed: number of the first image.
        split: a name of `SPLITS`.
        style: a name of `STYLES`, or "mixed".
        format: "folder", "jsonl" or "webdataset".
        size: shorter side in pixels.
        workers: number of processes, 0 for the calling process; None for one per core if there are many images.

    Raises:
        PerceptError: the folder is not empty, or an argument is out of range.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    if count < 1:
        raise PerceptError(f"count must be at least 1, got {count}.")
    if workers is not None and workers < 0:
        raise PerceptError(f"workers must be at least 0, got {workers}.")
    render(
        sample_scene(seed, split=split, style=style), size=size
    )  # refuses wrong arguments before anything is written
    workers = workers if workers is not None else (os.cpu_count() or 1 if count >= MANY else 0)
    with _appearing(Path(folder)) as temporary:
        job = Job(folder=str(temporary), count=count, seed=seed, split=split, style=style, size=size)
        starts = range(0, count, SHARD)
        processes = min(max(1, workers), len(starts))
        texts = map_processes(partial(FORMATS[format], job), starts, processes=processes)
        lines = [line for text in track(texts, f"writing {count} images", len(starts)) for line in text]
        if lines:
            (temporary / "truth.jsonl").write_text("".join(lines), encoding="utf-8")
    return Path(folder)


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; its content moves to `folder` if the block succeeds and is deleted otherwise.

    An existing empty folder is filled and not replaced: it may be a working directory or a mount point.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        kind = "is not empty" if folder.is_dir() else "is a file"
        raise PerceptError(f"{folder} {kind}. Give a new or empty folder.")
    target = Path(os.path.realpath(folder))  # resolves "." and links
    inside = target.is_dir()
    temporary = target / f".{os.getpid()}.part" if inside else target.with_name(f".{target.name}.{os.getpid()}.part")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if os.listdir(target) != [temporary.name] if inside else os.path.lexists(target):
            raise PerceptError(f"another process wrote into {folder}. Give a different folder.")
        if inside:
            for part in sorted(temporary.iterdir()):
                os.replace(part, target / part.name)
        else:
            os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _samples(job: Job, start: int) -> Iterator[Sample]:
    """Draw and encode one unit of work."""
    for number in range(start, min(start + SHARD, job.count)):
        rendering = render(sample_scene(job.seed + number, split=job.split, style=job.style), size=job.size)
        assert rendering.masks is not None
        assert rendering.depth is not None
        order = np.arange(1, len(rendering.masks) + 1, dtype=np.uint8)[:, None, None]
        key = f"{number:06d}"
        yield Sample(
            key=key,
            truth={"key": key, **describe(rendering)},
            image=_png(rendering.image),
            masks=_png((rendering.masks * order).sum(0).astype(np.uint8)),
            depth=_png(np.rint(rendering.depth * 255).astype(np.uint8)),
        )


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _write_folder(job: Job, start: int) -> list[str]:
    truth = Path(job.folder, "truth")
    truth.mkdir(exist_ok=True)
    for sample in _samples(job, start):
        _write_images(job, sample)
        (truth / f"{sample.key}.json").write_text(json.dumps(sample.truth, indent=1), encoding="utf-8")
    return []


def _write_jsonl(job: Job, start: int) -> list[str]:
    """Write the images of one unit; return their lines of truth, which the parent process writes in order."""
    lines = []
    for sample in _samples(job, start):
        image, masks, depth = _write_images(job, sample)
        lines.append(json.dumps({"image": image, "masks": masks, "depth": depth, **sample.truth}) + "\n")
    return lines


def _write_images(job: Job, sample: Sample) -> list[str]:
    """Write image, masks and depth; return their paths relative to the folder."""
    parts = {"images": sample.image, "masks": sample.masks, "depth": sample.depth}
    names = [f"{part}/{sample.key}.png" for part in parts]
    for name, data in zip(names, parts.values(), strict=True):
        file = Path(job.folder, name)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
    return names


def _write_webdataset(job: Job, start: int) -> list[str]:
    path = Path(job.folder) / f"{start // SHARD:06d}.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in _samples(job, start):
            parts = {
                "png": sample.image,
                "json": json.dumps(sample.truth).encode(),
                "txt": sample.truth["short_caption"].encode(),
                "masks.png": sample.masks,
                "depth.png": sample.depth,
            }
            for suffix, data in parts.items():
                entry = tarfile.TarInfo(f"{sample.key}.{suffix}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return []


FORMATS: dict[str, Callable[[Job, int], list[str]]] = {
    "folder": _write_folder,
    "jsonl": _write_jsonl,
    "webdataset": _write_webdataset,
}
