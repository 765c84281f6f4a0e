"""What percept keeps on this machine: models of the hub, generated images, indexes of data, compiled code; sizes, and removal."""

import getpass
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.world.cache import cache_home

OWN = ("world", "sources", "corpora")
"""Folders that percept makes in $PERCEPT_CACHE, or in the user's cache folder."""
PARTED = ("world", "corpora")
"""Folders of which every folder inside is an entry of its own."""
WHAT = {
    "world": "generated images", "sources": "lists of files and rows of data", "corpora": "fetched collections",
    "hub": "models from the hub", "compiled": "code compiled by torch",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that is kept."""

    name: str
    what: str
    path: Path
    bytes: int
    used: float
    """Seconds since 1970 at which it was last written or, for models, read."""
    remove: Callable[[], None] = field(repr=False, compare=False)


def entries() -> list[Entry]:
    """Return everything that is kept, the largest of each kind first."""
    found = [*_hub(), *_own(), *_compiled()]
    kinds = list(dict.fromkeys(entry.what for entry in found))
    return sorted(found, key=lambda entry: (kinds.index(entry.what), -entry.bytes))


def chosen(kept: Sequence[Entry], patterns: Sequence[str]) -> list[Entry]:
    """Return the entries whose names match; * stands for any letters.

    Raises:
        PerceptError: a pattern that matches nothing.
    """
    found: dict[str, Entry] = {}
    for pattern in patterns:
        matched = [entry for entry in kept if fnmatchcase(entry.name, pattern)]
        if not matched:
            names = ", ".join(entry.name for entry in kept[:20]) or "nothing"
            raise PerceptError(f"nothing that is kept is called {pattern}. There is {names}; * stands for any letters.")
        found |= {entry.name: entry for entry in matched}
    return list(found.values())


def _hub() -> Iterator[Entry]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        info = scan_cache_dir()
    except CacheNotFound:
        return
    for repository in info.repos:
        kind = "" if repository.repo_type == "model" else f"{repository.repo_type}s/"
        revisions = [revision.commit_hash for revision in repository.revisions]
        yield Entry(
            name=f"hub/{kind}{repository.repo_id}", what=WHAT["hub"], path=repository.repo_path, bytes=repository.size_on_disk,
            used=repository.last_accessed, remove=lambda info=info, hashes=revisions, path=repository.repo_path: _delete(info, hashes, path),
        )  # fmt: skip


def _delete(info: Any, hashes: Sequence[str], path: Path) -> None:
    info.delete_revisions(*hashes).execute()
    if path.is_dir():  # an interrupted download has no revision
        shutil.rmtree(path)


def _own() -> Iterator[Entry]:
    home = cache_home().parent  # may hold other things too: only folders that percept makes are listed
    for kind in OWN:
        if kind in PARTED:
            yield from (_folder(f"{kind}/{inside.name}", kind, inside) for inside in _folders(home / kind))
        elif (home / kind).is_dir():
            yield _folder(kind, kind, home / kind)


def _compiled() -> Iterator[Entry]:
    named = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    try:
        own = f"torchinductor_{getpass.getuser()}"
    except (KeyError, OSError):  # a user without a name
        own = ""
    folder = Path(named) if named else Path(tempfile.gettempdir()) / own
    if (named or own) and folder.is_dir():
        yield _folder("compiled", "compiled", folder)


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(each for each in path.iterdir() if each.is_dir() and not each.is_symlink())


def _folder(name: str, kind: str, path: Path) -> Entry:
    size, used = 0, path.stat().st_mtime
    for folder, _, files in os.walk(path):
        for file in files:
            try:
                status = os.lstat(os.path.join(folder, file))
            except OSError:  # removed meanwhile
                continue
            size, used = size + status.st_size, max(used, status.st_mtime)
    return Entry(name=name, what=WHAT[kind], path=path, bytes=size, used=used, remove=lambda: shutil.rmtree(path))
