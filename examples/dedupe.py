"""Move near-duplicates of an index away, and keep the best file of each group. Nothing is deleted, and percept undo takes it back.

percept index PHOTOS --index photos
python examples/dedupe.py photos copies --above 0.97 --list copies.csv
"""

import sys
from datetime import datetime
from pathlib import Path

import tyro

import percept
from percept.cli.output import write_rows
from percept.cli.show import bad_files
from percept.core.report import table
from percept.data.files import BadFile
from percept.data.moves import carry_out, planned

FIELDS = {"keep": str, "copy": str, "cosine": float, "exact": bool, "bytes": int}


def main(
    index: tyro.conf.Positional[Path],
    folder: tyro.conf.Positional[Path],
    above: float = 0.97,
    keep: str = "largest",
    list: Path | None = None,
) -> None:
    """Move the copies of each group to a folder, and bring the index up to date.

    Args:
        index: Folder of the index.
        folder: Folder for the copies, outside the folders of the index.
        above: Cosine from which a file is a copy of the one that is kept.
        keep: Which file is kept: largest, sharpest, oldest, newest or first.
        list: .csv, .json, .jsonl or .parquet file for the copies.
    """
    with percept.Index(index) as opened:
        found = opened.dupes(above=above, keep=keep)
        copies = [(group.keep, copy) for group in found.groups for copy in group.copies]
        undo = folder / f"undo-{datetime.now():%Y%m%d-%H%M%S}.jsonl"
        moves = planned([(copy.file.path, folder) for _, copy in copies], "move")
        failed = [each for each in carry_out(moves, undo) if isinstance(each, BadFile)]
        unread = opened.add().bad
    rows = [
        {"keep": kept.path, "copy": copy.file.path, "cosine": copy.cosine, "exact": copy.exact, "bytes": copy.file.bytes}
        for kept, copy in copies
    ]  # fmt: skip
    if list is not None:
        write_rows(list, rows, FIELDS)
    bad_files([*found.bad, *failed, *unread])
    moved = len(moves) - len(failed)
    title = f"Copies moved to {folder}: {moved}" + f"; percept undo {undo} moves them back" * (moved > 0)
    table(title, ("kept", "copy", "cosine"), [(row["keep"], row["copy"], row["cosine"]) for row in rows])


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except percept.PerceptError as error:
        sys.exit(f"dedupe: {error}")
