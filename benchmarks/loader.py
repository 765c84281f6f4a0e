"""Compare ways to read training images: a plain Pillow loop, percept's sources, and the webdataset library.

    python benchmarks/loader.py               # makes files, prints a table and writes loader.json next to this file

Files are generated: JPEG of 500 x 375 pixels with one caption each, as a folder and as two shards. Every way decodes all of them,
resizes to 224 x 224, normalises to float32 and makes batches of 50 in one process and one thread; no way augments. Rates are
images per second of processor time; the ways take turns, and each ratio is the median over the turns.
"""

import io
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from harness import Times, Turns, facts, save, take_turns, timed
from PIL import Image
from torch import Tensor

from percept.core.report import table
from percept.data import open_source

RESULTS = Path(__file__).with_suffix(".json")
WIDTH, HEIGHT, SIDE, BATCH = 500, 375, 224, 50
DIFFERENT = 50
"""Different images; further files repeat them."""


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


def pillow(folder: Path) -> Iterator[Tensor]:
    """Read the files one after the other."""
    files = sorted((folder / "files").glob("*.jpg"))
    for first in range(0, len(files), BATCH):
        rows = []
        for file in files[first : first + BATCH]:
            file.with_suffix(".txt").read_text()
            rows.append(tensor(Image.open(file)))
        yield torch.stack(rows)


def percept(where: str, folder: Path) -> Iterator[Tensor]:
    """Read one epoch of a source."""
    source = open_source(folder / where if where == "files" else str(folder / where), batch=BATCH)
    for step in range(source.steps()):
        yield source.batch(step).tensors()["image"]


def webdataset(folder: Path) -> Iterator[Tensor]:
    """Read the shards with a shuffle buffer."""
    import webdataset as library

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shards = library.WebDataset([str(folder / f"{shard}.tar") for shard in range(2)], shardshuffle=2)
        rows = shards.shuffle(1000).decode("pil").to_tuple("jpg", "txt").map_tuple(tensor, str)
        for batch in rows.batched(BATCH, partial=True):
            yield batch[0]


WAYS: dict[str, Callable[[Path], Iterator[Tensor]]] = {
    "Pillow loop, files": pillow,
    "percept, files": partial(percept, "files"),
    "webdataset, shards": webdataset,
    "percept, shards": partial(percept, "{0..1}.tar"),
}


def exhausted(way: Callable[[Path], Iterator[Tensor]], folder: Path, count: int) -> None:
    """Read all images of a way, and check that it gives them all."""
    rows = sum(len(batch) for batch in way(folder))
    if rows < count:
        raise SystemExit(f"{way} gave {rows} of {count} images")


def main(images: int = 400, turns: int = 7, json_file: Path | None = RESULTS) -> None:
    """Measure all ways.

    Args:
        images: files.
        turns: passes over them.
        json_file: where results go; nothing is written if None.
    """
    start, device = time.perf_counter(), torch.device("cpu")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), images)
        jobs = {
            kind: lambda passes, way=way: timed(partial(exhausted, way, Path(name), images), device, 1)
            for kind, way in WAYS.items()
        }
        times = take_turns(jobs, Turns(turns))
    base = {"percept, files": "Pillow loop, files", "percept, shards": "webdataset, shards"}
    rows = [
        {
            "way": kind,
            "images/s": round(images / measured.summary()["processor s"], 1),
            "compared with": base.get(kind, "-"),
            "times as fast": ratio(measured, times[base[kind]]) if kind in base else 1.0,
        }
        for kind, measured in times.items()
    ]
    table(f"{images} JPEG files of {WIDTH} x {HEIGHT}", tuple(rows[0]), [tuple(row.values()) for row in rows])
    save(json_file, {**facts(device, start), "images": images, "turns": turns, "results": rows})


def ratio(measured: Times, baseline: Times) -> float:
    """Return the median over the turns of baseline / own processor seconds."""
    pairs = zip(measured.passes, baseline.passes, strict=True)
    return round(float(np.median([other.processor / own.processor for own, other in pairs])), 3)


if __name__ == "__main__":
    tyro.cli(main)
