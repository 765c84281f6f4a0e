"""Filling an index: only what is new is read, only what is unknown is encoded, and every batch is kept at once."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from percept.core.errors import PerceptError
from percept.core.io import content_hash
from percept.core.report import track
from percept.data.files import BadFile, in_order, reason_without_path
from percept.data.images import ImageSource, read_bytes, upright_size
from percept.data.transforms import Preprocess, read_pixels
from percept.search.contracts import Embeds
from percept.search.index import Content, FileRow, Index

BATCH = 32
"""Pictures encoded and committed together: what an interruption can cost at most."""


@dataclass(kw_only=True)
class Report:
    """What a build did."""

    added: int = 0
    """Files whose picture went through the model, changed files included."""
    reused: int = 0
    """Files whose picture was known under another name: moved, renamed or duplicate."""
    unchanged: int = 0
    """Files that were not even read."""
    removed: list[Path] = field(default_factory=list)
    """Files that the index knew, that are gone, and that were dropped."""
    away: int = 0
    """Files that the index knows and that are gone too, but kept: they lie outside the folders that were looked at."""
    bad: list[BadFile] = field(default_factory=list)
    """Files that could not be read, and why."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file that was read."""

    path: Path
    row: FileRow
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels."""
    image: Image.Image | None = None
    """The picture at the model's size; None where the vector is known already."""


def build(
    index: Index, encoder: Embeds, paths: Sequence[Path], *, within: Sequence[Path] = (), prune: bool = False
) -> Report:
    """Bring `index` up to date with the files at `paths`.

    Every batch is committed: after an interruption the next call goes on where this one stopped.

    Args:
        index: what is filled.
        encoder: the model it belongs to.
        paths: picture files.
        within: folders; files below them that the index knows and that are gone are dropped. A folder that is not there
            drops nothing: its disk may only be unplugged.
        prune: drop files that are gone wherever they were.

    Raises:
        PerceptError: the index belongs to another model.
    """
    index.check(encoder)
    start, report, known = time.perf_counter(), Report(), index.files()
    paths = list(dict.fromkeys(Path(os.path.abspath(path)) for path in paths))
    fresh = [path for path in paths if not _unchanged(path, known.get(path))]
    report.unchanged = len(paths) - len(fresh)
    hashes = index.hashes()
    for batch in _batches(fresh, hashes, encoder.preprocess, report):
        _store(index, encoder, batch, hashes, report)
    gone = [path for path in known if _is_gone(path)]
    report.removed = gone if prune else below(gone, within)
    report.away = len(gone) - len(report.removed)
    unreadable = [file.path for file in report.bad if file.path in known]
    if report.removed or unreadable or fresh:
        index.remove([*report.removed, *unreadable])
    report.seconds = time.perf_counter() - start
    return report


def below(paths: Iterable[Path], folders: Sequence[Path]) -> list[Path]:
    """Return the absolute paths that lie in one of the folders, as far as those are there."""
    roots = [Path(os.path.abspath(folder)) for folder in folders if os.path.isdir(folder)]
    return [path for path in paths if any(path.is_relative_to(root) for root in roots)]


def _is_gone(path: Path) -> bool:
    """Tell whether surely nothing is there, not even a link; what may not be looked at is not gone."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):  # reading it will say what is wrong
        return None


def _unchanged(path: Path, row: FileRow | None) -> bool:
    status = _status(path) if row is not None else None
    if row is None or status is None:
        return False
    return (row.bytes, row.modified) == (status.st_size, status.st_mtime_ns)


def _batches(
    paths: Sequence[Path], hashes: set[str], preprocess: Preprocess, report: Report
) -> Iterator[list[Candidate]]:
    """Read files in parallel; yield groups that hold at most BATCH pictures to encode."""

    def read(path: Path) -> Candidate | BadFile:
        try:
            return _read(path, hashes, preprocess)
        except PerceptError as error:
            return BadFile(path, reason_without_path(error, path))

    group: list[Candidate] = []
    for item in track(in_order(read, paths), "indexing", total=len(paths)):
        if isinstance(item, BadFile):
            report.bad.append(item)
            continue
        group.append(item)
        if sum(one.image is not None for one in group) == BATCH or len(group) == 32 * BATCH:
            yield group
            group = []
    if group:
        yield group


def _read(path: Path, hashes: set[str], preprocess: Preprocess) -> Candidate:
    status = _status(path)  # before reading: a later change is seen next time
    data = read_bytes(path)
    row = FileRow(hash=content_hash(data), bytes=len(data), modified=status.st_mtime_ns if status else 0)
    if row.hash in hashes:
        return Candidate(path=path, row=row)
    try:
        return Candidate(path=path, row=row, size=upright_size(data), image=prepared(data, preprocess))
    except PerceptError as error:
        raise PerceptError(str(error).removeprefix("the image given as bytes ")) from None


def prepared(source: ImageSource, preprocess: Preprocess) -> Image.Image:
    """Return the picture at the model's size already: small to keep waiting, and preprocessing leaves it as it is."""
    return Image.fromarray(read_pixels(source, preprocess).permute(1, 2, 0).contiguous().numpy())


def _store(index: Index, encoder: Embeds, batch: list[Candidate], hashes: set[str], report: Report) -> None:
    new = {one.row.hash: one for one in batch if one.image is not None and one.row.hash not in hashes}
    vectors = encoder.image([one.image for one in new.values() if one.image is not None]) if new else ()
    contents = [
        Content(hash=hash_, width=one.size[0], height=one.size[1], vector=vector)
        for (hash_, one), vector in zip(new.items(), vectors, strict=True)
    ]
    index.add(contents, {one.path: one.row for one in batch})
    hashes.update(new)
    report.added += len(new)
    report.reused += len(batch) - len(new)
