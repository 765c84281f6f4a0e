"""`percept world write` and `percept world show`: the labelled world as files, and as a contact sheet."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

Split = Literal["train", "validation", "evaluation"]
Style = Literal["plain", "rendition", "sketch", "unusual", "viewpoint", "corruption", "mixed"]


def write(
    folder: Annotated[Path, tyro.conf.Positional],
    count: int = 1000,
    format: Literal["folder", "jsonl", "webdataset"] = "folder",
    seed: int = 0,
    split: Split = "train",
    style: Style = "plain",
    size: int = 96,
    workers: int | None = None,
) -> None:
    """Write images with their complete truth as ordinary files.

    Args:
        folder: folder to write; new or empty.
        count: number of images.
        format: one file per image and truth, a json-lines list, or tar shards.
        seed: number of the first image.
        split: split whose compositions are drawn.
        style: style of the images.
        size: side in pixels.
        workers: number of processes. Default: one per core for many images, else one.
    """
    import time

    from percept.cli.show import writing
    from percept.core import report
    from percept.world.write import write as write_files

    start = time.perf_counter()
    with writing(folder):
        write_files(folder, count, seed=seed, split=split, style=style, format=format, size=size, workers=workers)
    seconds = time.perf_counter() - start
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    columns = ("folder", "images", "MB", "seconds", "images/s")
    row = (folder, count, f"{total / 1e6:.1f}", f"{seconds:.1f}", round(count / seconds))
    report.table(f"written as {format}: {split}, {style}", columns, [row])


def show(
    out: Path = Path("world.png"),
    count: int = 24,
    seed: int = 0,
    split: Split = "train",
    style: Style = "plain",
    columns: int = 6,
) -> None:
    """Make a contact sheet with the truth drawn over the images.

    Args:
        out: PNG to write.
        count: number of images.
        seed: number of the first image.
        split: split whose compositions are drawn.
        style: style of the images.
        columns: images per row.
    """
    from percept.cli.show import check_output, writing
    from percept.core import report
    from percept.core.errors import PerceptError
    from percept.world import generate
    from percept.world.sheet import save_sheet

    if not 1 <= count <= 400:
        raise PerceptError(f"--count must be from 1 to 400, got {count}.")
    if columns < 1:
        raise PerceptError(f"--columns must be at least 1, got {columns}.")
    check_output(out, ".png")
    images = [generate(seed + number, split=split, style=style) for number in range(count)]
    with writing(out):
        save_sheet(out, images, columns=columns)
    things = sum(len(image.scene.things) for image in images)
    report.table("contact sheet", ("file", "images", "things"), [(out, count, things)])


COMMANDS: dict[str, Callable[..., None]] = {"write": write, "show": show}
