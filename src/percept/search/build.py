"""Filling an index: only changed files are read, only unknown contents are encoded, and every batch is committed at once."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from percept.core.errors import PerceptError
from percept.core.report import notice, progress_bar
from percept.data.files import BadFile, is_video, read_each, reason_without_path
from percept.search.approximate import refresh_approximate
from percept.search.contracts import ImageEncoder
from percept.search.cutting import Cutting
from percept.search.reading import Candidate, read_image_file, read_video_file
from percept.search.store import BadState, FileState, NewContent, Root, Store
from percept.search.walk import UNKNOWN, file_state, is_gone, walk

BATCH = 32
"""Images encoded and committed together: the most that an interruption can cost, unless the encoder takes more at once."""
GROUP = 32 * BATCH
"""Files committed together when few of them have to be encoded."""
COMPARED = 1000
"""Files whose stored state is read together."""


@dataclass(kw_only=True)
class Report:
    """Result of a build."""

    added: int = 0
    """Files whose content was encoded, changed files included."""
    reused: int = 0
    """Files whose content was already indexed under a different path: moved, renamed or duplicate."""
    unchanged: int = 0
    """Files that were not read again."""
    repaired: int = 0
    """Files read again because their vectors were lost; they count among `added` or `reused` too."""
    removed: list[Path] = field(default_factory=list)
    """Files of the index that no longer exist and were dropped."""
    away: int = 0
    """Files of the index that no longer exist but were kept, because they are outside the given folders."""
    bad: list[BadFile] = field(default_factory=list)
    """Files that could not be read, with reasons."""
    seconds: float = 0.0


@dataclass(kw_only=True)
class Scan:
    """What has changed since an index was filled; nothing was read for it but sizes and times."""

    fresh: list[FileState] = field(default_factory=list)
    """Files to read: new, changed, or with lost vectors."""
    lost: set[Path] = field(default_factory=set)
    """Those of them whose vectors were lost."""
    unchanged: int = 0
    bad: list[BadFile] = field(default_factory=list)
    """Files that could not be read before, and have not changed since."""
    gone: list[Path] = field(default_factory=list)
    """Files of the index to drop."""
    away: int = 0
    """Files that no longer exist, outside the given folders."""


def build(
    store: Store, encoder: ImageEncoder, roots: Sequence[Root], *, prune: bool = False, cutting: Cutting | None = None
) -> Report:
    """Bring an index up to date with folders and files, and encode again what was lost by damage.

    Every batch is committed: after an interruption the next call continues from there.

    Args:
        store: the index to fill.
        encoder: the model it belongs to.
        roots: folders and files. Files of the index below these folders that no longer exist are dropped; a folder that
            does not exist drops nothing, because its disk may be unplugged.
        prune: drop files that no longer exist wherever they were.
        cutting: how videos are cut into pieces.

    Raises:
        PerceptError: the index belongs to a different model.
    """
    store.check(encoder)
    start = time.perf_counter()
    report = apply(store, encoder, scan(store, roots, prune=prune), cutting=cutting)
    store.remember_roots(roots)
    refresh_approximate(store)
    report.seconds = time.perf_counter() - start
    return report


def scan(store: Store, roots: Sequence[Root], *, prune: bool = False) -> Scan:
    """Compare folders and files with an index by size and time."""
    result, seen = Scan(lost=set(store.pending())), set()
    for files in _parts(_each_once(walk(roots), seen)):
        known = store.known([file.path for file in files])
        for file in files:
            _sort(result, file, known.get(file.path))
    result.fresh += [file_state(path) for path in sorted(result.lost - seen) if not is_gone(path)]
    gone = [path for path in store.paths() if path not in seen and is_gone(path)]
    result.gone = gone if prune else below(gone, roots)
    result.away = len(gone) - len(result.gone)
    return result


def _each_once(files: Iterable[FileState], seen: set[Path]) -> Iterator[FileState]:
    for file in files:
        if file.path not in seen:
            seen.add(file.path)
            yield file


def _parts(files: Iterator[FileState]) -> Iterator[list[FileState]]:
    part: list[FileState] = []
    for file in files:
        part.append(file)
        if len(part) == COMPARED:
            yield part
            part = []
    yield part


def _sort(result: Scan, file: FileState, known: FileState | BadState | None) -> None:
    """Add a file to what it is: unchanged, bad as before, or to be read."""
    if known is None or UNKNOWN in (file.bytes, known.bytes) or _stamp(file) != _stamp(known):
        result.fresh.append(file)
    elif isinstance(known, BadState):
        result.bad.append(BadFile(file.path, known.reason))
    else:
        result.unchanged += 1


def _stamp(file: FileState | BadState) -> tuple[int, int]:
    return file.bytes, file.modified


def below(paths: Iterable[Path], roots: Sequence[Root]) -> list[Path]:
    """Return the absolute paths below any of the roots that are folders, or that were named outright in one."""
    folders = [Path(os.path.abspath(root.path)) for root in roots if os.path.isdir(root.path)]
    return [path for path in paths if any(path.is_relative_to(folder) for folder in folders)]


def apply(store: Store, encoder: ImageEncoder, found: Scan, *, cutting: Cutting | None = None) -> Report:
    """Read and encode what a scan found, and drop what is gone."""
    report = Report(unchanged=found.unchanged, bad=list(found.bad), away=found.away, removed=found.gone)
    videos = [file for file in found.fresh if is_video(file.path)]
    images = [file for file in found.fresh if not is_video(file.path)]
    with _progress(len(found.fresh)) as advance:
        again = _add_images(store, encoder, images, report, advance)
        if again:  # another process removed their contents in the meantime
            _add_images(store, encoder, [file_state(path) for path in again], report, advance)
        _add_videos(store, encoder, videos, report, advance, cutting or Cutting())
    unread = {bad.path for bad in report.bad}
    report.repaired = sum(file.path in found.lost and file.path not in unread for file in found.fresh)
    store.forget(found.gone)
    return report


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar with the rate and the time that remains; yield a function that counts files."""
    start, done = time.perf_counter(), 0
    with progress_bar() as progress:
        task = progress.add_task("indexing", total=total, visible=total > 0)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            rate = done / max(time.perf_counter() - start, 1e-9)
            progress.update(task, completed=done, description=f"indexing, {rate:.1f} files per second")

        yield advance


def _add_images(
    store: Store, encoder: ImageEncoder, files: list[FileState], report: Report, advance: Callable[[int], None]
) -> list[Path]:
    """Add images; return those that have to be read again."""
    again: list[Path] = []
    for group, bad in _groups(store, encoder, files, report, advance):
        again += _store(store, encoder, group, report)
        store.mark_bad(bad)
    return again


def _groups(
    store: Store, encoder: ImageEncoder, files: list[FileState], report: Report, advance: Callable[[int], None]
) -> Iterator[tuple[list[Candidate], list[BadState]]]:
    """Read files in parallel; yield groups with at most a batch of images to encode, and the bad files."""
    states = {file.path: file for file in files}
    batch = batch_of(encoder)
    group: list[Candidate] = []
    bad: list[BadState] = []
    for item in read_each(states, lambda path: read_image_file(states[path], store.knows, encoder.preprocess)):
        advance(1)
        if isinstance(item, BadFile):
            _report_bad(store, item, report)
        elif isinstance(item, BadState):
            bad.append(item)
            report.bad.append(BadFile(item.path, item.reason))
        else:
            group.append(item)
        if sum(each.image is not None for each in group) == batch or len(group) + len(bad) >= GROUP:
            yield group, bad
            group, bad = [], []
    yield group, bad


def batch_of(encoder: ImageEncoder) -> int:
    """Return the number of images that are encoded and committed together."""
    return max(BATCH, getattr(getattr(encoder, "setting", None), "batch", 0))


def _report_bad(store: Store, file: BadFile, report: Report) -> None:
    """Report a file that cannot be read at present; what it held before is no longer there to be found."""
    report.bad.append(file)
    store.forget([file.path])


def _store(store: Store, encoder: ImageEncoder, group: list[Candidate], report: Report) -> list[Path]:
    if not group:
        return []
    new = {each.file.hash: each for each in group if each.image is not None and not store.knows(each.file.hash)}
    images = [each.image for each in new.values() if each.image is not None]
    vectors = encoder.image([image.pixels for image in images]).float().cpu().numpy() if images else ()
    contents = [
        NewContent(
            hash=hash_,
            kind="image",
            width=image.width,
            height=image.height,
            vectors=vector[None],
            taken=image.taken,
            thumbnail=image.thumbnail,
        )
        for hash_, image, vector in zip(new, images, vectors, strict=True)
    ]
    again = store.add(contents, [each.file for each in group])
    report.added += len(new)
    report.reused += len(group) - len(new) - len(again)
    return again


def _add_videos(
    store: Store,
    encoder: ImageEncoder,
    files: list[FileState],
    report: Report,
    advance: Callable[[int], None],
    cutting: Cutting,
) -> None:
    if files and find_spec("av") is None:
        videos = "1 video is" if len(files) == 1 else f"{len(files)} videos are"
        notice(f"{videos} left out; to read them: pip install 'percept-models[video]'")
        return
    for file in files:
        try:
            result = read_video_file(file, store.knows, encoder, cutting)
        except PerceptError as error:
            _report_bad(store, BadFile(file.path, reason_without_path(error, file.path)), report)
        else:
            _store_video(store, result, report)
        advance(1)


def _store_video(store: Store, result: tuple[FileState, NewContent | None] | BadState, report: Report) -> None:
    if isinstance(result, BadState):
        report.bad.append(BadFile(result.path, result.reason))
        store.mark_bad([result])
        return
    file, content = result
    if store.add([] if content is None else [content], [file]):
        report.bad.append(BadFile(file.path, "was changed by another process; index it again"))
    elif content is None:
        report.reused += 1
    else:
        report.added += 1
