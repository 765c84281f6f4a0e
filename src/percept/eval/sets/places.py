"""Where the images and videos of a file are, and which split of a set is measured."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from percept.core.errors import PerceptError
from percept.core.words import count
from percept.data.files import VIDEO_SUFFIXES, image_suffixes
from percept.data.sources.sample import BadSample

SPLITS = ("test", "val", "validation", "dev", "train")
"""Names of splits; where none is asked for, the first that a set has is measured."""
MEDIA = "Give the folder that holds them with --media."


class Locator:
    """Finds files by the names that a table gives: below its folder; a name without a folder, anywhere in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, list[Path]] | None = None

    def __call__(self, *names: str) -> Path:
        """Return the first of the names that exists; an ending may be missing in a name without a folder.

        Raises:
            BadSample: there is no such file, or several files of the folder have the name.
        """
        for name in names:
            if os.path.isfile(path := self.folder / name):
                return path
        for name in (each for each in names if Path(each).name == os.path.normpath(each)):
            if (files := self._index.get(Path(name).name, ())) and len(files) == 1:
                return files[0]
            if files:
                raise BadSample("several files have this name", name, f"{files[0]} and {files[1]}")
        raise BadSample(f"there is no file {self.folder / names[0]}", names[0])

    @property
    def _index(self) -> dict[str, list[Path]]:
        """Images and videos of the folder by name and by name without ending; listed once, when first needed."""
        if self._known is None:
            known, media = dict[str, list[Path]](), image_suffixes() | VIDEO_SUFFIXES
            for folder, inside, names in os.walk(self.folder):
                inside.sort()
                for path in (Path(folder, name) for name in sorted(names) if Path(name).suffix.lower() in media):
                    for name in {path.name, path.stem}:
                        known.setdefault(name, []).append(path)
            self._known = known
        return self._known


def check_files(path: Path | str, thing: str, find: Callable[[int], object], total: int, advice: str = MEDIA) -> None:
    """Check that not more than half of the samples that a file lists are incomplete, or without their file.

    Args:
        path: the file that lists them.
        thing: what messages call one of them.
        find: raises BadSample for the number of a sample that cannot be used.
        total: number of samples.
        advice: what to do about it.

    Raises:
        PerceptError: more than half of them are.
    """
    bad: list[BadSample] = []
    for number in range(total):
        try:
            find(number)
        except BadSample as error:
            bad.append(error)
    if bad:
        check_half(path, thing, len(bad), total, f"{bad[0].key}: {words_of(bad[0])}", advice)


def check_half(path: Path | str, thing: str, bad: int, total: int, example: str, advice: str, *, read: int = 0) -> None:
    """Check that not more than half of the samples of a set are bad; fewer are reported and left out.

    Args:
        path: the set.
        thing: what messages call one of the samples.
        bad: samples that cannot be used.
        total: samples of the set.
        example: the first bad sample, with the reason why it cannot be used.
        advice: what to do about it.
        read: samples read so far, if not all of them.

    Raises:
        PerceptError: more than half are bad.
    """
    if 2 * bad > total:
        at_least = "at least " if 0 < read < total else ""
        raise PerceptError(
            f"{at_least}{bad:,} of {count(total, thing)} of {path} cannot be used, such as {example.rstrip('.')}. {advice}"
        )


def words_of(error: BadSample) -> str:
    """Return the reason why a sample cannot be used, without the key of the sample."""
    return f"{error.reason} ({error.detail})" if error.detail else error.reason


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
