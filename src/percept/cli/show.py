"""What several verbs print or parse the same way: labels, bad files, a closing line."""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from percept.core.errors import PerceptError
from percept.core.report import err, printable_lines, table

if TYPE_CHECKING:
    from percept.data.files import BadFile

SHOWN_BAD = 20
"""Bad files listed by name; the rest is counted."""


def split_labels(text: str) -> list[str]:
    """Return the labels of `cat,dog`, or of `@labels.txt` with one label per line.

    Raises:
        PerceptError: the file is missing, or there is no label.
    """
    if text.startswith("@"):
        file = Path(text[1:])
        if not text[1:].strip():
            raise PerceptError("no file is named after the @; give cat,dog or @FILE with one label per line")
        if os.path.isdir(file):
            raise PerceptError(f"{file} is a folder; give cat,dog or @FILE with one label per line")
        if not os.path.isfile(file):
            raise PerceptError(f"there is no file {file} with labels; give cat,dog or @FILE with one label per line")
        try:
            parts = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise PerceptError(f"{file} cannot be read as a list of labels, one per line in UTF-8: {error}") from None
    else:
        parts = text.split(",")
    labels = [part.strip() for part in parts if part.strip()]
    if not labels:
        raise PerceptError(f"no labels in {text!r}; give them as cat,dog or as @FILE with one label per line")
    return labels


def bad_files(bad: Sequence["BadFile"]) -> None:
    """Print the files that could not be used, with reasons and their count."""
    if not bad:
        return
    rows: list[tuple[object, object]] = [(file.path, file.reason) for file in bad[:SHOWN_BAD]]
    if len(bad) > SHOWN_BAD:
        rows.append(("...", f"and {len(bad) - SHOWN_BAD} more"))
    table(f"{count(len(bad), 'file')} left out", ("file", "reason"), rows)


def count(number: int, thing: str) -> str:
    """Return the number with its noun.

    >>> count(1, "picture"), count(3, "picture")
    ('1 picture', '3 pictures')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def count_files(paths: Sequence[Path]) -> str:
    """Return how many pictures and videos there are.

    >>> count_files([Path("a.jpg"), Path("b.mp4"), Path("c.png")])
    '2 pictures and 1 video'
    """
    from percept.data.files import is_video

    videos = sum(map(is_video, paths))
    kinds = [(len(paths) - videos, "picture"), (videos, "video")]
    return " and ".join(count(number, kind) for number, kind in kinds if number) or count(0, "picture")


def common_folder(paths: Sequence[Path]) -> Path:
    """Return the deepest folder that holds all files, for a table that names it once.

    >>> str(common_folder([Path("a/b/c.png"), Path("a/d.png")]))
    'a'
    """
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:  # some absolute, some relative, or none
        return Path()


def within(path: Path, folder: Path) -> str:
    """Return the path as seen from a folder that may hold it."""
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def check_output(file: Path | None, *endings: str) -> None:
    """Make the folder of a file that will be written, and try whether it can be, before any work is spent on it.

    Args:
        file: what will be written; nothing if None.
        endings: what its name may end in, with the dot, in either case; anything if none is given.

    Raises:
        PerceptError: another ending, the file is a folder, or its folder cannot be made or written to.
    """
    if file is None:
        return
    if endings and file.suffix.lower() not in endings:
        raise PerceptError(
            f"{file} ends in {file.suffix or 'nothing'}, but what is written there is {' or '.join(endings)}; "
            f"give a name such as {file.stem or 'out'}{endings[0]}"
        )
    if os.path.isdir(file):
        raise PerceptError(f"{file} is a folder; give the name of a file to write")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise PerceptError(f"{file} cannot be written: {error.strerror or error}; give another place") from None


def say(message: str) -> None:
    """Print a line about the work, not a result, on standard error."""
    err.print(printable_lines(message), markup=False, style="dim")
