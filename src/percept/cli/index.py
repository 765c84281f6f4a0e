"""`percept index`: make folders of pictures searchable."""

from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.show import bad_files, count, say
from percept.core.report import table

if TYPE_CHECKING:
    from percept.search.build import Report
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
) -> int:
    """Make the pictures in folders searchable; run again, it reads only what is new or changed.

    Args:
        paths: Folders (searched with their subfolders) and picture files.
        index: Folder of the index; made if it is not there.
        model: nano, an official name, or a model folder. Default: the index's own model, nano for a new one.
        weights: Local weight file for an official name.
        tokenizer: tokenizer.json for a model that comes without one.
        device: auto, cpu, cuda or mps.
    """
    from percept.data.sources import find_images
    from percept.infer.load import load
    from percept.search.build import build
    from percept.search.index import Index

    files = find_images(paths)
    model = model or _own_model(index) or "nano"
    encoder = load(model, weights=weights, tokenizer=tokenizer, device=device)
    say(f"{encoder} looks at {count(len(files), 'file')}")
    with Index.open_or_create(index, encoder, source=model) as store:
        try:
            report = build(store, encoder, files)
        except KeyboardInterrupt:
            say(f"stopped; {count(len(store), 'file')} are in {index}, the same command goes on from there")
            raise
        _show(report, store)
        return 0 if len(store) else 2


def _own_model(folder: Path) -> str | None:
    from percept.search.index import Index
    from percept.search.store import FILE

    if not (folder / FILE).exists():
        return None
    with Index.open(folder) as store:
        return store.stamp.source


def _show(report: "Report", store: "Index") -> None:
    rows = [
        ("encoded", report.added),
        ("known under another name", report.reused),
        ("unchanged", report.unchanged),
        ("gone and dropped", len(report.removed)),
        ("could not be read", len(report.bad)),
        ("in the index now", len(store)),
    ]
    speed = f", {report.added / report.seconds:.0f} encoded per second" if report.added else ""
    table(f"{store.folder} in {report.seconds:.1f} s{speed}", ("files", "count"), rows)
    bad_files(report.bad)


COMMAND = index
