"""Labels of the generated world: drawn when needed, or read from the folders that `percept world` writes."""

import json
import random
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from percept.core.errors import unknown_name
from percept.core.io import read_json
from percept.core.seed import derive
from percept.eval.label_files import read_numbers
from percept.eval.labelled import Labelled
from percept.eval.probes.boxes import Truth
from percept.world.language import short_caption
from percept.world.objects import CATEGORIES
from percept.world.render import Rendering, render
from percept.world.scene import sample_scene
from percept.world.write.job import INDEX

SPLIT = "evaluation"
"""Compositions that no recipe here trains on."""
BACKGROUND = "background"
COUNTS = {
    "classes": 2000, "captions": 1500, "masks": 600, "depth": 400, "boxes": 600, "tracks": 60, "points": 200, "words": 600,
}  # fmt: skip
"""Samples of the generated sets."""
FRAMES = 8


def world_labels(task: str, *, count: int | None = None, seed: int = 0, size: int = 96) -> Labelled:
    """Return generated samples with labels for a task; the same arguments give the same samples.

    Args:
        task: a name of `COUNTS`.
        count: samples; as in `COUNTS` if None.
        seed: of the samples.
        size: side of the images in pixels.

    Raises:
        PerceptError: there is no such task.
    """
    if task not in COUNTS:
        raise unknown_name("task", task, COUNTS)
    count = COUNTS[task] if count is None else count
    images, target, extra = _MAKERS[task](partial(derive, seed, "layers", task), count, size)
    return Labelled(
        name=f"world, {SPLIT} split, seed {seed}", task=task, count=count, images=images, target=target, **extra
    )  # fmt: skip


def _scenes(number_of: Callable[[int], int], count: int, size: int, **sampled: Any) -> Callable[[int], Rendering]:
    @lru_cache(maxsize=256)
    def drawn(index: int) -> Rendering:
        return render(sample_scene(number_of(index), split=SPLIT, **sampled), size=size)

    return drawn


def _classes(number_of: Any, count: int, size: int) -> tuple[Any, Any, dict[str, Any]]:
    drawn, names = _scenes(number_of, count, size, things=(1, 1)), list(CATEGORIES)
    return (
        lambda index: [drawn(index).image],
        lambda index: names.index(sample_scene(number_of(index), split=SPLIT, things=(1, 1)).things[0].category),
        {"classes": tuple(names)},
    )


def _captions(number_of: Any, count: int, size: int) -> tuple[Any, Any, dict[str, Any]]:
    drawn = _scenes(number_of, count, size, things=(1, 4))
    return (
        lambda index: [drawn(index).image],
        lambda index: short_caption(drawn(index).scene, random.Random(derive(number_of(index), "caption"))),
        {},
    )


def _masks(number_of: Any, count: int, size: int) -> tuple[Any, Any, dict[str, Any]]:
    drawn = _scenes(number_of, count, size, things=(1, 4))
    return (
        lambda index: [drawn(index).image],
        lambda index: category_map(drawn(index)),
        {"classes": (BACKGROUND, *CATEGORIES)},
    )


def category_map(rendering: Rendering) -> np.ndarray:
    """Return the category of the thing at each pixel, from 1, in the order of `CATEGORIES`; 0 for the background."""
    assert rendering.masks is not None
    names, labels = list(CATEGORIES), np.zeros(rendering.image.shape[:2], np.int64)
    for thing, mask in zip(rendering.scene.things, rendering.masks, strict=True):
        labels[mask] = names.index(thing.category) + 1
    return labels


def _boxes(number_of: Any, count: int, size: int) -> tuple[Any, Any, dict[str, Any]]:
    drawn = _scenes(number_of, count, size, things=(1, 4))
    return lambda index: [drawn(index).image], lambda index: _truth(drawn(index)), {"classes": tuple(CATEGORIES)}


def _truth(rendering: Rendering) -> Truth:
    names, shown = list(CATEGORIES), rendering.visible > 0.1
    labels = np.array([names.index(thing.category) for thing in rendering.scene.things], np.int64)
    return Truth(
        boxes=rendering.boxes[shown].astype(np.float64), labels=labels[shown], crowd=np.zeros(int(shown.sum()), bool)
    )  # fmt: skip


def _words(number_of: Any, count: int, size: int) -> tuple[Any, Any, dict[str, Any]]:
    """Take scenes with printed words."""
    numbers = _with_words(number_of, count)
    drawn = _scenes(lambda index: numbers[index], count, size, things=(1, 2))

    def target(index: int) -> tuple[np.ndarray, tuple[str, ...]]:
        found = drawn(index)
        return found.word_boxes.astype(np.float64), tuple(word.text for word in found.scene.words)

    return lambda index: [drawn(index).image], target, {}


def _with_words(number_of: Callable[[int], int], count: int) -> list[int]:
    numbers, index = [], 0
    while len(numbers) < count:
        if sample_scene(number_of(index), split=SPLIT, things=(1, 2)).words:
            numbers.append(number_of(index))
        index += 1
    return numbers


def _rooms(number_of: Any, size: int, views: int) -> Callable[[int], Any]:
    from percept.world.rooms import generate_room

    @lru_cache(maxsize=256)
    def drawn(index: int) -> Any:
        return generate_room(number_of(index) % 2**31, split=SPLIT, views=views, size=size)

    return drawn


def _depth(number_of: Any, count: int, size: int) -> tuple[Any, Any, dict[str, Any]]:
    drawn = _rooms(number_of, size, 1)
    return (
        lambda index: [drawn(index).views[0].image],
        lambda index: drawn(index).views[0].depth.astype(np.float32),
        {"unit": "m"},
    )


def _points(number_of: Any, count: int, size: int) -> tuple[Any, Any, dict[str, Any]]:
    drawn = _rooms(number_of, size, 2)
    return (
        lambda index: [view.image for view in drawn(index).views],
        lambda index: solid_points(*drawn(index).views),
        {},
    )


def solid_points(first: Any, second: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the points on solids that two views of a room share, (x, y) in [0, 1]; walls have no texture to match."""
    from percept.world.rooms import correspondences

    one, other = correspondences(first, second)
    columns, rows = np.floor(one).astype(int).T
    solid = first.ids[rows, columns] > 0
    size = np.array([first.camera.width, first.camera.height])
    return one[solid] / size, other[solid] / np.array([second.camera.width, second.camera.height])


def _tracks(number_of: Any, count: int, size: int) -> tuple[Any, Any, dict[str, Any]]:
    from percept.world.clips import generate_clip
    from percept.world.write.davis import object_numbers, renumbered

    @lru_cache(maxsize=64)
    def drawn(index: int) -> Any:
        return generate_clip(number_of(index) % 2**31, split=SPLIT, frames=FRAMES, size=size)

    return (
        lambda index: list(drawn(index).frames),
        lambda index: renumbered(drawn(index), object_numbers(drawn(index))).astype(np.int64),
        {},
    )


_MAKERS: dict[str, Callable[..., tuple[Any, Any, dict[str, Any]]]] = {
    "classes": _classes, "captions": _captions, "masks": _masks, "depth": _depth, "boxes": _boxes, "tracks": _tracks,
    "points": _points, "words": _words,
}  # fmt: skip


def folder_labels(path: Path) -> dict[str, Labelled]:
    """Return the labels of a folder of images or rooms that `percept world` wrote; none if it is not one."""
    if not path.is_dir():
        return {}
    if (path / INDEX).is_file() and (path / "truth").is_dir():
        return _image_folder(path)
    rooms = sorted(file.parent for file in path.glob("*/cameras.json"))
    return _room_folder(path, rooms) if rooms else {}


def _image_folder(path: Path) -> dict[str, Labelled]:
    lines = [json.loads(line) for line in (path / INDEX).read_text(encoding="utf-8").splitlines()]
    images = [path / line["file_name"] for line in lines]
    truth = lru_cache(maxsize=256)(lambda index: read_json(path / lines[index]["truth"]))
    names = list(CATEGORIES)

    def masks(index: int) -> np.ndarray:
        numbers = read_numbers(path / lines[index]["masks"])
        table = np.zeros(256, np.int64)
        for thing in truth(index)["things"]:
            table[thing["number"]] = names.index(thing["category"]) + 1
        return table[numbers]

    def boxes(index: int) -> Truth:
        things = [thing for thing in truth(index)["things"] if thing["visible"] > 0.1]
        found = np.array([thing["box"] for thing in things], np.float64).reshape(-1, 4)
        labels = np.array([names.index(thing["category"]) for thing in things], np.int64)
        return Truth(boxes=found, labels=labels, crowd=np.zeros(len(things), bool))

    def words(index: int) -> tuple[np.ndarray, tuple[str, ...]]:
        found = truth(index)["words"]
        return np.array([word["box"] for word in found], np.float64).reshape(-1, 4), tuple(
            word["text"] for word in found
        )

    def depth(index: int) -> np.ndarray:
        return np.maximum(read_numbers(path / lines[index]["depth"]) / np.float32(255), np.float32(1 / 510))

    shared: dict[str, Any] = {"name": str(path), "count": len(lines), "images": lambda index: [images[index]]}
    return {
        "captions": Labelled(task="captions", target=lambda index: truth(index)["short_caption"], **shared),
        "masks": Labelled(task="masks", target=masks, classes=(BACKGROUND, *CATEGORIES), **shared),
        "depth": Labelled(task="depth", target=depth, **shared),
        "boxes": Labelled(task="boxes", target=boxes, classes=tuple(CATEGORIES), **shared),
        "words": Labelled(task="words", target=words, **shared),
    }


def _room_folder(path: Path, rooms: Sequence[Path]) -> dict[str, Labelled]:
    """Return depth and masks of all views, a group per room, and points of the first two views of each room."""
    from percept.world.rooms import LABELS, Camera, View

    @lru_cache(maxsize=256)
    def views(room: int) -> list[dict[str, Any]]:
        return read_json(rooms[room] / "cameras.json")["views"]

    every = [(room, view) for room in range(len(rooms)) for view in range(len(views(room)))]
    units = float(read_json(rooms[0] / "cameras.json")["depth_units_per_metre"])

    def part(place: tuple[int, int], name: str) -> Path:
        return rooms[place[0]] / views(place[0])[place[1]][name]

    def depth(place: tuple[int, int]) -> np.ndarray:
        return read_numbers(part(place, "depth")) / np.float32(units)

    def view(place: tuple[int, int]) -> Any:
        about = views(place[0])[place[1]]
        matrix = np.array(about["world_to_camera"])
        camera = Camera(
            intrinsics=np.array(about["intrinsics"]), rotation=matrix[:3, :3], translation=matrix[:3, 3],
            width=about["width"], height=about["height"],
        )  # fmt: skip
        ids, labels = read_numbers(part(place, "instances")), read_numbers(part(place, "labels"))
        return View(
            camera=camera,
            image=np.zeros((*ids.shape, 3), np.uint8),
            depth=depth(place).astype(np.float64),
            ids=ids,
            labels=labels,
        )

    metres: Literal["m"] = "m"
    single: dict[str, Any] = {
        "name": str(path),
        "count": len(every),
        "images": lambda index: [part(every[index], "image")],
        "group": lambda numbers: [every[number][0] for number in numbers],
    }
    found = {
        "depth": Labelled(task="depth", target=lambda index: depth(every[index]), unit=metres, **single),
        "masks": Labelled(
            task="masks", target=lambda index: read_numbers(part(every[index], "labels")).astype(np.int64), classes=LABELS, **single
        ),
    }  # fmt: skip
    if min(len(views(room)) for room in range(len(rooms))) > 1:
        found["points"] = Labelled(
            name=str(path), task="points", count=len(rooms),
            images=lambda index: [part((index, 0), "image"), part((index, 1), "image")],
            target=lambda index: solid_points(view((index, 0)), view((index, 1))),
        )  # fmt: skip
    return found
