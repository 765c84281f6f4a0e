"""Near duplicates in an index, from the vectors that exist."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from percept.data.copies import FileFacts, sharpness_of
from percept.data.files import BadFile, read_each
from percept.infer.dupes import ABOVE, Dupes, check_rule, first_of_each, grouped, ordered
from percept.search.contents import Content, contents, name_left_out
from percept.search.labelling import nothing_passes
from percept.search.store import FileState, Filter, Store


def find_dupes(store: Store, *, above: float = ABOVE, keep: str = "largest", where: Filter | None = None) -> Dupes:
    """Return the groups of near duplicates of an index, as `percept.infer.dupes.find_dupes` does for files.

    Files that are gone or have changed since they were indexed are left out and named, so what is kept exists. Images are not compared
    with videos; the vector of a video is the mean of its spans. No file is opened, except for the rule "sharpest".

    Args:
        store: the index.
        above: least cosine of a copy with the file that is kept.
        keep: rule of `percept.data.copies.KEEP`.
        where: condition on the files.

    Raises:
        PerceptError: an impossible value, or no file of the index can be used.
    """
    check_rule(above, keep)
    name_left_out(store)
    facts: list[FileFacts] = []
    bad: list[BadFile] = []
    rows: dict[str, int] = {}
    vectors: list[np.ndarray] = []
    for part in contents(store, where):
        for content, files in zip(part, _facts(store, part), strict=True):
            sound = [file for file in files if isinstance(file, FileFacts)]
            bad += [file for file in files if isinstance(file, BadFile)]
            if sound:
                facts += sound
                rows[sound[0].hash] = len(vectors)
                vectors.append(content.vector.copy())  # not the mapping of a whole segment
    if not facts and not bad:
        raise nothing_passes(store, where)
    if keep == "sharpest":
        facts = _sharp(facts, bad)
    if not facts:
        return Dupes(groups=(), files=0, bad=tuple(bad))
    facts = ordered(sorted(facts, key=lambda file: file.path), keep)
    first = first_of_each(facts)
    matrix = np.stack([vectors[rows[hash_]] for hash_ in first])
    return grouped(facts, [file.path for file in first.values()], matrix, above=above, bad=bad)


def _facts(store: Store, part: Sequence[Content]) -> list[list[FileFacts | BadFile]]:
    """Return the facts of the files of each content, or why a file cannot be used."""
    known = store.known([path for content in part for path in content.paths])
    return [[_fact(path, content, known.get(path)) for path in content.paths] for content in part]


def _fact(path: Path, content: Content, state: object) -> FileFacts | BadFile:
    try:
        status = os.stat(path)
    except OSError as error:
        return BadFile(path, f"it cannot be read now: {error.strerror or error}")
    same = isinstance(state, FileState) and (state.bytes, state.modified) == (status.st_size, status.st_mtime_ns)
    if not same:
        return BadFile(path, "it has changed since it was indexed; percept index brings the index up to date")
    piece = content.pieces[0]
    size = (piece.width, piece.height) if piece.kind == "image" else (0, 0)
    return FileFacts(
        path=path, hash=piece.hash, bytes=status.st_size, modified=status.st_mtime_ns, width=size[0], height=size[1]
    )


def _sharp(facts: Sequence[FileFacts], bad: list[BadFile]) -> list[FileFacts]:
    """Measure the sharpness of the images."""
    images = [file for file in facts if file.width]
    result = [file for file in facts if not file.width]
    measured = read_each([file.path for file in images], sharpness_of)
    for file, value in zip(images, measured, strict=True):
        if isinstance(value, BadFile):
            bad.append(value)
        else:
            result.append(replace(file, sharpness=value))
    return result
