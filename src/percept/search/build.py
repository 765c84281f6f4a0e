"""Filling an index: only new files are read, only unknown images are encoded, and every batch is committed at once."""

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import content_hash
from percept.core.report import track
from percept.data.files import BadFile, read_each
from percept.data.images import read_bytes, upright_size
from percept.data.transforms import Preprocess
from percept.infer.images import to_tensor
from percept.search.contracts import ImageEncoder
from percept.search.index import Index
from percept.search.rows import Content, FileRow

BATCH = 32
"""Images encoded and committed together: the most that an interruption can cost."""
GROUP = 32 * BATCH
"""Files committed together when few of them have to be encoded."""


@dataclass(kw_only=True)
class Report:
    """Result of a build."""

    added: int = 0
    """Files whose image was encoded, changed files included."""
    reused: int = 0
    """Files whose image was already indexed under a different path: moved, renamed or duplicate."""
    unchanged: int = 0
    """Files that were not read again."""
    repaired: int = 0
    """Files read again because their row in the index was damaged; they count among `added` or `reused` too."""
    removed: list[Path] = field(default_factory=list)
    """Files of the index that no longer exist and were dropped."""
    away: int = 0
    """Files of the index that no longer exist but were kept, because they are outside the given folders."""
    bad: list[BadFile] = field(default_factory=list)
    """Files that could not be read, with reasons."""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file that was read."""

    path: Path
    row: FileRow
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels."""
    image: UInt8[Tensor, "3 y x"] | None = None
    """The image at the model's size; None if its vector is known already."""


def build(
    index: Index, encoder: ImageEncoder, paths: Sequence[Path], *, within: Sequence[Path] = (), prune: bool = False
) -> Report:
    """Bring `index` up to date with the files at `paths`, and encode again what is damaged in it.

    Every batch is committed: after an interruption the next call continues from there.

    Args:
        index: the index to fill.
        encoder: the model it belongs to.
        paths: image files.
        within: folders; files of the index that are below them and no longer exist are dropped. A folder that does not
            exist drops nothing: its disk may be unplugged.
        prune: drop files that no longer exist wherever they were.

    Raises:
        PerceptError: the index belongs to a different model.
    """
    index.check(encoder)
    index.repair()
    start, report, known, hashes = time.perf_counter(), Report(), index.files(), index.hashes()
    paths = list(dict.fromkeys(Path(os.path.abspath(path)) for path in paths))
    broken = {path for path, row in known.items() if row.hash not in hashes}
    fresh = [path for path in paths if path in broken or not _unchanged(path, known.get(path))]
    report.unchanged = len(paths) - len(fresh)
    fresh += sorted(path for path in broken.difference(paths) if not _is_gone(path))
    for batch in _batches(fresh, hashes, encoder.preprocess, report):
        report.repaired += sum(candidate.path in broken for candidate in batch)
        _store(index, encoder, batch, hashes, report)
    _drop(index, known, report, within=within, prune=prune, changed=bool(fresh))
    report.seconds = time.perf_counter() - start
    return report


def _drop(
    index: Index,
    known: Mapping[Path, FileRow],
    report: Report,
    *,
    within: Sequence[Path],
    prune: bool,
    changed: bool,
) -> None:
    """Drop files that no longer exist or can no longer be read, and vectors that no file holds."""
    gone = [path for path in known if _is_gone(path)]
    report.removed = gone if prune else below(gone, within)
    report.away = len(gone) - len(report.removed)
    unreadable = [file.path for file in report.bad if file.path in known]
    if report.removed or unreadable or changed:
        index.remove([*report.removed, *unreadable])


def below(paths: Iterable[Path], folders: Sequence[Path]) -> list[Path]:
    """Return the absolute paths below any of the folders that exist."""
    roots = [Path(os.path.abspath(folder)) for folder in folders if os.path.isdir(folder)]
    return [path for path in paths if any(path.is_relative_to(root) for root in roots)]


def _is_gone(path: Path) -> bool:
    """True if nothing exists at `path`, not even a link; False if that cannot be determined."""
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
    except (OSError, ValueError):  # reading the file will give the reason
        return None


def _unchanged(path: Path, row: FileRow | None) -> bool:
    status = _status(path) if row is not None else None
    if row is None or status is None:
        return False
    return (row.bytes, row.modified) == (status.st_size, status.st_mtime_ns)


def _batches(
    paths: Sequence[Path], hashes: Collection[str], preprocess: Preprocess, report: Report
) -> Iterator[list[Candidate]]:
    """Read files in parallel; yield groups of at most BATCH images to encode."""

    group: list[Candidate] = []
    candidates = read_each(paths, lambda path: _read(path, hashes, preprocess))
    for item in track(candidates, "indexing", total=len(paths)):
        if isinstance(item, BadFile):
            report.bad.append(item)
            continue
        group.append(item)
        if sum(candidate.image is not None for candidate in group) == BATCH or len(group) == GROUP:
            yield group
            group = []
    if group:
        yield group


def _read(path: Path, hashes: Collection[str], preprocess: Preprocess) -> Candidate:
    status = _status(path)  # before reading: a later change is seen by the next build
    data = read_bytes(path)
    row = FileRow(hash=content_hash(data), bytes=len(data), modified=status.st_mtime_ns if status else 0)
    if row.hash in hashes:
        return Candidate(path=path, row=row)
    try:
        return Candidate(path=path, row=row, size=upright_size(data), image=to_tensor(data, preprocess))
    except PerceptError as error:
        raise PerceptError(str(error).removeprefix("the image given as bytes ")) from None


def _store(index: Index, encoder: ImageEncoder, batch: list[Candidate], hashes: set[str], report: Report) -> None:
    new = {
        candidate.row.hash: candidate
        for candidate in batch
        if candidate.image is not None and candidate.row.hash not in hashes
    }
    vectors = encoder.image([candidate.image for candidate in new.values()]) if new else ()
    contents = [
        Content(hash=hash_, width=candidate.size[0], height=candidate.size[1], vector=vector)
        for (hash_, candidate), vector in zip(new.items(), vectors, strict=True)
    ]
    index.add(contents, {candidate.path: candidate.row for candidate in batch})
    hashes.update(new)
    report.added += len(new)
    report.reused += len(batch) - len(new)
