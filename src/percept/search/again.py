"""Contents of an index encoded again from their files, by the model that is current now."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from percept.core.errors import PerceptError
from percept.core.report import notice, progress_bar
from percept.data.files import BadFile, read_each, reason_without_path
from percept.search.approximate import refresh_approximate
from percept.search.build import batch_of
from percept.search.contracts import ImageEncoder
from percept.search.cutting import Cutting
from percept.search.reading import Candidate, read_image_file, read_video_file
from percept.search.store import NewContent, Piece, Store
from percept.search.walk import file_state

AT_ONCE = 1024
"""Contents that are looked up together."""
CHANGED = "has changed since it was indexed; percept index reads it"
GONE = "is not there now"


@dataclass(kw_only=True)
class Again:
    """Result of encoding contents again."""

    done: int = 0
    """Images and videos that were encoded."""
    remaining: int = 0
    """Those that still have vectors of the former model."""
    unread: list[BadFile] = field(default_factory=list)
    """Those among them whose file cannot be read at present."""


def encode_again(
    store: Store,
    encoder: ImageEncoder,
    *,
    limit: int | None = None,
    cutting: Cutting | None = None,
    until: Callable[[], bool] = lambda: False,
) -> Again:
    """Replace vectors of the former model of an upgraded index by those of its current model.

    Every batch is one transaction: an interruption costs at most the batch in flight, and the next call continues from there.
    Contents whose files cannot be read keep their vectors and are found through the map.

    Args:
        store: the index.
        encoder: its current model.
        limit: most contents to encode; all if None.
        cutting: how videos are cut into pieces.
        until: asked between two batches; the call ends when it returns True.

    Raises:
        PerceptError: the index belongs to a different model.
    """
    store.check(encoder)
    result = Again()
    left = store.remaining()
    total = left if limit is None else min(limit, left)
    with progress_bar() as progress:
        task = progress.add_task("encoding again", total=total, visible=total > 0)
        for batch in _batches(store, encoder, total, result, cutting):
            result.done += store.move(batch)
            progress.update(task, completed=result.done)
            if until():
                break
    store.finish()
    refresh_approximate(store)
    result.remaining = store.remaining()
    return result


def _batches(
    store: Store, encoder: ImageEncoder, total: int, result: Again, cutting: Cutting | None
) -> Iterator[list[NewContent]]:
    """Yield contents of the old space until `total` are done; those that cannot be read do not count."""
    last = 0
    while result.done < total and (contents := store.old_contents(after=last, count=min(AT_ONCE, total - result.done))):
        yield from read_again(store, encoder, contents, result.unread, cutting=cutting)
        last = contents[-1]


def read_again(
    store: Store,
    encoder: ImageEncoder,
    contents: Sequence[int],
    unread: list[BadFile],
    *,
    cutting: Cutting | None = None,
) -> Iterator[list[NewContent]]:
    """Yield batches of contents with vectors of a model; files that cannot be read, or have changed, are added to `unread`."""
    known = {piece.hash: piece for piece in store.pieces_of(contents) if piece.paths}
    images = {_place(piece): piece for piece in known.values() if piece.kind == "image"}
    videos = {_place(piece): piece for piece in known.values() if piece.kind == "video"}
    yield from _images(encoder, images, unread)
    if videos and find_spec("av") is None:
        notice("videos are left out; to read them: pip install 'percept-models[video]'")
        return
    for path, piece in videos.items():
        content = _video(encoder, path, piece, unread, cutting or Cutting())
        if content is not None:
            yield [content]


def _place(piece: Piece) -> Path:
    """Return the first of the files of a content that exists, else the first one."""
    return next((path for path in piece.paths if os.path.isfile(path)), piece.paths[0])


def _images(encoder: ImageEncoder, pieces: dict[Path, Piece], unread: list[BadFile]) -> Iterator[list[NewContent]]:
    group: list[Candidate] = []
    batch = batch_of(encoder)
    for item in read_each(pieces, lambda path: read_image_file(file_state(path), lambda _: False, encoder.preprocess)):
        if not isinstance(item, Candidate):
            unread.append(BadFile(item.path, item.reason))
        elif item.file.hash != pieces[item.file.path].hash:
            unread.append(BadFile(item.file.path, CHANGED))
        else:
            group.append(item)
        if len(group) == batch:
            yield _encoded(encoder, group)
            group = []
    if group:
        yield _encoded(encoder, group)


def _encoded(encoder: ImageEncoder, group: list[Candidate]) -> list[NewContent]:
    images = [each.image for each in group if each.image is not None]
    vectors = encoder.image([image.pixels for image in images]).float().cpu().numpy()
    return [
        NewContent(hash=each.file.hash, kind="image", width=image.width, height=image.height, vectors=vector[None])
        for each, image, vector in zip(group, images, vectors, strict=True)
    ]


def _video(
    encoder: ImageEncoder, path: Path, piece: Piece, unread: list[BadFile], cutting: Cutting
) -> NewContent | None:
    if not os.path.exists(path):
        unread.append(BadFile(path, GONE))
        return None
    try:
        result = read_video_file(file_state(path), lambda _: False, encoder, cutting)
    except PerceptError as error:
        unread.append(BadFile(path, reason_without_path(error, path)))
        return None
    if not isinstance(result, tuple):
        unread.append(BadFile(path, result.reason))
        return None
    if result[0].hash != piece.hash:
        unread.append(BadFile(path, CHANGED))
        return None
    return result[1]
