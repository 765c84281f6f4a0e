"""Readers of COCO's json files (Lin et al. 2014, arXiv:1405.0312): boxes and captions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from percept.core.errors import PerceptError
from percept.core.io import read_json
from percept.data.images import upright_size
from percept.eval.labelled import Labelled
from percept.eval.probes.boxes import Truth


def read_coco(path: Path) -> dict[str, Labelled]:
    """Read instances_*.json, and captions_*.json of the same images."""
    if path.suffix == ".json":
        files = [path] if "annotations" in (read_json(path) if path.is_file() else {}) else []
    else:
        files = sorted((path / "annotations").glob("instances_*.json"), key=lambda file: "val" in file.name)
    boxes = [_boxes(file) for file in files]
    found: dict[str, Labelled] = {}
    if boxes:
        found["boxes"] = boxes[0] if len(boxes) == 1 else _joined(boxes[0], boxes[1])
    captions = [] if path.suffix == ".json" else sorted((path / "annotations").glob("captions_*.json"))
    if captions:
        found["captions"] = _captions(captions[-1])
    return found


def _coco_images(file: Path, images: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Return the path of each image: next to the json, in a folder named after its split, or in images/.

    Raises:
        PerceptError: images that are in none of these.
    """
    root, split = file.parent.parent if file.parent.name == "annotations" else file.parent, file.stem.split("_")[-1]
    folders = [
        folder
        for folder in (root / split, root / "images" / split, root / "images", root, file.parent)
        if folder.is_dir()
    ]
    paths, missing = [], []
    for image in images:
        places = [folder / image["file_name"] for folder in folders]
        path = next((place for place in places if place.is_file()), None)
        paths += [path] if path else []
        missing += [] if path else [str(image["file_name"])]
    if missing:
        looked = ", ".join(map(str, folders))
        raise PerceptError(
            f"{len(missing)} of {len(images)} images of {file} are missing, such as {missing[0]}. Looked in {looked}."
        )
    return paths


def _listed(file: Path, *names: str) -> list[list[dict[str, Any]]]:
    data = read_json(file)
    missing = [name for name in names if not isinstance(data.get(name) if isinstance(data, dict) else None, list)]
    if missing:
        raise PerceptError(f"{file} lacks the list {missing[0]!r}. Give a json file in the format of COCO.")
    return [data[name] for name in names]


def _boxes(file: Path) -> Labelled:
    images, annotations, categories = _listed(file, "images", "annotations", "categories")
    paths = _coco_images(file, images)
    order = sorted(categories, key=lambda category: category["id"])
    label_of = {category["id"]: number for number, category in enumerate(order)}
    by_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    for row in annotations:
        if row.get("image_id") not in by_image:
            raise PerceptError(
                f"{file}: annotation {row.get('id')} is of image {row.get('image_id')}, which is not listed. Add it to images."
            )
        if row.get("category_id") not in label_of:
            raise PerceptError(
                f"{file}: annotation {row.get('id')} has the category {row.get('category_id')}, which is not listed. Add it to categories."
            )
        if "bbox" in row:
            by_image[row["image_id"]].append(row)

    def target(index: int) -> Truth:
        width, height = upright_size(paths[index])
        rows = [row for row in by_image[images[index]["id"]] if min(row["bbox"][2:]) > 0]
        sizes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
        corners = np.concatenate([sizes[:, :2], sizes[:, :2] + sizes[:, 2:]], axis=1)
        if len(corners) and (corners > np.array([width, height, width, height]) + 1).any():
            raise PerceptError(
                f"{file}: a box of {paths[index].name} ends beyond the image of {width} × {height} pixels. Boxes are x, y, width, height in pixels."
            )
        return Truth(
            boxes=corners / [width, height, width, height], labels=np.array([label_of[row["category_id"]] for row in rows], np.int64),
            crowd=np.array([bool(row.get("iscrowd")) for row in rows], bool),
        )  # fmt: skip

    return Labelled(
        name=str(file), task="boxes", count=len(paths), images=lambda index: [paths[index]], target=target,
        classes=tuple(str(category.get("name", category["id"])) for category in order),
    )  # fmt: skip


def _joined(train: Labelled, held: Labelled) -> Labelled:
    """Return the samples of a training set and of a set to hold out.

    Raises:
        PerceptError: their classes differ.
    """
    if train.classes != held.classes:
        raise PerceptError(
            f"{train.name} has {len(train.classes)} categories, but {held.name} has {len(held.classes)}. Give both the same categories."
        )
    first = len(train)
    pick = lambda index, one, other: one(index) if index < first else other(index - first)  # noqa: E731
    return Labelled(
        name=train.name, task=train.task, count=first + len(held), classes=train.classes, unit=train.unit,
        images=lambda index: pick(index, train.images, held.images),
        target=lambda index: pick(index, train.target, held.target),
        given=(range(first), range(first, first + len(held))),
    )  # fmt: skip


def _captions(file: Path) -> Labelled:
    images, annotations = _listed(file, "images", "annotations")
    texts: dict[Any, str] = {}
    for row in annotations:
        texts.setdefault(row.get("image_id"), str(row.get("caption", "")).strip())
    images = [image for image in images if texts.get(image["id"])]
    paths = _coco_images(file, images)
    return Labelled(
        name=str(file), task="captions", count=len(paths), images=lambda index: [paths[index]],
        target=lambda index: texts[images[index]["id"]],
    )  # fmt: skip
