"""`percept world write` and `percept world show`: the labelled world as files, and as a sheet to look at."""

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
    """Write pictures with their complete truth as ordinary files.

    Args:
        folder: where to; new or empty.
        count: number of pictures.
        format: one file per picture and truth, a json-lines list, or tar shards.
        seed: number of the first picture.
        split: whose compositions.
        style: how the pictures look.
        size: pixels of a side.
        workers: processes; all cores if not given and there is much to do.
    """
    import time

    from percept.core import report
    from percept.world.write import write as write_files

    start = time.perf_counter()
    write_files(folder, count, seed=seed, split=split, style=style, format=format, size=size, workers=workers)
    seconds = time.perf_counter() - start
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    columns = ("folder", "pictures", "MB", "seconds", "pictures/s")
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
    """Make a contact sheet with the truth drawn over the pictures.

    Args:
        out: the PNG to write.
        count: number of pictures.
        seed: number of the first picture.
        split: whose compositions.
        style: how the pictures look.
        columns: pictures per row.
    """
    from percept.cli.show import check_output
    from percept.core import report
    from percept.core.errors import PerceptError
    from percept.world import generate
    from percept.world.sheet import save_sheet

    if not 1 <= count <= 400:
        raise PerceptError(f"--count {count}: a sheet holds 1 to 400 pictures")
    if columns < 1:
        raise PerceptError(f"--columns {columns}: a row holds at least 1 picture")
    check_output(out, ".png")
    pictures = [generate(seed + number, split=split, style=style) for number in range(count)]
    save_sheet(out, pictures, columns=columns)
    things = sum(len(picture.scene.things) for picture in pictures)
    report.table("contact sheet", ("file", "pictures", "things"), [(out, count, things)])


COMMANDS: dict[str, Callable[..., None]] = {"write": write, "show": show}
