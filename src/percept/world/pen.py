"""The pen with which objects are drawn.

A drawing is a list of filled outlines in the square [-1, 1]² (x right, y down), each with a *role* instead of a colour.
Nothing is rasterised here, so a drawing can be rotated, stretched and scaled exactly.
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache

Number = float | int
"""A coordinate, length or angle. Run-time type checkers do not accept an int as a float."""

Point = tuple[Number, Number]


class Role(IntEnum):
    """Material of a part of an object. MAIN, DARK, LIGHT and EDGE follow the colour of the object."""

    EMPTY = 0
    MAIN = 1
    DARK = 2
    LIGHT = 3
    EDGE = 4
    INK = 5
    WHITE = 6
    GLASS = 7
    METAL = 8
    WOOD = 9
    CREAM = 10
    LEAF = 11
    GOLD = 12
    ROSE = 13


class Shape:
    """A filled outline with its role; `edge` draws a thin line around it."""

    __slots__ = ("edge", "points", "role")

    def __init__(self, role: int, points: list[Point], edge: bool) -> None:
        self.role = role
        self.points = points
        self.edge = edge


@lru_cache(maxsize=32)
def _unit_circle(count: int) -> list[Point]:
    return [(math.cos(2 * math.pi * k / count), math.sin(2 * math.pi * k / count)) for k in range(count)]


@lru_cache(maxsize=8)
def _spline_weights(steps: int) -> list[tuple[float, float, float, float]]:
    """Return Catmull-Rom weights of four consecutive points for `steps` points between the middle two."""
    weights = []
    for k in range(steps):
        t = k / steps
        weights.append(
            (
                0.5 * (-t + 2 * t * t - t**3),
                0.5 * (2 - 5 * t * t + 3 * t**3),
                0.5 * (t + 4 * t * t - 3 * t**3),
                0.5 * (t**3 - t * t),
            )
        )
    return weights


class Pen:
    """Collects the shapes of one drawing. Later shapes cover earlier ones."""

    def __init__(self, *, detail: int = 1) -> None:
        """Start an empty drawing. Use `detail` 1 for sprites of up to about 150 pixels, 2 or 3 for larger ones."""
        self.shapes: list[Shape] = []
        self._steps = 3 + detail
        self._round = 12 + 8 * detail

    def poly(self, role: int, points: Sequence[Point], *, edge: bool = True) -> None:
        """Fill a polygon."""
        self.shapes.append(Shape(role, list(points), edge and role not in (Role.INK, Role.EDGE)))

    def rect(
        self, role: int, left: Number, top: Number, right: Number, bottom: Number, *, radius: Number = 0.0
    ) -> None:
        """Fill an axis-aligned rectangle, with rounded corners if `radius` > 0."""
        left, right, top, bottom = min(left, right), max(left, right), min(top, bottom), max(top, bottom)
        if radius <= 0:
            self.poly(role, [(left, top), (right, top), (right, bottom), (left, bottom)])
            return
        radius = min(radius, (right - left) / 2, (bottom - top) / 2)
        corners = ((right, bottom, -1, -1), (left, bottom, 1, -1), (left, top, 1, 1), (right, top, -1, 1))
        quarter = self._round // 4
        circle = _unit_circle(4 * quarter)
        points = []
        for turn, (x, y, sign_x, sign_y) in enumerate(corners):
            for k in range(quarter + 1):
                across, down = circle[(turn * quarter + k) % len(circle)]
                points.append((x + radius * (sign_x + across), y + radius * (sign_y + down)))
        self.poly(role, points)

    def ellipse(
        self, role: int, x: Number, y: Number, wide: Number, high: Number | None = None, *, angle: Number = 0.0
    ) -> None:
        """Fill an ellipse of half axes `wide` and `high` (a circle if `high` is None), rotated by `angle` degrees."""
        high = wide if high is None else high
        circle = _unit_circle(self._round if max(wide, high) > 0.2 else self._round // 2 + 2)
        if angle == 0:
            points = [(x + wide * c, y + high * s) for c, s in circle]
        else:
            cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            points = [
                (x + wide * c * cosine - high * s * sine, y + wide * c * sine + high * s * cosine) for c, s in circle
            ]
        self.poly(role, points, edge=min(wide, high) > 0.06)

    def pie(self, role: int, x: Number, y: Number, wide: Number, high: Number, start: Number, stop: Number) -> None:
        """Fill a sector of an ellipse between two angles in degrees (0 right, 90 down)."""
        self.poly(role, [(x, y), *self.arc_points(x, y, wide, high, start, stop)])

    def dome(self, role: int, x: Number, y: Number, wide: Number, high: Number) -> None:
        """Fill the upper half of an ellipse centred on (x, y); a negative `high` gives the lower half."""
        self.poly(role, self.arc_points(x, y, wide, high, 180, 360))

    def blob(self, role: int, points: Sequence[Point], *, edge: bool = True) -> None:
        """Fill a smooth closed curve through the points."""
        self.poly(role, self.smooth(points, closed=True), edge=edge)

    def line(self, role: int, points: Sequence[Point], width: Number, end: Number | None = None) -> None:
        """Draw a line with round ends through the points; its width changes from `width` to `end`."""
        thick = max(width, end or 0.0) >= 0.08
        self.poly(role, _outline(points, width / 2, (width if end is None else end) / 2), edge=thick)

    def curve(self, role: int, points: Sequence[Point], width: Number, end: Number | None = None) -> None:
        """Draw a smooth line through the points; its width changes from `width` to `end`."""
        self.line(role, self.smooth(points, closed=False), width, end)

    def arc(
        self, role: int, x: Number, y: Number, wide: Number, high: Number, start: Number, stop: Number, width: Number
    ) -> None:
        """Draw an arc of an ellipse as a line; angles in degrees (0 right, 90 down)."""
        self.line(role, self.arc_points(x, y, wide, high, start, stop), width)

    def ring(self, role: int, x: Number, y: Number, outer: Number, width: Number, *, squash: Number = 1.0) -> None:
        """Draw a full circle as a line with an empty interior. `squash` scales its height."""
        points = self.arc_points(x, y, outer, outer * squash, 0, 359.9)
        inner = outer - width
        points += self.arc_points(x, y, inner, inner * squash, 359.9, 0)
        self.shapes.append(Shape(role, points, False))

    def arc_points(self, x: Number, y: Number, wide: Number, high: Number, start: Number, stop: Number) -> list[Point]:
        """Return points on an ellipse from angle `start` to `stop` in degrees (0 right, 90 down)."""
        count = max(4, round(self._round * abs(stop - start) / 360))
        first, step = math.radians(start), math.radians(stop - start) / count
        return [
            (x + wide * math.cos(first + k * step), y + high * math.sin(first + k * step)) for k in range(count + 1)
        ]

    def smooth(self, points: Sequence[Point], *, closed: bool) -> list[Point]:
        """Return a smooth curve (Catmull-Rom) through the points."""
        count = len(points)
        if closed:
            padded = [points[-1], *points, points[0], points[1]]
        else:
            padded = [points[0], *points, points[-1]]
            count -= 1
        result = []
        weights = _spline_weights(self._steps)
        for k in range(count):
            (x0, y0), (x1, y1), (x2, y2), (x3, y3) = padded[k : k + 4]
            for a, b, c, d in weights:
                result.append((a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3))
        if not closed:
            result.append(points[-1])
        return result


def _outline(points: Sequence[Point], start: Number, stop: Number) -> list[Point]:
    """Return the outline of a line with round ends whose half width changes from `start` to `stop`."""
    last = len(points) - 1
    left: list[Point] = []
    right: list[Point] = []
    for k, (x, y) in enumerate(points):
        before, after = points[max(k - 1, 0)], points[min(k + 1, last)]
        across, down = after[0] - before[0], after[1] - before[1]
        length = math.hypot(across, down) or 1e-9
        half = start + (stop - start) * k / last
        if 0 < k < last:
            half *= _mitre(before, (x, y), after)
        normal_x, normal_y = -down / length * half, across / length * half
        left.append((x + normal_x, y + normal_y))
        right.append((x - normal_x, y - normal_y))
    right.reverse()
    return [*left, *_cap(points[last], left[-1], stop), *right, *_cap(points[0], right[-1], start)]


def _mitre(before: Point, here: Point, after: Point) -> float:
    """Return the factor that widens a line at a bend, so that its thickness stays the same."""
    first = math.atan2(here[1] - before[1], here[0] - before[0])
    second = math.atan2(after[1] - here[1], after[0] - here[0])
    return min(1 / max(abs(math.cos((second - first) / 2)), 1e-3), 1.8)


def _cap(centre: Point, corner: Point, radius: Number) -> list[Point]:
    """Return the half circle that rounds the end of a line, starting near `corner`."""
    if radius < 0.02:
        return []
    first = math.atan2(corner[1] - centre[1], corner[0] - centre[0])
    return [
        (centre[0] + radius * math.cos(first - turn), centre[1] + radius * math.sin(first - turn))
        for turn in (0.52, 1.05, 1.57, 2.09, 2.62)
    ]
