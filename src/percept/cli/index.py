"""`percept index`: make folders of images and videos searchable, and look after the index."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from percept.cli.options import DEFAULT_MODEL, MODEL, Model, ModelOptions
from percept.cli.show import bad_files, count, say
from percept.core.errors import PerceptError
from percept.core.report import table
from percept.search.cutting import Cutting

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder
    from percept.search.again import Again
    from percept.search.build import Report
    from percept.search.contracts import ImageEncoder, Stamp
    from percept.search.store import Root, Store

DEFAULT = Path("percept-index")
"""Folder of the index if none is given."""
Patterns = tyro.conf.UseAppendAction[tuple[str, ...]]
CUTTING = Cutting()
INSIDE = ("status", "remove", "compact", "repair", "export", "upgrade")
"""Commands that look after an index, see `percept.cli.upkeep`."""


def index(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    index: Path = DEFAULT,
    include: Patterns = (),
    exclude: Patterns = (),
    hidden: bool = False,
    prune: bool = False,
    watch: bool = False,
    limit: int | None = None,
    model: Model = MODEL,
    cutting: Annotated[Cutting, tyro.conf.arg(name="")] = CUTTING,
) -> int:
    """Make images and videos searchable; run again, it reads only new and changed files.

    Without folders, those of earlier runs are brought up to date. Files that no longer exist in these folders are
    dropped. Files missing elsewhere are kept: their disk may be unplugged.

    percept index status, remove, compact, export, repair and upgrade look after an index; each has --help. A folder of such
    a name is given as ./status.

    Args:
        paths: Folders (searched with their subfolders), image and video files; @FILE or - stands for a list of paths.
        index: Folder of the index; created if it does not exist. It remembers the model, its files and how images are
            resized.
        include: Take only files of the folders whose path matches this pattern, such as '*.jpg'; may be repeated.
        exclude: Leave out files and folders that match this pattern, such as 'private/*'; may be repeated.
        hidden: Take hidden files and folders too.
        prune: Drop files that no longer exist wherever they were, also outside the given paths.
        watch: Keep running and follow the folders; Ctrl-C ends.
        limit: After percept index upgrade, most images and videos that are encoded again in this run. Default: all.
    """
    from percept.search.again import encode_again
    from percept.search.build import build
    from percept.search.index import selected
    from percept.search.store import Store

    if limit is not None and limit < 0:
        raise PerceptError(f"--limit must be at least 0, got {limit}. Leave it out to encode everything again.")
    named = _named(paths)
    if not named:
        _check_exists(index)
    _check_media(named, index, include=include, exclude=exclude, hidden=hidden)
    encoder, stamp = load_for(_stored(index, model.model), model)
    with Store.open_or_create(index, encoder, stamp=stamp) as store:
        roots = selected(store, named, include=include, exclude=exclude, hidden=hidden)
        say(f"{encoder} looks at {count(len(roots), 'place')}")
        try:
            report = build(store, encoder, roots, prune=prune, cutting=cutting)
            _show(report, store)
            if store.old() is not None and limit != 0:
                show_again(encode_again(store, encoder, limit=limit, cutting=cutting), store)
            if watch:
                _watch(store, encoder, roots, cutting)
        except KeyboardInterrupt:
            say(f"stopped; {count(len(store), 'file')} are in {index}, the same command continues from there")
            raise
        if report.bad and not len(store):
            raise PerceptError(f"none of the files could be read, so there is nothing to search in {index}")
    return 0


def _check_exists(index: Path) -> None:
    from percept.search.store import has_store

    if not has_store(index):
        raise PerceptError("no path was given. Name at least one folder or file.")


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


def _check_media(
    paths: list[Path], index: Path, *, include: tuple[str, ...], exclude: tuple[str, ...], hidden: bool
) -> None:
    """Check, before a model is loaded, that there is something to index, or files of an index to drop.

    Raises:
        PerceptError: the folders hold neither images nor videos that are selected.
    """
    from percept.search.build import below
    from percept.search.store import Root, Store, has_store
    from percept.search.walk import walk

    roots = [Root(path=path, include=include, exclude=exclude, hidden=hidden) for path in paths]
    if not paths or next(walk(roots), None) is not None:
        return
    if has_store(index):
        with Store(index) as store:
            if below(store.paths(), roots):
                return
    looked = ", ".join(str(path) for path in paths[:5]) + (", ..." if len(paths) > 5 else "")
    which = " that --include and --exclude select" if include or exclude else ""
    raise PerceptError(f"no images or videos{which} in {looked}. Give folders that hold some.")


def _stored(folder: Path, model: str | None) -> "Stamp | None":
    """Return the stamp of an index; None if there is no index, or an empty one and a model was chosen."""
    from percept.search.store import Store, has_store

    if not has_store(folder):
        return None
    with Store(folder) as store:
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
    from percept.search.reload import nothing_fetched, sized
    from percept.weights.locate import lasting

    chosen = options.model
    if stored is not None and (chosen is None or lasting(chosen) == stored.source):
        options = _remembered(stored, options)
    if stored is not None and options.resize is None and options.tokens is not None:
        options = replace(options, resize=stored.preprocess.resize)
    with nothing_fetched(stored if chosen is None else None):
        encoder = options.open()
    if stored is not None and options.resize is None and options.tokens is None:
        encoder = sized(encoder, stored)
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


def _show(report: "Report", store: "Store") -> None:
    rows = [
        ("encoded", report.added),
        ("known by a different name", report.reused),
        ("unchanged", report.unchanged),
        *([("read again, their vectors were damaged", report.repaired)] if report.repaired else []),
        ("missing and dropped", len(report.removed)),
        *([("missing elsewhere and kept (--prune drops them)", report.away)] if report.away else []),
        ("could not be read", len(report.bad)),
        ("in the index now", len(store)),
    ]
    speed = f", {report.added / report.seconds:.0f} encoded per second" if report.added else ""
    table(f"{store.folder} in {report.seconds:.1f} s{speed}", ("files", "count"), rows)
    bad_files(report.bad)


def show_again(done: "Again", store: "Store") -> None:
    """Print what was encoded again after an upgrade, and what is still to be done."""
    rows = [
        ("images and videos encoded again", f"{done.done:,}"),
        ("still searched through the map (percept index continues)", f"{done.remaining:,}"),
    ]
    table(f"{store.folder} belongs to {store.stamp.name}", ("what", "count"), rows)
    bad_files(done.unread)


def _watch(store: "Store", encoder: "Encoder", roots: "list[Root]", cutting: Cutting) -> None:
    """Follow the folders until Ctrl-C, which is the usual end and not an interruption."""
    from percept.search.watch import watch

    def report(done: "Report") -> None:
        parts = ((done.added, "encoded"), (done.reused, "known"), (len(done.removed), "dropped"))
        say(f"{', '.join(f'{number} {what}' for number, what in parts if number) or 'nothing new'}; "
            f"{count(len(store), 'file')} in the index")  # fmt: skip
        bad_files(done.bad)

    try:
        say("following the folders; Ctrl-C ends")
        watch(store, encoder, roots, report, cutting=cutting, wait=_Waiting(store, encoder))
    except KeyboardInterrupt:
        say(f"stopped following; {count(len(store), 'file')} in the index")


class _Waiting:
    """Waits between two looks; after an upgrade, encodes again in this time what still has vectors of the former model."""

    def __init__(self, store: "Store", encoder: "ImageEncoder") -> None:
        self.store, self.encoder = store, encoder
        self.stuck: int | None = None
        """Version of the index at which nothing more could be read."""

    def __call__(self, seconds: float) -> None:
        from percept.search.again import encode_again

        end = time.monotonic() + seconds
        if self.stuck != self.store.version() and self.store.old() is not None:
            done = encode_again(self.store, self.encoder, until=lambda: time.monotonic() >= end)
            self.stuck = None if done.done else self.store.version()
        time.sleep(max(0.0, end - time.monotonic()))


def run(arguments: list[str]) -> int:
    """Run a command that looks after an index, if the first word is its name and not that of a file or folder; else `index`."""
    first = arguments[0] if arguments else ""
    if first in INSIDE and not os.path.lexists(first):
        from percept.cli.upkeep import COMMANDS

        return tyro.cli(COMMANDS[first], prog=f"percept index {first}", args=arguments[1:])
    return tyro.cli(index, prog="percept index", args=arguments)


ARGUMENTS = run
