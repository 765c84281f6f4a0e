"""Draw a room from a camera by casting one ray per pixel for the truth, and four for the colours."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from percept.world.palette import COLOURS
from percept.world.rooms.camera import Camera
from percept.world.rooms.room import FLOORS, WALLS, Room
from percept.world.rooms.solids import SHAPES, dot, intersect

LABELS = ("floor", "wall", "ceiling", *SHAPES)
"""Classes of surfaces."""
_FINE = 2
_TILE = 0.5
"""Side of a floor tile in metres."""
_AMBIENT, _DIRECT, _SHADOW = 0.7, 0.42, 0.45
"""Share of light from everywhere, share from the lamp, and the factor of the latter in the shadow."""


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """An image of a room with its ground truth."""

    camera: Camera
    image: UInt8[np.ndarray, "y x 3"]
    depth: Float[np.ndarray, "y x"]
    """z in camera coordinates at the centre of each pixel, in metres."""
    ids: UInt8[np.ndarray, "y x"]
    """Number of the visible solid, from 1; 0 for floor, walls and ceiling."""
    labels: UInt8[np.ndarray, "y x"]
    """Index into `LABELS`."""

    def visible(self, count: int) -> Float[np.ndarray, " k"]:
        """Return the share of the image that each of `count` solids covers."""
        return np.bincount(self.ids.ravel(), minlength=count + 1)[1 : count + 1] / self.ids.size

    def box(self, number: int) -> tuple[float, float, float, float]:
        """Return the box of the visible part of solid `number` (from 1), xyxy in [0, 1]; zeros if it is hidden."""
        rows, columns = np.nonzero(self.ids == number)
        if len(rows) == 0:
            return 0.0, 0.0, 0.0, 0.0
        height, width = self.ids.shape
        return (
            float(columns.min() / width),
            float(rows.min() / height),
            float((columns.max() + 1) / width),
            float((rows.max() + 1) / height),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Surface:
    """What each ray hits first."""

    depth: Float[np.ndarray, " n"]
    normal: Float[np.ndarray, "n 3"]
    ids: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]


def draw_view(room: Room, camera: Camera) -> View:
    """Draw a room. The camera must be inside the room and outside all solids."""
    rays, fine = camera.rays(), camera.rays(_FINE)
    truth = _first_hits(room, camera, rays)
    lit = np.where(_shaded(room, camera.centre + truth.depth[:, None] * rays), _SHADOW, 1.0)
    shape = (camera.height, camera.width)
    colours = _colours(room, camera, fine, _enlarged(lit.reshape(shape)))
    blocks = colours.reshape(camera.height, _FINE, camera.width, _FINE, 3).mean(axis=(1, 3))
    return View(
        camera=camera,
        image=np.clip(np.rint(blocks), 0, 255).astype(np.uint8),
        depth=truth.depth.reshape(shape),
        ids=truth.ids.reshape(shape).astype(np.uint8),
        labels=truth.labels.reshape(shape).astype(np.uint8),
    )


def _enlarged(values: Float[np.ndarray, "y x"]) -> Float[np.ndarray, " n"]:
    """Repeat the value of each pixel for its parts. Shadows need no finer resolution."""
    return values.repeat(_FINE, axis=0).repeat(_FINE, axis=1).ravel()


def _first_hits(room: Room, camera: Camera, rays: Float[np.ndarray, "n 3"]) -> _Surface:
    depth, normal, labels = _walls(room, camera.centre, rays)
    ids = np.zeros(len(rays), np.int64)
    for number, solid in enumerate(room.solids, start=1):
        rows = _candidates(camera, rays, solid.corners())
        t, outward = intersect(solid, camera.centre, rays[rows])
        nearer = t < depth[rows]
        hit = rows[nearer]
        depth[hit], normal[hit], ids[hit] = t[nearer], outward[nearer], number
        labels[hit] = LABELS.index(solid.shape)
    return _Surface(depth=depth, normal=normal, ids=ids, labels=labels)


def _candidates(
    camera: Camera, rays: Float[np.ndarray, "n 3"], corners: Float[np.ndarray, "8 3"]
) -> Int[np.ndarray, " k"]:
    """Return the rays inside the projected bounding box of a solid; all of them if it reaches behind the camera."""
    places, depth = camera.project(corners)
    if depth.min() < 0.05:
        return np.arange(len(rays))
    scale = round((len(rays) / (camera.width * camera.height)) ** 0.5)
    columns, rows = camera.width * scale, camera.height * scale
    left, top = np.floor(places.min(0) * scale).astype(int) - 1
    right, bottom = np.ceil(places.max(0) * scale).astype(int) + 1
    across = np.arange(max(0, left), min(columns, right))
    down = np.arange(max(0, top), min(rows, bottom))
    return (down[:, None] * columns + across[None, :]).ravel()


def _walls(
    room: Room, origin: Float[np.ndarray, " 3"], rays: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n 3"], Int[np.ndarray, " n"]]:
    """Return depth, normal and label of the floor, wall or ceiling that each ray hits from inside."""
    steps = np.where(np.abs(rays) < 1e-12, 1e-12, rays)
    ends = np.where(steps > 0, np.array([room.width, room.depth, room.height]), 0.0)
    leave = (ends - origin) / steps
    first = np.minimum(np.minimum(leave[:, 0], leave[:, 1]), leave[:, 2])
    axis = np.where(leave[:, 0] == first, 0, np.where(leave[:, 1] == first, 1, 2))
    rows = np.arange(len(rays))
    normal = np.zeros_like(rays)
    normal[rows, axis] = -np.sign(steps[rows, axis])
    labels = np.where(axis < 2, 1, np.where(steps[:, 2] > 0, 2, 0))
    return first, normal, labels


def _colours(
    room: Room, camera: Camera, rays: Float[np.ndarray, "n 3"], lit: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n 3"]:
    """Return the shaded colour of each ray: matt surfaces, one lamp below the ceiling, and its shadows."""
    surface = _first_hits(room, camera, rays)
    points = camera.centre + surface.depth[:, None] * rays
    light = _lamp(room) - points
    facing = np.maximum(0.0, dot(surface.normal, light) / np.sqrt(dot(light, light)))
    return _paint(room, points, surface) * np.clip(_AMBIENT + _DIRECT * facing * lit, 0.0, 1.08)[:, None]


def _lamp(room: Room) -> Float[np.ndarray, " 3"]:
    return np.array([room.width / 2, room.depth / 2, room.height - 0.15])


def _shaded(room: Room, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
    """True where a solid is between a point and the lamp."""
    light = _lamp(room) - points
    start, shaded = points + 1e-3 * light, np.zeros(len(points), bool)
    for solid in room.solids:
        t, _ = intersect(solid, start, light)
        shaded |= t < 0.998
    return shaded


def _paint(room: Room, points: Float[np.ndarray, "n 3"], surface: _Surface) -> Float[np.ndarray, "n 3"]:
    """Return the colour of the surfaces without light."""
    first, second = FLOORS[room.floor]
    table = np.array([first, WALLS[room.wall], (244, 244, 242), *(COLOURS[solid.colour] for solid in room.solids)])
    index = np.where(surface.ids > 0, surface.ids + 2, surface.labels)
    colours = table[index].astype(np.float64)
    tile = (np.floor(points[:, 0] / _TILE) + np.floor(points[:, 1] / _TILE)) % 2 == 1
    colours[(surface.ids == 0) & (surface.labels == 0) & tile] = second
    skirting = (surface.ids == 0) & (surface.labels == 1) & (points[:, 2] < 0.09)
    colours[skirting] = (150, 140, 128)
    return colours
