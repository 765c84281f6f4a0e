"""Readers of dense labels: ADE20k folders, image and mask pairs, NYU pairs, COCO and Karpathy json, DAVIS folders, and what the world writes.

`open_labels` recognises the layout and returns the labels by task. Nothing is decoded but headers until a sample is read.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.core.words import count
from percept.data.check.similar import look_of, near_looks
from percept.data.files import find_images, image_suffixes, in_order, natural_order
from percept.data.images import read_image
from percept.eval.coco_sets import read_coco
from percept.eval.davis_sets import read_davis
from percept.eval.label_files import VOID, are_metric, check_size, is_metric, largest_class, paired, read_numbers
from percept.eval.labelled import NEEDED, Labelled
from percept.eval.sets.item import Request
from percept.eval.sets.lists import karpathy, karpathy_content
from percept.eval.sets.shards import splits_of
from percept.eval.sets.stream import Pass
from percept.eval.sets.tables import rows_by_file
from percept.eval.world_labels import folder_labels

ADE_CLASSES = 150
"""Classes of ADE20k's scene parsing."""
MILLIMETRES = 1000.0
Found = dict[str, Labelled]


def open_labels(path: Path | str) -> Found:
    """Return the labels of a folder or file by task.

    Raises:
        PerceptError: there is no such path, no label is recognised, or labels do not match the images.
    """
    path = Path(path)
    if not path.exists():
        raise PerceptError(f"there is no file or folder {path}")
    found: Found = {}
    for reader in READERS:
        for task, labelled in reader(path).items():
            found.setdefault(task, labelled)
        if found and reader is not _rows:
            break
    if not found:
        raise PerceptError(f"{path} has no labels that are recognised. {_layouts()}")
    return found


def _layouts() -> str:
    return " ".join(NEEDED[task] for task in ("classes", "masks", "depth", "boxes", "tracks"))


def mask_classes(folder: Path) -> tuple[str, ...]:
    """Return the names in classes.txt, one per line from class 0; or in ADE20k's objectInfo150.txt; or none."""
    if (file := folder / "classes.txt").is_file():
        return tuple(line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    if (file := folder / "objectInfo150.txt").is_file():
        lines = file.read_text(encoding="utf-8-sig").splitlines()[1:]
        return tuple(line.split("\t")[-1].strip().split(",")[0] for line in lines if line.strip())
    return ()


def _masks(
    folder: Path, images: Sequence[Path], masks: Sequence[Path], *, given: Any = None, ade: bool = False
) -> Labelled:
    """Return masks whose pixel values are class numbers. In ADE20k, classes are numbered from 1, and 0 marks unlabelled pixels."""
    names = mask_classes(folder)
    if ade:
        names = names or tuple(f"class {number}" for number in range(1, ADE_CLASSES + 1))
    names = names or tuple(map(str, range(largest_class(masks) + 1)))

    def target(index: int) -> np.ndarray:
        stored = check_size(read_numbers(masks[index]), masks[index], images[index]).astype(np.int64)
        labels = stored - 1 if ade else np.where(stored == VOID, -1, stored)
        if labels.max() >= len(names):
            raise PerceptError(
                f"{masks[index]} has the class {int(labels.max()) + ade}, but names are known for {count(len(names), 'class', 'classes')} only. "
                f"Add the missing names to {folder / 'classes.txt'}, one per line."
            )
        return labels

    return Labelled(
        name=str(folder), task="masks", count=len(images), images=lambda index: [images[index]], target=target,
        classes=names, given=given,
    )  # fmt: skip


def _depths(
    folder: Path, images: Sequence[Path], depths: Sequence[Path], *, given: Any = None, units: float = MILLIMETRES, **extra: Any
) -> Labelled:  # fmt: skip
    """Return depth: 16-bit PNG in `units` per metre, 8-bit PNG from 0 to 1 without a unit, .npy in metres."""
    metric = are_metric(depths)

    def target(index: int) -> np.ndarray:
        values = check_size(read_numbers(depths[index]), depths[index], images[index])
        if is_metric(depths[index]) != metric:
            kinds = ("16-bit PNG or .npy", "8-bit PNG") if metric else ("8-bit PNG", "16-bit PNG or .npy")
            raise PerceptError(
                f"{depths[index]} is {kinds[1]}, but most depth is {kinds[0]}. Give all depth as 16-bit PNG in millimetres."
            )
        if depths[index].suffix == ".npy":
            return values.astype(np.float32)
        # 0 means no depth in 16 bits; in 8 bits it is the nearest value.
        return values / np.float32(units) if metric else np.maximum(values / np.float32(255), np.float32(1 / 510))

    return Labelled(
        name=str(folder), task="depth", count=len(images), images=lambda index: [images[index]], target=target,
        unit="m" if metric else "", given=given, **extra,
    )  # fmt: skip


def _images(folder: Path) -> list[Path]:
    return find_images(folder) if folder.is_dir() else []


def _parted(folder: Path, names: Sequence[str]) -> tuple[list[Path], tuple[range, range] | None]:
    """Return the images of subfolders for training and validation, or of the folder itself."""
    train, held = (_images(folder / name) for name in names)
    if not train or not held:
        return _images(folder), None
    return train + held, (range(len(train)), range(len(train), len(train) + len(held)))


def _ade(path: Path) -> Found:
    images, masks = path / "images", path / "annotations"
    if not (images.is_dir() and (masks / "training").is_dir()):
        return {}
    files, given = _parted(images, ("training", "validation"))
    return {"masks": _masks(path, files, paired(files, masks, (".png",), "mask", within=images), given=given, ade=True)}


def _pairs(path: Path) -> Found:
    """Read images/ with masks/ or depth/ beside it."""
    folder, found = path / "images", Found()
    labelled = {task: path / task for task in ("masks", "depth") if (path / task).is_dir()}
    if not folder.is_dir() or not labelled or (path / "metadata.jsonl").is_file():
        return {}
    files, given = _parted(folder, ("train", "val"))
    if "masks" in labelled:
        found["masks"] = _masks(
            path, files, paired(files, labelled["masks"], (".png",), "mask", within=folder), given=given
        )
    if "depth" in labelled:
        depths = paired(files, labelled["depth"], (".png", ".npy"), "depth", within=folder)
        found["depth"] = _depths(path, files, depths, given=given)
    return found


NYU = ((r"^rgb_(.+)\.(?:jpg|png)$", "sync_depth_{}.png"), (r"^(.+)_colors\.png$", "{}_depth.png"))
"""Names of images and of their depth in the two usual forms of NYUv2."""


def _nyu(path: Path) -> Found:
    """Read NYU's images and depth. The images of a folder are frames of one scene; where all are in one folder, scenes are not known."""
    if not path.is_dir():
        return {}
    for pattern, form in NYU:
        images, depths = [], []
        for file in sorted(path.rglob("*"), key=natural_order):
            if (name := re.match(pattern, file.name)) and (depth := file.with_name(form.format(name[1]))).is_file():
                images.append(file)
                depths.append(depth)
        if images:
            return {"depth": _depths(path, images, depths, group=_scenes(images))}
    return {}


def _scenes(images: Sequence[Path]) -> Callable[[Sequence[int]], list[Path]] | None:
    """Return a function that gives the folder of each image; None, with a notice, if all images are in one folder."""
    if len({file.parent for file in images}) > 1:
        return lambda numbers: [images[number].parent for number in numbers]
    notice(
        f"all {len(images):,} images are in {images[0].parent}, so their scenes are not known: frames of one scene may be both trained on and tested. "
        "Use a folder per scene."
    )
    return None


def _karpathy(path: Path) -> Found:
    """Read the first caption of every image of one split of a Karpathy json file: test, as `percept eval` does, where there is one."""
    if not path.is_file() or path.suffix.lower() != ".json" or (content := karpathy_content(path)) is None:
        return {}
    data = karpathy(path, content, Request(path=str(path)), advice="Put the file into the folder that holds them.")
    items = Pass(data=data, captioned=True).all_items()
    return {
        "captions": Labelled(
            name=f"{path} ({data.name})", task="captions", count=len(items), images=lambda index: [items[index].media],
            target=lambda index: items[index].captions[0],
        )
    }  # fmt: skip


def _rows(path: Path) -> Found:
    """Read classes and captions from class folders, tables, json lines or tar shards.

    Rows that name one image are joined: its first caption counts, and an image of two classes is left out.
    """
    from percept.data.sources.open import open_rows

    rows = open_rows(path)
    usable = {index: rows.read(index) for index in range(len(rows)) if not _is_video(rows, index)}
    samples = {index: sample for index, sample in usable.items() if sample.images}
    lines = path.is_dir() and bool(splits_of(path))
    labelled: list[tuple[Any, str]] = []
    captioned: list[tuple[Any, str]] = []
    several = 0
    for joined in rows_by_file(samples.items()).values():
        same = [samples[index] for index in joined]
        labels = {sample.label for sample in same if sample.label is not None}
        several += len(labels) > 1
        labelled += [(same[0].images[:1], label) for label in labels if len(labels) == 1]
        captioned += [
            (same[0].images[:1], text) for sample in same if (text := _caption(sample.captions, lines=lines))
        ][:1]
    if several:
        notice(f"{several:,} images of {path} are left out: their rows name different classes.")
    names = tuple(sorted({label for _, label in labelled}))
    found: Found = {}
    if len(names) > 1:
        numbers = {name: number for number, name in enumerate(names)}
        found["classes"] = _labelled(
            path, "classes", [(image, numbers[label]) for image, label in labelled], classes=names
        )
    elif names and not captioned:
        raise PerceptError(
            f"{path} has {count(len(labelled), 'sample')} of the single class {names[0]!r}. Give at least two classes. {_layouts()}"
        )
    if captioned:
        found["captions"] = _labelled(path, "captions", captioned)
    return found


def _labelled(path: Path, task: str, samples: Sequence[tuple[Any, Any]], **extra: Any) -> Labelled:
    return Labelled(
        name=str(path), task=task, count=len(samples), images=lambda index: samples[index][0],
        target=lambda index: samples[index][1], group=lambda numbers: same_looks([samples[number][0][0] for number in numbers]),
        **extra,
    )  # fmt: skip


def same_looks(images: Sequence[Any]) -> list[int]:
    """Return the group number of each image. Images of one group look nearly the same by `near_looks`, a hash that uses no model.

    Args:
        images: paths or bytes. One that cannot be read stands alone.
    """

    def look(image: Any) -> int:
        try:
            return look_of(read_image(image, at_least=32)) or 0
        except PerceptError:
            return 0

    return near_looks(np.array(list(in_order(look, images)), dtype=np.uint64)).tolist()


def _is_video(rows: Any, index: int) -> bool:
    return Path(rows.key(index)).suffix.lower() not in image_suffixes() and rows.read(index).video is not None


def _caption(captions: Mapping[str, Sequence[str]], *, lines: bool) -> str:
    """Return the first caption of a row; the name of its class is not one. In CLIP-benchmark's shards, each line is a caption."""
    texts = [text.strip() for name, values in captions.items() if name != "label" for text in values if text.strip()]
    return (texts[0].splitlines()[0] if lines else texts[0]) if texts else ""


READERS: tuple[Callable[[Path], Found], ...] = (
    read_davis,
    folder_labels,
    _ade,
    _karpathy,
    read_coco,
    _pairs,
    _nyu,
    _rows,
)
"""In the order in which they are tried; the first that recognises anything is taken."""
