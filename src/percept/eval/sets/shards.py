"""WebDataset shards in the layout of CLIP-benchmark: {split}/0.tar, 1.tar, …, nshards.txt; class names and templates beside them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from percept.core.errors import PerceptError
from percept.core.words import count
from percept.data.sources.joined import JoinedRows
from percept.data.sources.sample import BadSample, Rows, Sample
from percept.data.sources.tars import TarRows
from percept.eval.sets.classes import ClassFile, class_file, templates_of
from percept.eval.sets.item import EvaluationSet, Item, Request, UnknownClass
from percept.eval.sets.places import check_half, check_no_split, chosen_split

LOOK = 8
"""Samples that are read to find out what a set holds."""


def splits_of(path: Path) -> list[str]:
    """Return the names of the folders with shards in a folder; "." if the shards are in the folder itself."""
    if _is_split(path):
        return ["."]
    return sorted(each.name for each in path.iterdir() if each.is_dir() and _is_split(each))


def _is_split(path: Path) -> bool:
    return (path / "nshards.txt").is_file() or (path / "0.tar").is_file()


def shards(path: Path, request: Request) -> EvaluationSet:
    """Open a set in the layout of CLIP-benchmark; its samples have a class (.cls), several (.npy, one number per class),
    or captions (.txt, one per line).

    Raises:
        PerceptError: more than half of the shards are missing, or the samples hold none of these, or classes without names.
    """
    found = splits_of(path)
    if found == ["."]:
        check_no_split(path, request.subset)
    split = "." if found == ["."] else chosen_split(path, found, request.subset)
    folder = path / split
    root = folder.resolve().parent if split == "." else path
    files, missing = _files(folder)
    rows: Any = JoinedRows.of([TarRows.open(file, file.stem) for file in files], str(folder))
    classes = class_file(request.classes, root, folder)
    holds = _holds(folder, rows, classes)

    def read(number: int) -> Item:
        sample = rows.read(number)
        return Item(
            key=sample.key, media=_image(sample), captions=_captions(sample) if "captions" in holds else (),
            labels=() if classes is None else _labels(rows, number, sample, classes, holds),
        )  # fmt: skip

    return EvaluationSet(
        name=path.name if split in (".", "test") else f"{path.name} {split}", path=str(path),
        layout="CLIP-benchmark shards", holds=holds, count=len(rows), key=rows.key, read=read,
        classes=classes.names if classes is not None else (), templates=templates_of(request.templates, root, folder),
        remark=f"{len(missing):,} of {count(len(files) + len(missing), 'shard')} missing, such as {missing[0].name}." if missing else "",
    )  # fmt: skip


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the shards of a split that are there, and those that nshards.txt announces but that are missing.

    Raises:
        PerceptError: more than half are missing, or nshards.txt does not hold a number.
    """
    count_file = folder / "nshards.txt"
    if not count_file.is_file():
        files = [file for file in folder.glob("*.tar") if file.stem.isdecimal()]
        return sorted(files, key=lambda file: int(file.stem)), []
    text = count_file.read_text(encoding="utf-8", errors="replace").strip()
    if not text.isdecimal() or not int(text):
        raise PerceptError(
            f"{count_file} holds {text[:20]!r}, not the number of shards. Write the number of .tar files."
        )
    files = [folder / f"{number}.tar" for number in range(int(text))]
    if missing := [file for file in files if not file.is_file()]:
        example = f"{missing[0].name}: it is missing"
        check_half(folder, "shard", len(missing), len(files), example, "Fetch those that nshards.txt counts.")
    return [file for file in files if file not in missing], missing


def _holds(folder: Path, rows: Any, classes: ClassFile | None) -> Sequence[str]:
    """Return what the first samples hold.

    Raises:
        PerceptError: neither classes nor captions, or classes without names.
    """
    numbers = range(min(LOOK, len(rows)))
    first = [sample for number in numbers if (sample := _peek(rows, number)) is not None]
    one = any(sample.label is not None for sample in first)
    if one or any(_array(rows, number) is not None for number in numbers):
        if classes is None:
            raise PerceptError(
                f"the samples of {folder} have class numbers, but there is no classnames.txt in {folder.parent}. Add it, or give --classes FILE."
            )
        return ("class",) if one else ("classes",)
    if any(_captions(sample) for sample in first):
        return ("captions",)
    raise PerceptError(
        f"the first samples of {folder} have neither .cls nor .npy nor .txt. Each needs a class number, a number per class, or captions."
    )


def _peek(rows: Rows, number: int) -> Sample | None:
    try:
        return rows.read(number)
    except BadSample:
        return None


def _array(rows: Any, number: int) -> bytes | None:
    """Return the .npy of a sample."""
    try:
        return rows.member(number, "npy")
    except BadSample:
        return None


def _image(sample: Sample) -> bytes:
    image = sample.images[0] if sample.images else b""
    if not isinstance(image, bytes) or not image:
        raise BadSample("no image", sample.key, "the sample has no .jpg, .png or .webp")
    return image


def _captions(sample: Sample) -> tuple[str, ...]:
    """Return the lines of the .txt."""
    return tuple(line.strip() for text in sample.captions.get("txt", ()) for line in text.splitlines() if line.strip())


def _labels(rows: Any, number: int, sample: Sample, classes: ClassFile, holds: Sequence[str]) -> tuple[int, ...]:
    if "class" in holds:
        return (_label(sample, classes),)
    return _classes_of(_array(rows, number), sample.key, classes) if "classes" in holds else ()


def _classes_of(data: bytes | None, key: str, classes: ClassFile) -> tuple[int, ...]:
    """Return the classes of an image from a .npy with a number per class: 1 where the image shows it."""
    try:
        shown = np.load(io.BytesIO(data or b""), allow_pickle=False)
    except (ValueError, EOFError):
        raise BadSample("no classes", key, "the sample has no .npy that can be read") from None
    if shown.shape != (len(classes.names),):
        raise UnknownClass(
            "other classes",
            key,
            f"its .npy has shape {shown.shape}, but there are {count(len(classes.names), 'class', 'classes')}",
        )
    return tuple(np.flatnonzero(shown > 0).tolist())


def _label(sample: Sample, classes: ClassFile) -> int:
    text = sample.label or ""
    if not text.isdecimal() or int(text) >= len(classes.names):
        raise UnknownClass(
            "unknown class",
            sample.key,
            f"class {text!r} of {count(len(classes.names), 'class', 'classes')}, numbered from 0",
        )
    return int(text)
