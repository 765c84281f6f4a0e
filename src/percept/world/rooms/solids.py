"""Solids in a room and the intersections of rays with them.

A ray is origin + t * direction. Functions return t (infinity where the ray misses) and the outward normal at the hit.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float

Shape: TypeAlias = Literal["box", "ball", "cylinder", "cone"]
SHAPES: tuple[Shape, ...] = ("box", "ball", "cylinder", "cone")
Hits: TypeAlias = tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n 3"]]
_NEAR = 1e-6
"""Least t of a hit."""


@dataclass(frozen=True, kw_only=True)
class Solid:
    """One object of a room. Lengths are in metres; z is up."""

    shape: Shape
    colour: str
    size: str
    """"small" or "large"."""
    x: float
    y: float
    bottom: float = 0.0
    """z of the base."""
    width: float
    """Diameter, or side of the base."""
    height: float
    yaw: float = 0.0
    """Rotation about the vertical axis in degrees."""
    on: int | None = None
    """Index of the solid that it stands on; the floor if None."""

    @property
    def centre(self) -> tuple[float, float, float]:
        """Middle of the bounding box."""
        return self.x, self.y, self.bottom + self.height / 2

    @property
    def reach(self) -> float:
        """Largest horizontal distance of a point from the axis."""
        return self.width / 2 * (math.sqrt(2) if self.shape == "box" else 1.0)

    def corners(self) -> Float[np.ndarray, "8 3"]:
        """Return the corners of a bounding box that is rotated with the solid."""
        half, cosine, sine = self.width / 2, math.cos(math.radians(self.yaw)), math.sin(math.radians(self.yaw))
        return np.array(
            [
                (
                    self.x + across * half * cosine - along * half * sine,
                    self.y + across * half * sine + along * half * cosine,
                    self.bottom + up * self.height,
                )
                for across in (-1, 1)
                for along in (-1, 1)
                for up in (0, 1)
            ]
        )


def intersect(solid: Solid, origin: Float[np.ndarray, "... 3"], direction: Float[np.ndarray, "n 3"]) -> Hits:
    """Intersect rays with a solid. `origin` is one point, or one per ray."""
    local = origin - np.array([solid.x, solid.y, solid.bottom])
    hit = {"box": _box, "ball": _ball, "cylinder": _cylinder, "cone": _cone}[solid.shape]
    return hit(solid, np.broadcast_to(local, direction.shape), direction)


def _turned(vectors: Float[np.ndarray, "n 3"], degrees: float) -> Float[np.ndarray, "n 3"]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y, z = vectors.T
    return np.stack([cosine * x - sine * y, sine * x + cosine * y, z], axis=1)


def _box(solid: Solid, origin: Float[np.ndarray, "n 3"], direction: Float[np.ndarray, "n 3"]) -> Hits:
    half = solid.width / 2
    start, step = _turned(origin, -solid.yaw), _turned(direction, -solid.yaw)
    step = np.where(np.abs(step) < 1e-12, 1e-12, step)
    low = (np.array([-half, -half, 0.0]) - start) / step
    high = (np.array([half, half, solid.height]) - start) / step
    entry, leave = np.minimum(low, high), np.maximum(low, high)
    first = np.maximum(np.maximum(entry[:, 0], entry[:, 1]), entry[:, 2])  # reductions over an axis of 3 are slow
    last = np.minimum(np.minimum(leave[:, 0], leave[:, 1]), leave[:, 2])
    axis = np.where(entry[:, 0] == first, 0, np.where(entry[:, 1] == first, 1, 2))
    hit = (first < last) & (first > _NEAR)
    normal = np.zeros_like(direction)
    rows = np.arange(len(direction))
    normal[rows, axis] = -np.sign(step[rows, axis])
    return np.where(hit, first, np.inf), _turned(normal, solid.yaw)


def dot(first: Float[np.ndarray, "n k"], second: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Return the dot product of each pair of rows."""
    return np.einsum("ij,ij->i", first, second)


def _roots(
    a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"], c: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return both roots of a t² + 2 b t + c, smaller first; infinity where there is none."""
    square = b * b - a * c
    real = (square >= 0) & (np.abs(a) > 1e-12)
    root, divisor = np.sqrt(np.where(real, square, 0.0)), np.where(real, a, 1.0)
    one, other = (-b - root) / divisor, (-b + root) / divisor
    return np.where(real, np.minimum(one, other), np.inf), np.where(real, np.maximum(one, other), np.inf)


def _ball(solid: Solid, origin: Float[np.ndarray, "n 3"], direction: Float[np.ndarray, "n 3"]) -> Hits:
    radius = solid.width / 2
    start = origin - np.array([0.0, 0.0, radius])
    near, _ = _roots(dot(direction, direction), dot(start, direction), dot(start, start) - radius * radius)
    near = np.where(near > _NEAR, near, np.inf)
    points = start + np.where(np.isfinite(near), near, 0.0)[:, None] * direction
    return near, points / radius


def _cylinder(solid: Solid, origin: Float[np.ndarray, "n 3"], direction: Float[np.ndarray, "n 3"]) -> Hits:
    radius = solid.width / 2
    flat, start = direction[:, :2], origin[:, :2]
    side, _ = _roots(dot(flat, flat), dot(start, flat), dot(start, start) - radius * radius)
    z = origin[:, 2] + np.where(np.isfinite(side), side, 0.0) * direction[:, 2]
    side = np.where((side > _NEAR) & (z >= 0) & (z <= solid.height), side, np.inf)
    points = start + np.where(np.isfinite(side), side, 0.0)[:, None] * flat
    normal = np.concatenate([points / radius, np.zeros((len(points), 1))], axis=1)
    return _nearer((side, normal), _disc(origin, direction, solid.height, radius, 1.0))


def _cone(solid: Solid, origin: Float[np.ndarray, "n 3"], direction: Float[np.ndarray, "n 3"]) -> Hits:
    """Intersect with a cone whose apex is up; it is seen from outside and above its base."""
    slope = solid.width / 2 / solid.height
    start = origin - np.array([0.0, 0.0, solid.height])
    weights = np.array([1.0, 1.0, -slope * slope])
    candidates = _roots(
        dot(weights * direction, direction), dot(weights * start, direction), dot(weights * start, start)
    )
    best = np.full(len(direction), np.inf)
    for root in candidates:
        z = start[:, 2] + np.where(np.isfinite(root), root, 0.0) * direction[:, 2]
        valid = (root > _NEAR) & (z <= 0) & (z >= -solid.height)
        best = np.where(valid, np.minimum(best, root), best)
    points = start + np.where(np.isfinite(best), best, 0.0)[:, None] * direction
    outward = np.stack([points[:, 0], points[:, 1], -slope * slope * points[:, 2]], axis=1)
    length = np.sqrt(dot(outward, outward))[:, None]
    return _nearer((best, outward / np.maximum(length, 1e-12)), _disc(origin, direction, 0.0, solid.width / 2, -1.0))


def _disc(
    origin: Float[np.ndarray, "n 3"], direction: Float[np.ndarray, "n 3"], z: float, radius: float, up: float
) -> Hits:
    """Intersect with a horizontal disc around the axis."""
    rise = np.where(np.abs(direction[:, 2]) < 1e-12, 1e-12, direction[:, 2])
    t = (z - origin[:, 2]) / rise
    points = origin[:, :2] + t[:, None] * direction[:, :2]
    hit = (t > _NEAR) & (dot(points, points) <= radius * radius)
    return np.where(hit, t, np.inf), np.broadcast_to(np.array([0.0, 0.0, up]), direction.shape)


def _nearer(first: Hits, second: Hits) -> Hits:
    return np.minimum(first[0], second[0]), np.where((first[0] <= second[0])[:, None], first[1], second[1])
