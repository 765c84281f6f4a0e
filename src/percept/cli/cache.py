"""`percept cache`: show what is kept on this machine, and remove it."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from percept.cli.output import check_rows_output, is_stdout, write_rows
from percept.cli.show import count, say
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from percept.infer.caches import Entry

FIELDS = {"name": str, "what": str, "path": str, "bytes": int, "used": float}
"""Of a row of --out: used in seconds since 1970."""


def cache(clean: tuple[str, ...] = (), dry_run: bool = False, out: Path | None = None) -> int:
    """Show what is kept, with sizes; remove what --clean names.

    Args:
        clean: Names, as they are listed, to remove; * stands for any letters: world/*, hub/facebook/*, compiled.
        dry_run: With --clean, only print what would be removed.
        out: File for the list, ending in .csv, .json, .jsonl or .parquet; - for json lines on standard output.
    """
    if dry_run and not clean:
        raise PerceptError("--dry-run has an effect with --clean only. Name what to remove.")
    check_rows_output(out)
    from percept.infer.caches import chosen, entries

    kept = entries()
    if clean:
        return _clean(chosen(kept, clean), dry_run)
    if out is not None:
        write_rows(out, ({name: getattr(entry, name) for name in FIELDS} for entry in kept), FIELDS)
    if not is_stdout(out):
        _show(kept, f"{count(len(kept), 'entry') if len(kept) == 1 else f'{len(kept):,} entries'}")
    return 0


def _show(kept: "Sequence[Entry]", title: str) -> None:
    size = sum(entry.bytes for entry in kept)
    rows = [
        (
            entry.name,
            entry.what,
            f"{entry.bytes / 1e6:,.1f}",
            f"{datetime.fromtimestamp(entry.used):%Y-%m-%d}",
            entry.path,
        )
        for entry in kept
    ]
    table(f"{title}, {size / 1e6:,.1f} MB", ("name", "what", "MB", "last used", "folder"), rows)


def _clean(found: "Sequence[Entry]", dry_run: bool) -> int:
    if dry_run:
        _show(found, "Would remove")
        return 0
    failed = 0
    for entry in found:
        try:
            entry.remove()
        except OSError as error:
            failed += 1
            say(f"{entry.name} could not be removed: {error.strerror or error}")
        else:
            say(f"removed {entry.name}, {entry.bytes / 1e6:,.1f} MB")
    return 2 if failed else 0


COMMAND = cache
