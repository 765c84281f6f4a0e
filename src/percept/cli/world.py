"""`percept world write` and `percept world show`: the labelled world as files, and as a contact sheet."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

Split = Literal["train", "validation", "evaluation"]
Style = Literal["plain", "rendition", "sketch", "unusual", "viewpoint", "corruption", "mixed"]
What = Literal["images", "clips", "questions", "documents", "rooms"]
Format = Literal["folder", "jsonl", "webdataset", "coco", "davis", "msrvtt", "plm"]
Kind = Literal["wrong", "empty", "boilerplate", "truncated"]
Language = Literal["en", "de", "fr", "es"]


def write(
    out: Path,
    what: What = "images",
    count: int = 1000,
    format: Format | None = None,
    seed: int = 0,
    split: Split = "train",
    style: Style | None = None,
    size: int | None = None,
    frames: int | None = None,
    noise: dict[Kind, float] = {},  # noqa: B006 - tyro shows the default
    languages: tuple[Language, ...] = (),
    workers: int | None = None,
) -> None:
    """Write generated images, clips, questions, documents or rooms with their complete truth as ordinary files.

    Args:
        out: folder to write; new or empty.
        what: what is written.
        count: number of images, clips, questions, documents or rooms.
        format: images: folder, jsonl, webdataset, coco; clips: webdataset (as in PVD), davis, msrvtt, plm; questions: plm; documents and rooms:
            folder, plm. Default: the first of these.
        seed: number of the first one.
        split: split whose compositions are drawn.
        style: style of images and questions. Default: plain.
        size: side in pixels. Default: 96, and for documents a width at which the text is legible.
        frames: frames of a clip. Default: 32.
        noise: rates of bad captions of images, such as: --noise wrong 0.2 empty 0.1
        languages: languages in which images get captions, such as: --languages de fr
        workers: number of processes. Default: one per core for many samples, else one.
    """
    import time

    from percept.cli.show import writing
    from percept.core import report
    from percept.world.noise import Noise
    from percept.world.write import FORMATS
    from percept.world.write import write as write_files

    start = time.perf_counter()
    with writing(out):
        write_files(
            out, count, what=what, format=format, seed=seed, split=split, style=style, size=size, frames=frames,
            noise=Noise(**noise) if noise else None, languages=languages, workers=workers,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    columns = ("folder", what, "MB", "seconds", f"{what}/s")
    row = (out, count, f"{total / 1e6:.1f}", f"{seconds:.1f}", f"{count / seconds:.1f}")
    report.table(f"written as {format or next(iter(FORMATS[what]))}: {split}", columns, [row])


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
