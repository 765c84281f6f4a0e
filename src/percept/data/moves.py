"""Files that are copied, linked or moved, never over another file, with a list from which it can be undone."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from percept.core.errors import PerceptError, unknown_name
from percept.data.files import BadFile

How: TypeAlias = Literal["copy", "link", "move"]
LONGEST = 150
"""Letters of a folder's name that is made from a label."""


@dataclass(frozen=True, kw_only=True)
class Move:
    """One file to copy, link or move."""

    source: Path
    target: Path
    how: How


def check_how(how: str) -> How:
    """Return a way to place files.

    Raises:
        PerceptError: unknown name.
    """
    if how not in get_args(How):
        raise unknown_name("way to place files", how, get_args(How))
    return how  # type: ignore[return-value]


def folder_name(label: str) -> str:
    """Return a label as the name of a folder that every system takes.

    >>> folder_name("red/blue: cup?"), folder_name(".."), folder_name("a cat")
    ('red_blue_ cup_', '_', 'a cat')
    """
    letters = "".join("_" if letter in '/\\:*?"<>|' or not letter.isprintable() else letter for letter in label)
    return letters[:LONGEST].strip(" .") or "_"


def planned(files: Iterable[tuple[Path, Path]], how: How) -> list[Move]:
    """Return what will be done: files into folders, with a number behind names that are taken there.

    Args:
        files: (file, folder it goes to).
        how: copy, link or move.
    """
    taken: set[str] = set()
    moves = []
    for source, folder in files:
        if os.path.realpath(source.parent) == os.path.realpath(folder):
            continue  # it is there already
        if _is_there(source, folder / source.name, how):
            continue  # from an earlier run
        target = _free(folder / source.name, taken)
        taken.add(str(target).casefold())  # file systems that ignore case would take two names for one
        moves.append(Move(source=Path(os.path.abspath(source)), target=Path(os.path.abspath(target)), how=how))
    return moves


def _is_there(source: Path, target: Path, how: How) -> bool:
    """True if an earlier run has made this copy or link."""
    if how == "link":
        return os.path.islink(target) and os.readlink(target) == os.path.abspath(source)
    return how == "copy" and _is_copy(Move(source=source, target=target, how=how))


def _free(target: Path, taken: set[str]) -> Path:
    number, name = 1, target
    while os.path.lexists(name) or str(name).casefold() in taken:
        number += 1
        name = target.with_name(f"{target.stem}-{number}{target.suffix}")
    return name


def summary(moves: Sequence[Move]) -> list[tuple[str, int]]:
    """Return the folders that files go to, with their numbers."""
    return Counter(str(move.target.parent) for move in moves).most_common()


def carry_out(moves: Sequence[Move], undo: Path) -> Iterator[Move | BadFile]:
    """Do what was planned, and yield each move that was done; one that fails yields its reason and the others go on.

    Every move is written to the list before it is done, so the list is complete even if the process is killed.

    Args:
        moves: what `planned` returned.
        undo: list that `undone` takes; it must not exist.

    Raises:
        PerceptError: the list exists, or cannot be written.
    """
    try:
        undo.parent.mkdir(parents=True, exist_ok=True)
        file = undo.open("x", encoding="utf-8")
    except FileExistsError:
        raise PerceptError(f"{undo} exists, and is not overwritten. Give a new name, or undo it first.") from None
    except OSError as error:
        raise PerceptError(f"the list {undo} cannot be written: {error.strerror}. Nothing was moved.") from None
    with file:
        for move in moves:
            line = {"how": move.how, "from": str(move.source), "to": str(move.target)}
            file.write(json.dumps(line) + "\n")
            file.flush()
            try:
                move.target.parent.mkdir(parents=True, exist_ok=True)
                _place(move)
            except OSError as error:
                yield BadFile(move.source, f"could not be {PAST[move.how]}: {error.strerror or error}")
            else:
                yield move


PAST = {"copy": "copied", "link": "linked", "move": "moved"}


def _place(move: Move) -> None:
    """Copy, link or move one file; raises FileExistsError where the name is taken by now."""
    if move.how == "link":
        os.symlink(move.source, move.target)
    elif move.how == "copy":
        _copy(move.source, move.target)
    else:
        _move(move.source, move.target)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("xb") as write:
        try:
            shutil.copyfileobj(read, write, 1 << 20)
        except OSError:
            target.unlink(missing_ok=True)
            raise
    shutil.copystat(source, target)


def _move(source: Path, target: Path) -> None:
    """Move a file without overwriting: a second name, then the first is removed; a copy to a different file system."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a different file system, or one without hard links
        _copy(source, target)
    source.unlink()


@dataclass(frozen=True, kw_only=True)
class Undone:
    """What came of undoing a list."""

    done: list[Move]
    kept: list[BadFile]
    """What was left as it is, with reasons."""


def undone(file: Path) -> Undone:
    """Undo what a list says, the last first: moved files go back, copies and links are removed if they are unchanged.

    Raises:
        PerceptError: the list cannot be read.
    """
    result = Undone(done=[], kept=[])
    for move in reversed(_listed(file)):
        try:
            reason = _undo(move)
        except OSError as error:
            reason = f"{error.strerror or error}"
        if reason is None:
            result.done.append(move)
        elif reason:
            result.kept.append(BadFile(move.target, reason))
    return result


def _listed(file: Path) -> list[Move]:
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [Move(source=Path(row["from"]), target=Path(row["to"]), how=check_how(row["how"])) for row in lines]
    except OSError as error:
        raise PerceptError(
            f"the list {file} cannot be read: {error.strerror}. Give the list that was written."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise PerceptError(
            f"{file} is not a list of moves. Give the list that percept classify or dupes wrote."
        ) from None


def _undo(move: Move) -> str | None:
    """Undo one move; return None, a reason why it was left as it is, or an empty text if it was never done."""
    if not os.path.lexists(move.target):
        return "" if os.path.lexists(move.source) else "is gone, and so is the file it came from"
    if move.how == "move":
        if os.path.lexists(move.source):
            same = os.path.samefile(move.source, move.target)
            if not same:
                return f"stays: there is a different file {move.source} now"
            move.target.unlink()  # killed between the second name and the removal of the first
        else:
            move.source.parent.mkdir(parents=True, exist_ok=True)
            _move(move.target, move.source)
    elif move.how == "link":
        if not os.path.islink(move.target) or os.readlink(move.target) != str(move.source):
            return "stays: it is not the link that was made"
        move.target.unlink()
    else:
        if not _is_copy(move):
            return "stays: it is not the copy that was made, or the original is gone"
        move.target.unlink()
    with suppress(OSError):  # only if it is empty
        move.target.parent.rmdir()
    return None


def _is_copy(move: Move) -> bool:
    if not os.path.isfile(move.source) or not os.path.isfile(move.target) or os.path.islink(move.target):
        return False
    first, second = os.stat(move.source), os.stat(move.target)
    return first.st_size == second.st_size and int(first.st_mtime) == int(second.st_mtime)
