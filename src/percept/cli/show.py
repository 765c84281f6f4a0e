"""Shared by several verbs: reading labels, checking and writing outputs, listing bad files."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from percept.core.errors import PerceptError
from percept.core.report import err, notice, printable, printable_lines, table
from percept.core.words import count

if TYPE_CHECKING:
    from percept.data.files import BadFile

SHOWN_BAD = 20
"""Bad files listed by name; the others are counted."""
LABEL_BYTES = 16 << 20
"""Largest list of labels that is read: 16 MiB."""
HOW = "give cat,dog or @FILE with one label per line (@- reads standard input)"


def split_labels(text: str) -> list[str]:
    """Return the labels of `cat,dog`, or of `@labels.txt` with one label per line; a pipe such as <(...) counts as a file.

    Raises:
        PerceptError: the file is missing or cannot be read, or there is no label.
    """
    parts = _read_labels(text[1:]) if text.startswith("@") else text.split(",")
    labels = [part.strip() for part in parts if part.strip()]
    if not labels:
        raise PerceptError(f"no labels in {text!r}; {HOW}")
    return labels


def _read_labels(file: str) -> list[str]:
    if not file.strip():
        raise PerceptError(f"no file is named after the @; {HOW}")
    if os.path.isdir(file):
        raise PerceptError(f"{file} is a folder; {HOW}")
    try:
        with open(0 if file == "-" else file, "rb", closefd=file != "-") as stream:
            data = stream.read(LABEL_BYTES + 1)
        if len(data) > LABEL_BYTES:
            raise PerceptError(f"{file} is larger than {LABEL_BYTES >> 20} MiB. Give a shorter list of labels.")
        return data.decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise PerceptError(f"there is no file {file} with labels; {HOW}") from None
    except UnicodeDecodeError as error:
        raise PerceptError(f"{file} is not a list of labels in UTF-8: {error}. {HOW[0].upper()}{HOW[1:]}.") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise PerceptError(f"{file} cannot be read: {_reason(error)}. {HOW[0].upper()}{HOW[1:]}.") from None


def bad_files(bad: Sequence["BadFile"], *, on_stderr: bool = False) -> None:
    """Print the files that could not be used, with reasons and their count; with `on_stderr` on standard error."""
    if not bad:
        return
    if on_stderr:
        for file in bad[:SHOWN_BAD]:
            notice(f"left out: {printable(file.path)}: {printable(file.reason)}")
        notice(f"{count(len(bad), 'file')} left out")
        return
    rows: list[tuple[object, object]] = [(file.path, file.reason) for file in bad[:SHOWN_BAD]]
    if len(bad) > SHOWN_BAD:
        rows.append(("...", f"and {len(bad) - SHOWN_BAD} more"))
    table(f"{count(len(bad), 'file')} left out", ("file", "reason"), rows)


def count_files(paths: Sequence[Path]) -> str:
    """Return the numbers of images and videos.

    >>> count_files([Path("a.jpg"), Path("b.mp4"), Path("c.png")])
    '2 images and 1 video'
    """
    from percept.data.files import is_video

    videos = sum(map(is_video, paths))
    return count_kinds(len(paths) - videos, videos)


def count_kinds(images: int, videos: int) -> str:
    """Return the numbers of images and videos in words.

    >>> count_kinds(0, 2), count_kinds(0, 0)
    ('2 videos', '0 images')
    """
    kinds = [(images, "image"), (videos, "video")]
    return " and ".join(count(number, kind) for number, kind in kinds if number) or count(0, "image")


def common_folder(paths: Sequence[Path]) -> Path:
    """Return the deepest folder that holds all files.

    >>> str(common_folder([Path("a/b/c.png"), Path("a/d.png")]))
    'a'
    """
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:  # some absolute, some relative, or none
        return Path()


def within(path: Path, folder: Path) -> str:
    """Return the path relative to a folder if it is inside, else unchanged."""
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def check_output(file: Path | None, *endings: str) -> None:
    """Check that a file can be written before any work is done for it; its folder is made.

    Args:
        file: the file that will be written; None is ignored.
        endings: allowed endings, with the dot, in either case; any if none is given.

    Raises:
        PerceptError: the ending is not allowed, the file is a folder, or its folder cannot be made or written to.
    """
    if file is None:
        return
    if endings and file.suffix.lower() not in endings:
        raise PerceptError(
            f"{file} ends in {file.suffix or 'nothing'}, but the format written is {' or '.join(endings)}. "
            f"Give a name such as {file.stem or 'out'}{endings[0]}."
        )
    if os.path.isdir(file):
        raise PerceptError(f"{file} is a folder. Give the name of a file to write.")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=file.parent):
            pass


def check_apart(written: Iterable[Path | None], read: Iterable[Path]) -> None:
    """Check before any work that no file or folder that will be written is one that is read.

    Raises:
        PerceptError: one is, and would be lost.
    """
    places = {os.path.realpath(place): place for place in written if place is not None and place.exists()}
    for file in read if places else ():
        if (place := places.get(os.path.realpath(file))) is not None:
            raise PerceptError(f"{place} is read, and would be overwritten. Give the output a different name.")


def size_text(number: int) -> str:
    """Return a number of bytes with its unit.

    >>> size_text(0), size_text(49_800), size_text(1_234_567_890)
    ('0 kB', '50 kB', '1,234.6 MB')
    """
    return f"{number / 1e6:,.1f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Turn an error of the system or of a file format's library into a PerceptError that names the file being written."""
    try:
        yield
    except PerceptError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not _is_writing_error(error):
            raise
        raise PerceptError(
            f"{file} cannot be written: {_reason(error)}. Make room, or write to a different place."
        ) from None


def _is_writing_error(error: Exception) -> bool:
    """True for what libraries raise in place of OSError when a write fails."""
    from safetensors import SafetensorError

    return isinstance(error, SafetensorError) or "PytorchStreamWriter" in str(error)


def _reason(error: Exception) -> str:
    """Return the system's reason: of an OSError, or of a library that quotes the error number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    number = re.search(r"(?:os error|\[errno) (\d+)", str(error), re.IGNORECASE)
    return os.strerror(int(number[1])) if number else str(error)


def say(message: str) -> None:
    """Print a line about the work, not a result, on standard error."""
    err.print(printable_lines(message), markup=False, style="dim")
