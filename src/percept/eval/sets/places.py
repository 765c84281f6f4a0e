"""Where the images and videos of a file are, and which split of a set is measured."""

import os
from collections.abc import Iterable
from pathlib import Path

from percept.core.errors import PerceptError
from percept.data.files import VIDEO_SUFFIXES, image_suffixes

SPLITS = ("test", "val", "validation", "dev", "train")
"""Names of splits; where none is asked for, the first that a set has is measured."""
MEDIA = "Give the folder that holds them with --media."


class Locator:
    """Finds files by the names that a table gives: below its folder, else by file name anywhere in it.

    A name whose folder is there, such as `val/1.jpg` beside other files of `val`, is not looked for elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, list[Path]] | None = None

    def __call__(self, *names: str) -> Path | None:
        """Return the first of the names that exists; an ending may be missing. None if there is no such file.

        Raises:
            PerceptError: several files of the folder have the name.
        """
        for name in names:
            if os.path.isfile(path := self.folder / name):
                return path
        return next((self._only(each) for name in names if (each := self._elsewhere(name)) in self._index), None)

    def _elsewhere(self, name: str) -> str:
        """Return the file name that is looked for in all folders; none if the folder of the name is there."""
        parent = (self.folder / name).parent
        return "" if parent.absolute() != self.folder.absolute() and parent.is_dir() else Path(name).name

    def _only(self, name: str) -> Path:
        files = self._index[name]
        if len(files) > 1:
            raise PerceptError(
                f"{name} could be {files[0]} or {files[1]}. Give the folder of the right one with --media, or its path in the table."
            )
        return files[0]

    @property
    def _index(self) -> dict[str, list[Path]]:
        """Images and videos of the folder by name and by name without ending; listed once, when first needed."""
        if self._known is None:
            self._known, media = {}, image_suffixes() | VIDEO_SUFFIXES
            for folder, inside, names in os.walk(self.folder):
                inside.sort()
                for path in (Path(folder, name) for name in sorted(names) if Path(name).suffix.lower() in media):
                    for name in {path.name, path.stem}:
                        self._known.setdefault(name, []).append(path)
        return self._known


def absent(
    path: Path | str, folder: Path, missing: int, of: int, example: str, things: str, advice: str = MEDIA
) -> PerceptError:
    """Return the error for a file of which no image or video was found."""
    return PerceptError(
        f"{path} names {of:,} {things}, but {'none' if missing == of else f'{missing:,} of them are not'} in {folder}, such as "
        f"{example}. {advice}"
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
