"""Small evaluation sets in every layout: an image of class k is filled with colour k, which `reader` knows."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import torch
from av.video.stream import VideoStream
from PIL import Image
from torch import Tensor

from tests.eval.fakes import Fake

STEP = 16
"""Difference of the red value between two classes."""
SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361")
NAMES = ("tench", "goldfish", "great white shark", "tiger shark")


def picture(number: int, *, side: int = 12, border: bool = False) -> Image.Image:
    """An image that shows class `number`; with a border, its edge shows a different one."""
    pixels = np.full((side, side, 3), (number * STEP, 40, 80), np.uint8)
    if border:
        pixels[[0, 1, -1, -2]] = pixels[:, [0, 1, -1, -2]] = (255, 0, 0)
    return Image.fromarray(pixels)


def encoded(number: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture(number).save(file, kind)
    return file.getvalue()


def write(path: Path, content: str | bytes | int | Image.Image) -> Path:
    """Write a text, bytes, an image, or the image of a class; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, int):
        content = picture(content)
    if isinstance(content, Image.Image):
        content.save(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def class_folders(root: Path, names: Sequence[str], each: int = 2) -> Path:
    for number, name in enumerate(names):
        for copy in range(each):
            write(root / name / f"{copy}.png", number)
    return root


def shard(path: Path, samples: Sequence[Mapping[str, bytes]], start: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, sample in enumerate(samples, start):
            for ending, data in sample.items():
                header = tarfile.TarInfo(f"s{number:07d}.{ending}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return path


def benchmark(root: Path, names: Sequence[str], *, split: str = "test") -> Path:
    """A set in the layout of CLIP-benchmark with two shards."""
    labels = [number % len(names) for number in range(2 * len(names))]
    samples = [{"png": encoded(label), "cls": str(label).encode()} for label in labels]
    half = len(samples) // 2
    shard(root / split / "0.tar", samples[:half])
    shard(root / split / "1.tar", samples[half:], half)
    write(root / split / "nshards.txt", "2\n")
    write(root / "classnames.txt", "\n".join(names) + "\n")
    write(root / "zeroshot_classification_templates.txt", "a photo of a {c}.\nitap of the {c}.\n")
    return root


def karpathy(root: Path, count: int = 4, captions: int = 6) -> Path:
    images = []
    for number in range(count):
        split = "test" if number < count - 1 else "val"
        name = f"COCO_{number:04d}.png"
        write(root / "val2014" / name, number)
        sentences = [{"raw": f" caption {each} of {number} ", "sentid": each} for each in range(captions)]
        images.append({"filepath": "val2014", "filename": name, "split": split, "sentences": sentences})
    return write(root / "dataset_coco.json", json.dumps({"dataset": "coco", "images": images}))


def objectnet(root: Path) -> Path:
    labels = {"alarm_clock": "Alarm clock", "air_pump": "Bike pump", "backpack": "Backpack"}
    write(root / "mappings" / "folder_to_objectnet_label.json", json.dumps(labels))
    write(
        root / "mappings" / "objectnet_to_imagenet_1k.json",
        json.dumps({"Alarm clock": "analog clock", "Backpack": "backpack"}),
    )
    for number, folder in enumerate(labels):
        write(root / "images" / folder / "a.png", picture(number, border=True))
    return root


def film(path: Path, levels: Sequence[int]) -> Path:
    """A video of grey frames, 25 per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as output:
        stream = cast(VideoStream, output.add_stream("libx264", rate=25))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for number, level in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def number_of(image: object) -> int:
    """The class that an image shows at its corner."""
    return round(int(np.asarray(image)[0, 0, 0]) / STEP)


def reader(names: Sequence[str], confused: Mapping[int, int] | None = None) -> Fake:
    """An encoder that reads the colour of an image, and the longest name that occurs in a text; it may confuse classes."""
    eye = torch.eye(16)
    order = sorted(range(len(names)), key=lambda number: -len(names[number]))

    def of_text(text: str) -> Tensor:
        return eye[next(number for number in order if names[number] in text)]

    def of_image(image: object) -> Tensor:
        number = number_of(image)
        return eye[(confused or {}).get(number, number)]

    return Fake(of_image, of_text)
