"""Terminal output: two consoles, tables, progress; silent where there is no terminal."""

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TypeVar

from rich.console import Console, ConsoleDimensions
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

T = TypeVar("T")


UNWRAPPED = 1 << 16
"""Columns of output that is not a terminal: nothing is wrapped or cut there."""


class PipeConsole(Console):
    """A console whose reader may stop: the rest of the output is discarded, and the work goes on.

    In a file or pipe every line and every row of a table stays whole.
    """

    @property
    def size(self) -> ConsoleDimensions:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Columns and lines."""
        size = super().size
        return size if self.is_terminal else ConsoleDimensions(UNWRAPPED, size.height)

    def on_broken_pipe(self) -> None:
        """Discard all further output; rich would exit with code 1."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


out = PipeConsole(highlight=False)
"""Results, on standard output."""
err = PipeConsole(stderr=True, highlight=False)
"""Progress, notices and errors, on standard error."""


def printable(text: object) -> str:
    """Return `str(text)` as one printable line.

    Line breaks, terminal control codes, and bytes of a file name that are not UTF-8 become �.

    >>> printable("new\\nline.png"), printable("猫 [1].png")
    ('new�line.png', '猫 [1].png')
    """
    return "".join(letter if _shows(letter) else "�" for letter in str(text))


def printable_lines(text: object) -> str:
    """Return a printable message, as `printable` does, but keep its line breaks."""
    return "\n".join(map(printable, str(text).split("\n")))


def _shows(letter: str) -> bool:
    joins = letter in "\u200c\u200d"  # inside words of some scripts, and inside emoji
    return letter.isprintable() or unicodedata.category(letter) == "Zs" or joins


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table: numbers are right-aligned, floats have three digits, and every text is one printable line."""
    rows = [list(row) for row in rows]
    grid = Table(header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        grid.add_column(Text(printable(column)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(f"{cell:.3f}" if isinstance(cell, float) else printable(cell)) for cell in row))
    out.print(Text(printable(title), style="bold"))  # not the table's own title, which wraps over a narrow table
    out.print(grid)


def notice(message: str) -> None:
    """Print a remark, which is not a result, on standard error."""
    err.print(printable_lines(message), style="yellow", markup=False)


@contextmanager
def progress_bar(*, always: bool = False) -> Iterator[Progress]:
    """Show progress on standard error; it disappears when done, and is silent if standard error is not a terminal.

    With `always`, a file or pipe gets the last state.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=err, transient=err.is_terminal, disable=not (err.is_terminal or always)
    ) as progress:
        yield progress


@contextmanager
def steps(total: int) -> Iterator[Callable[[str], None]]:
    """Show which of `total` different steps is running; yield a function to call with the name of each as it begins."""
    with progress_bar() as progress:
        bar, begun = progress.add_task("", total=total), count()

        def begin(name: str) -> None:
            progress.update(bar, description=name, completed=next(begun), refresh=True)

        yield begin


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield `items` with a progress bar over `total`."""
    with progress_bar() as progress:
        yield from progress.track(items, total=total, description=description)
