"""Where the images and videos of a file are, and which split of a set is measured."""

import os
from collections.abc import Iterable
from pathlib import Path

from percept.core.errors import PerceptError
from percept.data.files import VIDEO_SUFFIXES, image_suffixes

SPLITS = ("test", "val", "validation", "dev", "train")
"""Names of splits; where none is asked for, the first that a set has is measured."""


class Locator:
    """Finds files by the names that a table gives: below its folder, else by file name anywhere in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, Path] | None = None

    def __call__(self, *names: str) -> Path | None:
        """Return the first of the names that exists; an ending may be missing. None if there is no such file."""
        for name in names:
            if os.path.isfile(path := self.folder / name):
                return path
        return next((self._index[each] for name in names if (each := Path(name).name) in self._index), None)

    @property
    def _index(self) -> dict[str, Path]:
        """Images and videos of the folder by name and by name without ending; listed once, when first needed."""
        if self._known is None:
            self._known, media = {}, image_suffixes() | VIDEO_SUFFIXES
            for folder, inside, names in os.walk(self.folder):
                inside.sort()
                for path in (Path(folder, name) for name in sorted(names) if Path(name).suffix.lower() in media):
                    self._known.setdefault(path.name, path)
                    self._known.setdefault(path.stem, path)
        return self._known


def absent(path: Path | str, folder: Path, missing: int, of: int, example: str, things: str) -> PerceptError:
    """Return the error for a file of which no image or video was found."""
    return PerceptError(
        f"{path} names {of:,} {things}, but {'none' if missing == of else f'{missing:,} of them are not'} in {folder}, such as "
        f"{example}. Give the folder that holds them with --media."
    )


def check_no_split(path: Path | str, wanted: str | None) -> None:
    """Check that no split is wanted of a set that has none.

    Raises:
        PerceptError: one is.
    """
    if wanted is not None:
        raise PerceptError(f"{path} has no splits, so --subset {wanted} has no effect. Leave it out.")


def chosen_split(path: Path | str, found: Iterable[str], wanted: str | None) -> str:
    """Return the split to measure: the one that is wanted, else test, else val, else the only one.

    Raises:
        PerceptError: the set does not have the split that is wanted, or several unusual ones.
    """
    present = list(dict.fromkeys(found))
    if wanted is not None:
        if wanted not in present:
            raise PerceptError(f"{path} has no split {wanted!r}. Give --subset {' or '.join(present)}.")
        return wanted
    usual = [name for name in SPLITS if name in present]
    if not usual and len(present) != 1:
        raise PerceptError(f"{path} has the splits {', '.join(present)}. Choose one with --subset.")
    return (usual or present)[0]
