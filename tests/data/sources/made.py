"""Files of every kind with the same eight images, each of one colour, and rows made of numbers."""

import csv
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from percept.data.batch import Batch
from percept.data.sources import BadSample, Sample

COUNT = 8


def encoded(number: int, form: str = "PNG") -> bytes:
    """An image whose red value tells its number."""
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (number, 100, 200)).save(file, form, **({"lossless": True} if form == "WEBP" else {}))
    return file.getvalue()


def number_of(image: Tensor) -> int:
    """The number of an image [3, y, x] that was normalised to -1 .. 1."""
    return round(float((image[0].mean() + 1) * 255 / 2))


def image_files(folder: Path, count: int = COUNT) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(encoded(number))
    return names


def captioned_folder(folder: Path) -> Path:
    for number, name in enumerate(image_files(folder)):
        (folder / name).with_suffix(".txt").write_text(f"caption {number}\n")
    return folder


def json_folder(folder: Path) -> Path:
    for number, name in enumerate(image_files(folder)):
        (folder / name).with_suffix(".json").write_text(json.dumps({"caption": f"caption {number}", "width": 12}))
    return folder


def class_folder(folder: Path) -> Path:
    for number in range(COUNT):
        place = folder / f"class_{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(encoded(number))
    return folder


def rows() -> list[dict[str, Any]]:
    return [{"image": f"images/{number}.png", "caption": f"caption {number}"} for number in range(COUNT)]


def table(file: Path, delimiter: str = ",", columns: Sequence[str] = ("image", "caption")) -> Path:
    image_files(file.parent / "images")
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows([row["image"], row["caption"]] for row in rows())
    return file


def json_lines(file: Path, records: Sequence[Any] | None = None) -> Path:
    image_files(file.parent / "images")
    file.write_text("".join(json.dumps(row) + "\n" for row in (rows() if records is None else records)))
    return file


def json_list(file: Path) -> Path:
    image_files(file.parent / "images")
    file.write_text(json.dumps(rows(), indent=1))
    return file


def arrow_table() -> Any:
    import pyarrow

    return pyarrow.table(
        {"image": [encoded(number) for number in range(COUNT)], "caption": [f"caption {n}" for n in range(COUNT)]}
    )


def parquet(file: Path) -> Path:
    from pyarrow import parquet

    parquet.write_table(arrow_table(), file, row_group_size=3)
    return file


def arrow_file(file: Path) -> Path:
    import pyarrow

    with pyarrow.ipc.new_file(file, arrow_table().schema) as out:
        out.write_table(arrow_table(), max_chunksize=3)
    return file


def members(number: int) -> dict[str, bytes]:
    return {"png": encoded(number), "txt": f"caption {number}".encode()}


def shard(file: Path, samples: Mapping[str, Mapping[str, bytes]] | None = None, form: int = tarfile.GNU_FORMAT) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    samples = {f"{number:04d}": members(number) for number in range(COUNT)} if samples is None else samples
    with tarfile.open(file, "w", format=form) as tar:
        for key, parts in samples.items():
            for ending, data in parts.items():
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return file


@dataclass(frozen=True, kw_only=True, eq=False)
class Numbers(Batch):
    value: Int[Tensor, " b"]
    seed: Int[Tensor, " b"]


@dataclass(frozen=True)
class NumberRows:
    """Rows that are their own number; some are bad."""

    count: int
    bad: frozenset[int] = frozenset()
    name: str = "numbers"

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        return f"row {index}"

    def read(self, index: int) -> Sample:
        if index in self.bad:
            raise BadSample("made bad", self.key(index), "on purpose")
        return Sample(key=self.key(index), record={"number": index})


def number_and_seed(sample: Sample, seed: int) -> tuple[int, int]:
    return sample.record["number"], seed


def collate_numbers(items: list[tuple[int, int]]) -> Numbers:
    values = np.array(items, np.int64).reshape(-1, 2)
    return Numbers(value=torch.from_numpy(values[:, 0].copy()), seed=torch.from_numpy(values[:, 1].copy()))
