"""Rooms in 3-D: solids on a floor, seen by several calibrated cameras, with depth, instances, a point cloud and texts.

>>> found = generate_room(3, views=2)
>>> len(found.views), found.views[0].image.shape, found.room.split
(2, (96, 96, 3), 'train')
"""

import math
import random
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.world.qa.pair import Pair, as_row
from percept.world.rooms.camera import Camera, look_at
from percept.world.rooms.cloud import PointCloud, correspondences, point_cloud
from percept.world.rooms.draw import LABELS, View, draw_view
from percept.world.rooms.room import Room, sample_room
from percept.world.rooms.solids import SHAPES, Solid
from percept.world.rooms.texts import caption, relations_in_view, room_pairs, shown
from percept.world.splits import split_seed

__all__ = [
    "LABELS",
    "SHAPES",
    "Camera",
    "PointCloud",
    "Room",
    "RoomViews",
    "Solid",
    "View",
    "correspondences",
    "generate_room",
    "point_cloud",
    "relations_in_view",
]


@dataclass(frozen=True, kw_only=True)
class RoomViews:
    """A room with its views, captions and questions."""

    room: Room
    views: tuple[View, ...]
    captions: tuple[str, ...]
    """One per view."""
    pairs: tuple[Pair, ...]
    """Questions about the first view; `Pair.things` are (0, index) of solids."""

    def row(self, file: str) -> dict[str, Any]:
        """Return the questions about the first view, stored as `file`, as a row of the json lines of Perception LM."""
        return as_row(self.pairs, [file], self.views[0].camera.width, self.views[0].camera.height)

    def record(self) -> dict[str, Any]:
        """Return everything but the pixels as plain data for json."""
        return {
            "room": asdict(self.room),
            "views": [
                {
                    "intrinsics": view.camera.intrinsics.tolist(),
                    "rotation": view.camera.rotation.tolist(),
                    "translation": view.camera.translation.tolist(),
                    "boxes": [list(view.box(number + 1)) for number in range(len(self.room.solids))],
                    "caption": caption,
                    "relations": [list(each) for each in relations_in_view(self.room, view)],
                }
                for view, caption in zip(self.views, self.captions, strict=True)
            ],
            "question_view": 0,
            "questions": [[pair.kind, pair.question, pair.answer] for pair in self.pairs],
        }


def generate_room(seed: int, *, split: str = "train", views: int = 3, size: int = 96) -> RoomViews:
    """Generate room number `seed` of a split. The same arguments give the same bytes.

    Every solid is clearly visible in the first view; in the evaluation split at least one of them is held out.

    Args:
        seed: number of the room.
        split: a name of `SPLITS`.
        views: number of cameras, from 1 to 16.
        size: side of the images in pixels, from 32 to 2048.

    Raises:
        PerceptError: unknown split, or a number out of range.
    """
    if not 1 <= views <= 16:
        raise PerceptError(f"views must be from 1 to 16, got {views}.")
    if not 32 <= size <= 2048:
        raise PerceptError(f"size must be from 32 to 2048 pixels, got {size}.")
    rng = random.Random(derive(split_seed(seed, split), "room"))
    while True:
        room = sample_room(rng, seed, split)
        first = _camera(rng, room, size)
        drawn = draw_view(room, _resized(first, 48))
        if len(shown(room, drawn)) < len(room.solids):
            continue
        cameras = [first, *(_camera(rng, room, size) for _ in range(views - 1))]
        images = tuple(draw_view(room, camera) for camera in cameras)
        if len(shown(room, images[0])) == len(room.solids):
            break
    captions = tuple(caption(room, view, rng) for view in images)
    return RoomViews(room=room, views=images, captions=captions, pairs=tuple(room_pairs(room, images, rng)))


_CLOSEST = 1.2
"""Least horizontal distance in metres of a camera from the axis of a solid."""


def _camera(rng: random.Random, room: Room, size: int) -> Camera:
    """Put a camera near a wall at eye level, away from the solids; it looks at their middle."""
    while True:
        x, y = _beside_wall(rng, room)
        if all(math.hypot(x - solid.x, y - solid.y) > _CLOSEST for solid in room.solids):
            break
    middle = np.mean([solid.centre for solid in room.solids], axis=0)
    target = middle + np.array([rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3), 0.0])
    return look_at(np.array([x, y, rng.uniform(1.5, 2.0)]), target, size=size, field_of_view=rng.uniform(65, 80))


def _beside_wall(rng: random.Random, room: Room) -> tuple[float, float]:
    """Return a random place near a random wall."""
    margin, along = 0.25, rng.uniform(0.05, 0.95)
    places = (
        (along * room.width, margin),
        (along * room.width, room.depth - margin),
        (margin, along * room.depth),
        (room.width - margin, along * room.depth),
    )
    return rng.choice(places)


def _resized(camera: Camera, size: int) -> Camera:
    """Return the same camera with fewer pixels."""
    scale = np.array([size / camera.width, size / camera.height, 1.0])[:, None]
    return Camera(
        intrinsics=camera.intrinsics * scale, rotation=camera.rotation, translation=camera.translation, width=size,
        height=size,
    )  # fmt: skip
