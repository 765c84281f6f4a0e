"""Terminal output: one console, tables, progress; quiet when nobody looks."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

out = Console(highlight=False)
"""Results, on standard output."""
err = Console(stderr=True, highlight=False)
"""Progress, notices and errors, on standard error."""


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; numbers are right-aligned, floats shown with three digits."""
    rows = [list(row) for row in rows]
    grid = Table(header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        grid.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(f"{cell:.3f}" if isinstance(cell, float) else str(cell)) for cell in row))
    out.print(Text(title, style="bold"))  # not the table's own title, which wraps over a narrow table
    out.print(grid)


def notice(message: str) -> None:
    """Print a remark that is not a result, on standard error."""
    err.print(message, style="yellow", markup=False)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a progress display on standard error; it disappears when done and is silent when not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        yield progress


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield `items` with a progress bar over `total`."""
    with progress_bar() as progress:
        yield from progress.track(items, total=total, description=description)
