"""Reader of DAVIS folders: frames, and the number of the object at each pixel."""

from pathlib import Path

import numpy as np

from percept.core.errors import PerceptError
from percept.eval.label_files import VOID, check_size, read_numbers
from percept.eval.labelled import Labelled


def read_davis(path: Path) -> dict[str, Labelled]:
    """Read the tracks of the listed sequences; none if the folder is not a DAVIS folder.

    Raises:
        PerceptError: a listed sequence has no frames.
    """
    frames, masks = path / "JPEGImages", path / "Annotations"
    if not frames.is_dir() or not masks.is_dir():
        return {}
    size = next((name for name in ("480p", "Full-Resolution") if (frames / name).is_dir()), ".")
    names = _sequences(path, frames / size)

    def files(index: int) -> list[Path]:
        return sorted((frames / size / names[index]).glob("*.jpg"))

    def target(index: int) -> np.ndarray:
        pairs = [(masks / size / names[index] / f"{frame.stem}.png", frame) for frame in files(index)]
        if missing := [mask for mask, _ in pairs if not mask.is_file()]:
            raise PerceptError(
                f"{len(missing)} of {len(pairs)} frames of {names[index]} have no mask, such as {missing[0]}. Give one per frame."
            )
        labels = [check_size(read_numbers(mask), mask, frame) for mask, frame in pairs]
        return np.stack([np.where(label == VOID, 0, label) for label in labels])

    return {"tracks": Labelled(name=str(path), task="tracks", count=len(names), images=files, target=target)}


def _sequences(path: Path, frames: Path) -> list[str]:
    """Return the names in ImageSets/2017/val.txt or another list there; without lists, those of all folders with frames."""
    lists = sorted((path / "ImageSets").glob("*/*.txt"), key=lambda file: (file.stem != "val", file.stem))
    names = (
        lists[0].read_text(encoding="utf-8").split()
        if lists
        else sorted(each.name for each in frames.iterdir() if each.is_dir())
    )
    if missing := [name for name in names if not (frames / name).is_dir()]:
        raise PerceptError(
            f"{len(missing)} of {len(names)} sequences in {lists[0]} have no frames, such as {frames / missing[0]}. Add them, or take them off the list."
        )
    return names
