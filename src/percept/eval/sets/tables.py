"""Any other source of rows: tables, json lines, parquet, shards, COCO and MSR-VTT lists, and images with captions in .txt files."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from percept.core.errors import PerceptError
from percept.data.sources.captions import USUAL
from percept.data.sources.fields import KNOWN
from percept.data.sources.open import open_rows
from percept.data.sources.sample import BadSample, Media, Rows, Sample
from percept.eval.sets.classes import ClassFile, class_file, templates_of
from percept.eval.sets.item import EvaluationSet, Item, Request, UnknownClass
from percept.eval.sets.places import Locator, check_files, check_no_split, chosen_split, words_of

LOOK = 8
"""Rows that are read to find out what a source holds."""
SEPARATOR = "|"
"""Between the classes of an image in a column `labels`, and between captions in a column `captions` or `sentences`."""
SEVERAL = ("labels", "classes", "categories")
"""Fields that hold several classes."""


def table(path: str, request: Request) -> EvaluationSet:
    """Open rows of any kind that `percept.data` reads, as an evaluation set.

    Rows that name one image or video are joined: their captions belong to it.

    Raises:
        PerceptError: nothing there, no image and no video, or classes that cannot be told.
    """
    rows = open_rows(path, root=request.media)
    first = _first(path, rows)
    named = isinstance(_media(first[0]), Path)
    places = Path(path).parent if not Path(path).is_dir() else Path(path)
    reader = _Reader(rows=rows, locate=Locator(request.media or places))
    listed = _listed(path, reader, request) if named else _Listed(rows=[(number,) for number in range(len(rows))])
    holds = _holds(first)
    classes = _classes(path, holds, first, listed, rows, class_file(request.classes, places))
    numbers = _numbers(classes)
    if named:
        thing = "video" if first[0].video is not None else "image"
        check_files(path, thing, lambda number: reader.find(listed.files[number]), len(listed.files))

    def key(number: int) -> str:
        return listed.keys[number] if listed.keys else rows.key(number)

    def where(number: int) -> str:
        place = _place(rows, listed.rows[number][0])
        return f"{key(number)} ({place})" if listed.keys else place

    def read(number: int) -> Item:
        samples = [rows.read(row) for row in listed.rows[number]]
        return Item(
            key=key(number), media=reader.media(samples[0]), labels=_labels(samples, numbers, holds),
            captions=tuple(text for sample in samples for text in captions_of(sample)) if "captions" in holds else (),
        )  # fmt: skip

    return EvaluationSet(
        name=_name(path), path=path, layout="table of rows", holds=holds, count=len(listed.rows), key=key, read=read,
        where=where,
        classes=classes.names if classes is not None else (), templates=templates_of(request.templates, places),
        video=first[0].video is not None,
    )  # fmt: skip


@dataclass(frozen=True)
class _Reader:
    """Reads rows and finds their files."""

    rows: Rows
    locate: Locator

    def media(self, sample: Sample) -> Media:
        """Return the bytes or the file of the image or video of a row; a file elsewhere in the folder is found by its name."""
        media = _media(sample)
        return self.find(media) if isinstance(media, Path) else media

    def find(self, file: Path) -> Path:
        """Return the path of a file.

        Raises:
            BadSample: the file is missing.
        """
        if file.is_file():
            return file
        folder = self.locate.folder.absolute()
        return self.locate(str(file.relative_to(folder) if file.is_relative_to(folder) else file))

    def short(self, file: Path) -> str:
        """Return the path within the folder of the files, which is the same wherever the folder is."""
        folder = self.locate.folder.absolute()
        return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name

    def each(self) -> Iterator[tuple[int, Sample]]:
        """Yield all rows; one that cannot be read has no content, and is reported when it is read again."""
        for number in range(len(self.rows)):
            try:
                yield number, self.rows.read(number)
            except BadSample as error:
                yield number, Sample(key=error.key)


@dataclass(kw_only=True)
class _Listed:
    """Which rows make a sample, and the classes that they name."""

    rows: list[tuple[int, ...]]
    files: list[Path] = field(default_factory=list)
    """Files of the samples; None for a row without a file."""
    keys: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)


def _first(path: str, rows: Rows) -> list[Sample]:
    """Return the first rows that can be used.

    Raises:
        PerceptError: there is none.
    """
    found, reason = [], ""
    for number in range(len(rows)):
        try:
            sample = rows.read(number)
            _media(sample)
            found.append(sample)
        except BadSample as error:
            reason = reason or f"{_place(rows, number)}: {words_of(error)}"
        if len(found) == LOOK:
            break
    if not found:
        listed = (
            " A Karpathy file has a list images with filename, split and sentences." if path.endswith(".json") else ""
        )
        if not reason:
            raise PerceptError(f"{path} has no rows. Give a table with at least one image or video.")
        raise PerceptError(f"{path} has no row with an image or video: {reason}. {KNOWN}{listed}")
    return found


def _place(rows: Rows, number: int) -> str:
    """Return the file and the line or number of a row; its key where rows are not lines of a file."""
    return getattr(rows, "where", rows.key)(number)


def _media(sample: Sample) -> Media:
    if sample.video is not None:
        return sample.video
    if not sample.images:
        raise BadSample("no image", sample.key, f"its fields are {', '.join(sample.record) or 'none'}")
    return sample.images[0]


def _listed(path: str, reader: _Reader, request: Request) -> _Listed:
    """Read all rows once: join those of one image or video, within one split, and collect the classes."""
    splits = {number: str(sample.record["split"]) for number, sample in reader.each() if sample.record.get("split")}
    if not splits:
        check_no_split(path, request.subset)
    split = chosen_split(path, splits.values(), request.subset) if splits else None
    labels: set[str] = set()

    def chosen() -> Iterator[tuple[int, Sample]]:
        for number, sample in reader.each():
            if split is None or splits.get(number, "" if sample.record else split) == split:
                labels.update(names_of(sample))
                yield number, sample

    rows = rows_by_file(chosen())
    return _Listed(
        rows=[tuple(each) for each in rows.values()], files=[Path(file) for file in rows if os.path.isabs(file)],
        keys=[reader.short(Path(file)) for file in rows], labels=labels,
    )  # fmt: skip


def rows_by_file(samples: Iterable[tuple[int, Sample]]) -> dict[str, list[int]]:
    """Return the numbers of the rows that name each image or video file, in the order of the files; a row without a file stands alone."""
    rows: dict[str, list[int]] = {}
    for number, sample in samples:
        media = _media(sample) if sample.images or sample.video is not None else None
        rows.setdefault(str(media) if isinstance(media, Path) else f"row {number + 1}", []).append(number)
    return rows


def _holds(first: Sequence[Sample]) -> tuple[str, ...]:
    """Return what the first rows hold."""
    several = any(any(name in sample.record for name in SEVERAL) or "objects" in sample.record for sample in first)
    one = any(sample.label for sample in first) and not several
    captioned = any(captions_of(sample) for sample in first)
    return tuple(name for name, held in (("class", one), ("classes", several), ("captions", captioned)) if held)


def captions_of(sample: Sample) -> tuple[str, ...]:
    """Return the captions of a row: the texts of the first usual field that it has."""
    lower = {name.lower(): name for name in reversed(list(sample.captions))}
    name = next((lower[each] for each in USUAL if each in lower and each != "label"), None)
    texts = () if name is None else sample.captions[name]
    if name is not None and name.lower() in ("captions", "sentences") and len(texts) == 1:
        texts = tuple(texts[0].split(SEPARATOR))
    return tuple(text.strip() for text in texts if text.strip())


def names_of(sample: Sample) -> tuple[str, ...]:
    """Return the class, or the classes, that a row names."""
    if (objects := sample.record.get("objects")) is not None:
        return tuple(dict.fromkeys(str(each["category"]) for each in objects))
    value = next((sample.record[name] for name in SEVERAL if name in sample.record), None)
    if isinstance(value, str):
        return tuple(dict.fromkeys(part.strip() for part in value.split(SEPARATOR) if part.strip()))
    if isinstance(value, list | tuple):
        return tuple(dict.fromkeys(str(part) for part in value))
    return () if sample.label in (None, "") else (str(sample.label),)


def _classes(
    path: str, holds: Sequence[str], first: Sequence[Sample], listed: _Listed, rows: Rows, given: ClassFile | None
) -> ClassFile | None:
    """Return the candidate classes: those of the file, of the source, or all that its rows name.

    Raises:
        PerceptError: the rows name classes by numbers, or cannot be listed without reading all images.
    """
    if given is not None or not {"class", "classes"} & set(holds):
        return given
    own: Callable[..., Sequence[str]] | Sequence[str] = getattr(rows, "classes", ())
    names = tuple(own) if isinstance(own, Sequence) and own else tuple(sorted(listed.labels))
    numbered = all(name.isdecimal() for sample in first for name in names_of(sample))
    if numbered or not names:
        what = "numbers" if numbered else "names that are known only after all images are read"
        raise PerceptError(f"the classes in {path} are {what}. Give the names of all classes with --classes FILE.")
    return ClassFile(path=Path(path), names=names)


def _numbers(classes: ClassFile | None) -> Mapping[str, int]:
    """Return the number of a class by its name, by its id, and by its number as text."""
    if classes is None:
        return {}
    by_number = {str(number): number for number in range(len(classes.names))}
    by_id = {each: number for number, each in enumerate(classes.ids)}
    return by_number | by_id | {name: number for number, name in enumerate(classes.names)}


def _labels(samples: Sequence[Sample], numbers: Mapping[str, int], holds: Sequence[str]) -> tuple[int, ...]:
    """Return the classes of an image from all rows that name it."""
    if not {"class", "classes"} & set(holds):
        return ()
    names, key = tuple(dict.fromkeys(name for sample in samples for name in names_of(sample))), samples[0].key
    if unknown := [name for name in names if name not in numbers]:
        raise UnknownClass("unknown class", key, f"{unknown[0]!r} is not among the classes")
    if "class" in holds and len(names) != 1:
        rows = f"its rows name {' and '.join(names)}; write several in one column labels, separated by {SEPARATOR}"
        raise BadSample("several classes" if names else "no class", key, rows if names else "")
    return tuple(numbers[name] for name in names)


def _name(path: str) -> str:
    return Path(path).stem if Path(path).suffix else Path(path).name
