"""`percept index`: make folders of pictures searchable."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.show import bad_files, count, say
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder
    from percept.search.build import Report
    from percept.search.contracts import Stamp
    from percept.search.index import Index

DEFAULT = Path("percept-index")
"""Where an index lies when nothing else is said."""


def index(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    index: Path = DEFAULT,
    model: str | None = None,
    weights: Path | None = None,
    tokenizer: Path | None = None,
    device: str = "auto",
    resize: str | None = None,
    tokens: int | None = None,
    prune: bool = False,
) -> int:
    """Make the pictures in folders searchable; run again, it reads only what is new or changed.

    Files that are gone from these folders are dropped. Files gone from elsewhere are kept, for a disk may be unplugged.

    Args:
        paths: Folders (searched with their subfolders) and picture files.
        index: Folder of the index; made if it is not there.
        model: nano, an official name, or a model folder. Default: the index's own model, nano for a new one.
        weights: Local weight file for an official name; the index remembers it.
        tokenizer: tokenizer.json for a model that comes without one; the index remembers it.
        device: auto, cpu, cuda or mps.
        resize: How pictures are brought to size: squash, crop, pad, keep or native. Default: as the index or model says.
        tokens: Most patches of a picture, for --resize native.
        prune: Drop files that are gone wherever they were, outside the paths given too.
    """
    from percept.search.build import build
    from percept.search.index import Index

    files = [] if prune and not paths else _pictures(paths, index)
    encoder, stamp = load_for(
        _stored(index, model), model, weights=weights, tokenizer=tokenizer, device=device, resize=resize, tokens=tokens
    )
    say(f"{encoder} looks at {count(len(files), 'file')}")
    with Index.open_or_create(index, encoder, stamp=stamp) as store:
        try:
            report = build(store, encoder, files, within=paths, prune=prune)
        except KeyboardInterrupt:
            say(f"stopped; {count(len(store), 'file')} are in {index}, the same command goes on from there")
            raise
        _show(report, store)
        if report.bad and not len(store):
            raise PerceptError(f"none of the files could be read, so there is nothing to search in {index}")
    return 0


def _pictures(paths: tuple[Path, ...], index: Path) -> list[Path]:
    """List the picture files; none where folders were emptied of which the index still knows files."""
    from percept.data.files import find_images
    from percept.search.build import below
    from percept.search.index import Index

    try:
        return find_images(paths)
    except PerceptError:
        if not paths or not all(map(os.path.isdir, paths)) or not _is_index(index):
            raise
        with Index.open(index) as store:
            if not below(store.files(), paths):
                raise
    return []


def _stored(folder: Path, model: str | None) -> "Stamp | None":
    """Return how the model of an index is loaded; None where there is no index, or an empty one and another wish."""
    from percept.search.index import Index

    if not _is_index(folder):
        return None
    with Index.open(folder) as store:
        usable = store.stamp.dim and (len(store) or model is None)
        return store.stamp if usable else None


def _is_index(folder: Path) -> bool:
    from percept.search.store import FILE

    return (folder / FILE).exists()


def load_for(
    stored: "Stamp | None",
    model: str | None,
    *,
    weights: Path | None,
    tokenizer: Path | None,
    device: str,
    resize: str | None = None,
    tokens: int | None = None,
) -> "tuple[Encoder, Stamp]":
    """Load the model asked for, or the one of an index from where it was; return it with how it is loaded again.

    It brings pictures to size as asked, or else as for those of the index.

    Raises:
        PerceptError: a file that the index remembers is gone, or the model cannot be loaded.
    """
    from percept.infer.load import load
    from percept.search.contracts import lasting, stamp_of

    if stored is not None and (model is None or lasting(model) == stored.source):
        model = stored.source
        weights = weights or _remembered(stored, stored.weights, "weights")
        tokenizer = tokenizer or _remembered(stored, stored.tokenizer, "tokenizer")
    model = model or "nano"
    if stored is not None and resize is None and tokens is not None:
        resize = stored.preprocess.resize
    encoder = load(model, weights=weights, tokenizer=tokenizer, device=device, resize=resize, tokens=tokens)
    if stored is not None and resize is None and tokens is None:
        encoder = _sized(encoder, stored)
    return encoder, stamp_of(encoder, model, weights=weights, tokenizer=tokenizer)


def _sized(encoder: "Encoder", stored: "Stamp") -> "Encoder":
    now, then = encoder.preprocess, stored.preprocess
    if (now.resize, now.tokens) == (then.resize, then.tokens):
        return encoder
    return encoder.resizing(then.resize, tokens=then.tokens)


def _remembered(stored: "Stamp", file: str | None, option: str) -> Path | None:
    if file is not None and not os.path.exists(file):
        raise PerceptError(
            f"the index was made with {stored.name} and the {option} in {file}, which is not there any more; say where "
            f"that file is now: --{option} FILE"
        )
    return None if file is None else Path(file)


def _show(report: "Report", store: "Index") -> None:
    rows = [
        ("encoded", report.added),
        ("known under another name", report.reused),
        ("unchanged", report.unchanged),
        ("gone and dropped", len(report.removed)),
        *([("gone elsewhere and kept (--prune drops them)", report.away)] if report.away else []),
        ("could not be read", len(report.bad)),
        ("in the index now", len(store)),
    ]
    speed = f", {report.added / report.seconds:.0f} encoded per second" if report.added else ""
    table(f"{store.folder} in {report.seconds:.1f} s{speed}", ("files", "count"), rows)
    bad_files(report.bad)


COMMAND = index
