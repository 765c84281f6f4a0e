"""Folders that appear whole or not at all, lines appended to their files, and json files made of many lines."""

import glob
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.core.leftovers import remove_leftovers
from percept.world.write.job import Lines


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; its content moves to `folder` if the block succeeds and is deleted otherwise.

    An existing empty folder is filled and not replaced: it may be a working directory or a mount point. What a killed process
    left is removed.

    Raises:
        PerceptError: the folder is not empty, at the beginning or at the end.
    """
    if folder.is_dir():
        remove_leftovers(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        kind = "is not empty" if folder.is_dir() else "is a file"
        raise PerceptError(f"{folder} {kind}. Give a new or empty folder.")
    target = Path(os.path.realpath(folder))  # resolves "." and links
    inside = target.is_dir()
    temporary = target / f".{os.getpid()}.part" if inside else target.with_name(f".{target.name}.{os.getpid()}.part")
    remove_leftovers(target.parent, f"{glob.escape(target.name)}.*")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if os.listdir(target) != [temporary.name] if inside else os.path.lexists(target):
            raise PerceptError(f"another process wrote into {folder}. Give a different folder.")
        if inside:
            for part in sorted(temporary.iterdir()):
                os.replace(part, target / part.name)
        else:
            os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def append(folder: Path, lines: Lines) -> None:
    """Append lines to files of a folder."""
    for name, texts in lines.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("a", encoding="utf-8", newline="") as file:
            file.writelines(texts)


def taken_lines(file: Path) -> Iterator[str]:
    """Yield the lines of a file and delete it; none if it does not exist."""
    if not file.exists():
        return
    with file.open(encoding="utf-8", newline="") as opened:
        yield from opened
    file.unlink()


def write_object(file: Path, head: Mapping[str, Any], lists: Mapping[str, Iterator[str]]) -> None:
    """Write a json object: the fields of `head`, and lists of elements that are json already, which may exceed the memory."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as out:
        out.write(json.dumps(head)[:-1])
        for number, (name, elements) in enumerate(lists.items()):
            out.write(f'{", " if head or number else ""}"{name}": [')
            for place, element in enumerate(elements):
                out.write(("" if not place else ",") + "\n" + element.rstrip("\n"))
            out.write("\n]")
        out.write("}\n")
