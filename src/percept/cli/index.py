"""`percept index`: make folders of images searchable."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.options import DEFAULT_MODEL, MODEL, Model, ModelOptions
from percept.cli.show import bad_files, count, say
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder
    from percept.search.build import Report
    from percept.search.contracts import Stamp
    from percept.search.index import Index

DEFAULT = Path("percept-index")
"""Folder of the index if none is given."""


def index(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    index: Path = DEFAULT,
    prune: bool = False,
    model: Model = MODEL,
) -> int:
    """Make the images in folders searchable; run again, it reads only new and changed files.

    Files that no longer exist in these folders are dropped. Files missing elsewhere are kept: their disk may be unplugged.

    Args:
        paths: Folders (searched with their subfolders) and image files; @FILE or - stands for a list of paths.
        index: Folder of the index; created if it does not exist. It remembers the model, its files and how images are
            resized.
        prune: Drop files that no longer exist wherever they were, also outside the given paths.
    """
    from percept.search.build import build
    from percept.search.index import Index

    named = _named(paths)
    files = [] if prune and not paths else _images(named, index)
    encoder, stamp = load_for(_stored(index, model.model), model)
    say(f"{encoder} checks {count(len(files), 'file')}")
    with Index.open_or_create(index, encoder, stamp=stamp) as store:
        try:
            report = build(store, encoder, files, within=named, prune=prune)
        except KeyboardInterrupt:
            say(f"stopped; {count(len(store), 'file')} are in {index}, the same command continues from there")
            raise
        _show(report, store)
        if report.bad and not len(store):
            raise PerceptError(f"none of the files could be read, so there is nothing to search in {index}")
    return 0


def _named(paths: tuple[Path, ...]) -> list[Path]:
    """Return the files and folders that the arguments name, with lists of paths replaced by their entries.

    Raises:
        PerceptError: an image in a pipe, which could not be found again.
    """
    from percept.data.files import named_paths
    from percept.data.inputs import is_pipe

    named = named_paths(paths)
    if (piped := next(filter(is_pipe, named), None)) is not None:
        raise PerceptError(f"{piped} is an image in a pipe, and an index holds files. Save it and give its path.")
    return named


def _images(paths: list[Path], index: Path) -> list[Path]:
    """List the image files; none if the folders were emptied and the index still knows files in them."""
    from percept.data.files import find_images
    from percept.search.build import below
    from percept.search.index import Index
    from percept.search.store import has_store

    try:
        return find_images(paths)
    except PerceptError:
        if not paths or not all(map(os.path.isdir, paths)) or not has_store(index):
            raise
        with Index.open(index) as store:
            if not below(store.files(), paths):
                raise
    return []


def _stored(folder: Path, model: str | None) -> "Stamp | None":
    """Return the stamp of an index; None if there is no index, or an empty one and a model was chosen."""
    from percept.search.index import Index
    from percept.search.store import has_store

    if not has_store(folder):
        return None
    with Index.open(folder) as store:
        usable = store.stamp.dim and (len(store) or model is None)
        return store.stamp if usable else None


def load_for(stored: "Stamp | None", options: ModelOptions) -> "tuple[Encoder, Stamp]":
    """Load the chosen model, or else that of an index; return it with the stamp by which it is loaded again.

    Images are resized as chosen, or else as those of the index.

    Raises:
        PerceptError: a file that the index remembers does not exist, the model would have to be fetched because of the
            index alone, or it cannot be loaded.
    """
    from percept.search.contracts import stamp_of
    from percept.weights.locate import lasting

    chosen = options.model
    if stored is not None and (chosen is None or lasting(chosen) == stored.source):
        options = _remembered(stored, options)
    if stored is not None and options.resize is None and options.tokens is not None:
        options = replace(options, resize=stored.preprocess.resize)
    with _nothing_fetched(stored if chosen is None else None):
        encoder = options.open()
    if stored is not None and options.resize is None and options.tokens is None:
        encoder = _sized(encoder, stored)
    stamp = stamp_of(
        encoder,
        options.model or DEFAULT_MODEL,
        weights=options.weights,
        tokenizer=options.tokenizer,
        image_size=options.image_size,
        dtype=options.dtype,
    )
    return encoder, stamp


def _remembered(stored: "Stamp", options: ModelOptions) -> ModelOptions:
    """Fill options that were not chosen with those of the index."""
    return replace(
        options,
        model=stored.source,
        weights=options.weights or _file(stored, stored.weights, "weights"),
        tokenizer=options.tokenizer or _file(stored, stored.tokenizer, "tokenizer"),
        image_size=options.image_size or stored.image_size,
        dtype=options.dtype or stored.dtype,
    )


def _file(stored: "Stamp", file: str | None, option: str) -> Path | None:
    if file is not None and not os.path.exists(file):
        raise PerceptError(
            f"the index was made with {stored.name} and the {option} in {file}, which no longer exists; give its new "
            f"place: --{option} FILE"
        )
    return None if file is None else Path(file)


@contextmanager
def _nothing_fetched(stored: "Stamp | None") -> Iterator[None]:
    """Keep percept off the network while the model that an index names is loaded: the index may come from anybody.

    Raises:
        PerceptError: the model is not on this machine.
    """
    from percept.search.contracts import is_remote

    if stored is None or not is_remote(stored.source):
        yield
        return
    import huggingface_hub  # noqa: F401 - it reads the switch when it is imported, and must not keep it

    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    except PerceptError as error:
        if before is not None or "HF_HUB_OFFLINE" not in str(error):
            raise
        raise PerceptError(
            f"the index was made with {stored.source}, which is not on this machine, and an index alone never makes "
            f"percept fetch a model. If you trust that address, add {stored.options}"
        ) from None
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


def _sized(encoder: "Encoder", stored: "Stamp") -> "Encoder":
    now, then = encoder.preprocess, stored.preprocess
    if (now.resize, now.tokens) == (then.resize, then.tokens):
        return encoder
    return encoder.resizing(then.resize, tokens=then.tokens)


def _show(report: "Report", store: "Index") -> None:
    rows = [
        ("encoded", report.added),
        ("known by a different name", report.reused),
        ("unchanged", report.unchanged),
        *([("read again, their rows were damaged", report.repaired)] if report.repaired else []),
        ("missing and dropped", len(report.removed)),
        *([("missing elsewhere and kept (--prune drops them)", report.away)] if report.away else []),
        ("could not be read", len(report.bad)),
        ("in the index now", len(store)),
    ]
    speed = f", {report.added / report.seconds:.0f} encoded per second" if report.added else ""
    table(f"{store.folder} in {report.seconds:.1f} s{speed}", ("files", "count"), rows)
    bad_files(report.bad)


COMMAND = index
