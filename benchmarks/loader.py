"""Compare ways to read training images and videos: plain loops, percept's sources, and the webdataset library.

    python benchmarks/loader.py               # makes files, prints tables and writes loader.json next to this file

Images: JPEG of 500 x 375 pixels with one caption each, as a folder and as two shards. Every way decodes all of them, makes pixels of
224 x 224, normalises to float32 and makes batches of 50 in one process and one thread. The augmented ways also crop, mirror and
change brightness and saturation, with the same views. Videos: clips of 10 minutes with a keyframe every 10 seconds, of which 8 frames are used. Rates are images or
used frames per second of processor time; the ways take turns, and each ratio is the median over the turns. Memory: resident
size of a process that reads 100,000 augmented samples.
"""

import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import tyro
import video_seek
from harness import Times, Turns, facts, save, take_turns, timed
from PIL import Image, ImageEnhance
from torch import Tensor

from percept.core.report import table
from percept.data import open_source
from percept.data.augment import Augment
from percept.data.transforms import Preprocess
from percept.data.video import choose

RESULTS = Path(__file__).with_suffix(".json")
WIDTH, HEIGHT, SIDE, BATCH = 500, 375, 224, 50
DIFFERENT = 50
"""Different images; further files repeat them."""
AUGMENT = Augment()
FRAMES, LENGTH, SMALL = 8, 15_000, 112
"""Frames used of a clip, frames of a clip, and side in pixels of frames."""


def jpeg(number: int) -> bytes:
    """Encode a smooth random image of about 45 kB."""
    noise = np.random.default_rng(number).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


def make(folder: Path, count: int) -> None:
    """Write the images as a folder with .txt files, and as two shards."""
    images = [jpeg(number) for number in range(min(count, DIFFERENT))]
    (folder / "files").mkdir()
    for shard in range(2):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for number in range(shard, count, 2):
                data = {"jpg": images[number % len(images)], "txt": f"caption {number}".encode()}
                for ending, content in data.items():
                    (folder / "files" / f"{number:06d}.{ending}").write_bytes(content)
                    member = tarfile.TarInfo(f"{number:06d}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def tensor(image: Image.Image) -> Tensor:
    """Resize and normalise with Pillow and torch."""
    pixels = np.array(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return (torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 - 0.5) / 0.5


def augmented(image: Image.Image, number: int) -> Tensor:
    """Make a random view with Pillow, as torchvision does for Pillow images, and normalise with torch."""
    view = AUGMENT.draw(image.size, (SIDE, SIDE), number)
    image = image.convert("RGB").crop(view.box).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    if view.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = ImageEnhance.Brightness(image).enhance(view.brightness)
    return tensor(ImageEnhance.Color(image).enhance(view.saturation))


def plain(image: Image.Image, number: int) -> Tensor:
    """Resize and normalise, whatever the number."""
    return tensor(image)


Made = Callable[[Image.Image, int], Tensor]


def pillow(made: Made, folder: Path) -> Iterator[Tensor]:
    """Read the files one after the other."""
    files = sorted((folder / "files").glob("*.jpg"))
    for first in range(0, len(files), BATCH):
        rows = []
        for number, file in enumerate(files[first : first + BATCH], start=first):
            file.with_suffix(".txt").read_text()
            rows.append(made(Image.open(file), number))
        yield torch.stack(rows)


def percept(augment: Augment | None, where: str, folder: Path) -> Iterator[Tensor]:
    """Read one epoch of a source."""
    place = folder / where if where == "files" else str(folder / where)
    source = open_source(place, batch=BATCH, augment=augment)
    for step in range(source.steps()):
        yield source.batch(step).tensors()["image"]


def webdataset(made: Made, folder: Path) -> Iterator[Tensor]:
    """Read the shards with a shuffle buffer."""
    import webdataset

    library: Any = webdataset
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shards = library.WebDataset([str(folder / f"{shard}.tar") for shard in range(2)], shardshuffle=2)
        rows = shards.shuffle(1000).decode("pil").to_tuple("__key__", "jpg", "txt")
        for batch in rows.map(lambda row: (made(row[1], int(row[0])), row[2])).batched(BATCH, partial=True):
            yield batch[0]


def sparse(folder: Path) -> Iterator[Tensor]:
    """Read the frames that stand for each clip with a source."""
    source = open_source(folder / "clips", batch=1, frames=FRAMES, preprocess=Preprocess(size=SMALL))
    for step in range(source.steps()):
        yield source.batch(step).tensors()["frames"][0]


def everything(folder: Path) -> Iterator[Tensor]:
    """Decode all frames of each clip and use the same ones."""
    for path in sorted((folder / "clips").glob("*.mp4")):
        numbers, rows = set(choose(np.arange(LENGTH) / video_seek.RATE, LENGTH / video_seek.RATE, FRAMES)), []
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for number, frame in enumerate(container.decode(video=0)):
                if number in numbers:
                    image = Image.fromarray(frame.to_ndarray(format="rgb24"))
                    pixels = np.array(image.resize((SMALL, SMALL), Image.Resampling.BILINEAR))
                    rows.append((torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 - 0.5) / 0.5)
        yield torch.stack(rows)


WAYS: dict[str, Callable[[Path], Iterator[Tensor]]] = {
    "Pillow loop, files": partial(pillow, plain),
    "percept, files": partial(percept, None, "files"),
    "webdataset, shards": partial(webdataset, plain),
    "percept, shards": partial(percept, None, "{0..1}.tar"),
    "Pillow loop, files, augmented": partial(pillow, augmented),
    "percept, files, augmented": partial(percept, AUGMENT, "files"),
    "webdataset, shards, augmented": partial(webdataset, augmented),
    "percept, shards, augmented": partial(percept, AUGMENT, "{0..1}.tar"),
}
VIDEO_WAYS: dict[str, Callable[[Path], Iterator[Tensor]]] = {
    "decode everything, clips": everything,
    "percept, clips": sparse,
}
BASE = {
    "percept, files": "Pillow loop, files",
    "percept, shards": "webdataset, shards",
    "percept, files, augmented": "Pillow loop, files, augmented",
    "percept, shards, augmented": "webdataset, shards, augmented",
    "percept, clips": "decode everything, clips",
}


def exhausted(way: Callable[[Path], Iterator[Tensor]], folder: Path, count: int) -> None:
    """Read all images of a way, and check that it gives them all."""
    rows = sum(len(batch) for batch in way(folder))
    if rows < count:
        raise SystemExit(f"{way} gave {rows} of {count} images")


def compared(ways: dict[str, Callable[[Path], Iterator[Tensor]]], folder: Path, count: int, turns: int) -> list[Any]:
    """Measure ways that read `count` images or frames."""
    jobs = {
        kind: lambda passes, way=way: timed(partial(exhausted, way, folder, count), torch.device("cpu"), 1)
        for kind, way in ways.items()
    }
    times = take_turns(jobs, Turns(turns))
    return [
        {
            "way": kind,
            "images/s": round(count / measured.summary()["processor s"], 1),
            "compared with": BASE.get(kind, "-"),
            "times as fast": ratio(measured, times[BASE[kind]]) if kind in BASE else 1.0,
        }
        for kind, measured in times.items()
    ]


def ratio(measured: Times, baseline: Times) -> float:
    """Return the median over the turns of baseline / own processor seconds."""
    pairs = zip(measured.passes, baseline.passes, strict=True)
    return round(float(np.median([other.processor / own.processor for own, other in pairs])), 3)


PROGRAM = """
import json, sys
from percept.data import open_source
from percept.data.augment import Augment
from percept.data.transforms import Preprocess

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

source = open_source(sys.argv[1], batch=500, preprocess=Preprocess(size=32), augment=Augment())
sizes = []
for step in range(source.steps()):
    source.batch(step)
    sizes.append(resident())
tenth = max(1, len(sizes) // 10)
print(json.dumps({"samples": len(source), "MB after a tenth": max(sizes[:tenth]) >> 20, "MB at most": max(sizes) >> 20}))
"""


def memory(folder: Path, count: int) -> dict[str, int]:
    """Return the resident size of a process that reads `count` rows."""
    for number in range(DIFFERENT):
        Image.open(io.BytesIO(jpeg(number))).resize((100, 75)).save(folder / f"small{number}.jpg")
    lines = (json.dumps({"image": f"small{row % DIFFERENT}.jpg", "caption": f"caption {row}"}) for row in range(count))
    (folder / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
    command = [sys.executable, "-c", PROGRAM, str(folder / "rows.jsonl")]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def make_clips(folder: Path, count: int) -> None:
    """Encode clips with captions."""
    (folder / "clips").mkdir()
    for number in range(count):
        video_seek.make(folder / "clips" / f"{number}.mp4", LENGTH, 250)
        (folder / "clips" / f"{number}.txt").write_text(f"clip {number}")


def main(
    images: int = 400, clips: int = 1, samples: int = 100_000, turns: int = 7, json_file: Path | None = RESULTS
) -> None:
    """Measure all ways.

    Args:
        images: image files.
        clips: video files; 0 to leave videos out.
        samples: rows read for the measurement of memory; 0 to leave it out.
        turns: passes over the files.
        json_file: where results go; nothing is written if None.
    """
    start = time.perf_counter()
    torch.set_num_threads(1)
    content: dict[str, Any] = {"images": images, "clips": clips, "turns": turns}
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), images)
        content["results"] = compared(WAYS, Path(name), images, turns)
        if clips:
            make_clips(Path(name), clips)
            content["results"] += compared(VIDEO_WAYS, Path(name), clips * FRAMES, turns)
        if samples:
            content["memory"] = memory(Path(name), samples)
    rows = content["results"]
    table(
        f"JPEG files of {WIDTH} x {HEIGHT} ({images}) and videos ({clips})",
        tuple(rows[0]),
        [tuple(row.values()) for row in rows],
    )
    if samples:
        table("memory", tuple(content["memory"]), [tuple(content["memory"].values())])
    save(json_file, {**facts(torch.device("cpu"), start), **content})


if __name__ == "__main__":
    tyro.cli(main)
