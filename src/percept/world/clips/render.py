"""Render a planned clip: the background and every object are drawn once, and each frame is composed of them.

Frames are composed on a canvas of twice the resolution that holds the whole place; the camera is a window of it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from percept.core.errors import PerceptError
from percept.world.backgrounds import draw_background
from percept.world.clips.clip import Clip
from percept.world.clips.cutout import Cutout, hand, shadow
from percept.world.clips.elements import Place, Plan, Track
from percept.world.clips.footage import HAND
from percept.world.lettering import print_word
from percept.world.palette import Rgb


def render_clip(plan: Plan, *, size: int = 96, truth: bool = True) -> Clip:
    """Render a plan. The same plan and size give the same bytes.

    Args:
        plan: the plan.
        size: side of the frames in pixels, from 32 to 1024.
        truth: False omits ids, boxes, visible shares and depth, which takes less time.

    Raises:
        PerceptError: size out of range.
    """
    if not 32 <= size <= 1024:
        raise PerceptError(f"size must be from 32 to 1024 pixels, got {size}.")
    studios = [Studio(plan, number, size) for number in range(len(plan.places))]
    frames = np.empty((plan.frames, size, size, 3), np.uint8)
    ids = np.zeros((plan.frames, size, size), np.uint8) if truth else None
    count = len(plan.tracks)
    visible = np.zeros((plan.frames, count), np.float32) if truth else None
    for frame in range(plan.frames):
        studios[plan.shot_at(frame).place].compose(frame, frames, ids, visible)
    boxes = depth = None
    if ids is not None:
        boxes = np.stack([_boxes(each, count) for each in ids])
        depth = np.stack([_depth(plan, frame, each) for frame, each in enumerate(ids)])
    words = [word for each in studios for word in each.word_boxes(plan)]
    return Clip(
        plan=plan, frames=frames, ids=ids, boxes=boxes, visible=visible, depth=depth,
        word_boxes=np.stack(words, axis=1) if words else np.zeros((plan.frames, 0, 4), np.float32),
    )  # fmt: skip


@dataclass(frozen=True)
class _Layer:
    """An object to be pasted, from far to near."""

    track: Track
    cutout: Cutout


class Studio:
    """A place with its drawn background and objects."""

    def __init__(self, plan: Plan, number: int, size: int) -> None:
        place = plan.places[number]
        self.plan, self.place, self.number, self.size, self.unit = plan, place, number, size, 2.0 * size
        self.background, self._words = _drawn(place, size)
        small = self.background.resize((8, 8), Image.Resampling.BOX)
        self.layers = [
            _Layer(track, Cutout(track, self.unit, _colour_behind(small, place, track)))
            for track in plan.tracks
            if track.place == number
        ]

    def compose(
        self,
        frame: int,
        frames: UInt8[np.ndarray, "t y x 3"],
        ids: UInt8[np.ndarray, "t y x"] | None,
        visible: Float[np.ndarray, "t k"] | None,
    ) -> None:
        """Compose one frame and write it with its ids and visible shares into the arrays."""
        canvas = self.background.copy()
        numbers = Image.new("L", canvas.size) if ids is not None else None
        areas: dict[int, int] = {}
        for layer in sorted(self.layers, key=lambda layer: -layer.track.path.depth[frame]):
            if layer.track.path.opacity[frame] > 0:
                areas[layer.track.number] = self._paste(canvas, numbers, layer, frame)
        left, top, side = (self.unit * float(value) for value in self.plan.camera[frame])
        shape = self.size, self.size
        window = left, top, min(left + side, canvas.width), min(top + side, canvas.height)
        frames[frame] = np.asarray(canvas.resize(shape, Image.Resampling.BOX, box=window))
        if ids is None or numbers is None or visible is None:
            return
        ids[frame] = np.asarray(numbers.resize(shape, Image.Resampling.NEAREST, box=window))
        left, top, right, bottom = (round(edge) for edge in window)
        counts = numbers.crop((left, top, right, bottom)).histogram()
        for number, area in areas.items():
            visible[frame, number] = min(1.0, counts[number + 1] / max(1, area))

    def _paste(self, canvas: Image.Image, numbers: Image.Image | None, layer: _Layer, frame: int) -> int:
        """Paste one object with its shadow and the hand that holds it; return its full area in canvas pixels."""
        path, thing = layer.track.path, layer.track.thing
        posed = layer.cutout.posed(path.scale[frame], path.angle[frame], path.opacity[frame])
        x, foot = path.x[frame] * self.unit, (path.y[frame] - path.lift[frame]) * self.unit
        middle = foot - 0.5 * posed.height if thing.grounded else foot
        corner = round(x - posed.image.width / 2), round(middle - posed.image.height / 2)
        if thing.grounded and not self.place.flat:
            self._cast(canvas, layer, frame)
        canvas.paste(posed.image, corner, posed.image)
        if numbers is not None:
            numbers.paste(layer.track.number + 1, corner, posed.mask)
        if path.hand[frame] < np.inf:
            arm = hand(round(self.unit))
            tip = middle - 0.5 * posed.height - path.hand[frame] * self.unit + 0.06 * self.unit
            place = round(x - arm.width / 2), round(tip - arm.height)
            canvas.paste(arm, place, arm)
            if numbers is not None:
                numbers.paste(HAND, place, arm.getchannel("A"))
        return posed.area

    def _cast(self, canvas: Image.Image, layer: _Layer, frame: int) -> None:
        """Cast a shadow on the ground; it becomes smaller and weaker as the object rises."""
        path = layer.track.path
        near = max(0.0, 1 - 1.6 * float(path.lift[frame])) * float(path.opacity[frame])
        wide = layer.cutout.posed(path.scale[frame], 0.0, 1.0).image.width
        width = round(1.25 * wide * (0.5 + 0.5 * near))
        height = max(4, round(0.3 * wide * (0.5 + 0.5 * near)))
        if near <= 0:
            return
        mask = shadow(width, height)
        if near < 1:
            mask = mask.point([round(near * level) for level in range(256)])
        x, y = path.x[frame] * self.unit, path.y[frame] * self.unit
        canvas.paste((24, 22, 34), (round(x - width / 2), round(y - 0.56 * height)), mask)

    def word_boxes(self, plan: Plan) -> list[Float[np.ndarray, "t 4"]]:
        """Return the box of each word in every frame, xyxy in [0, 1]; zeros where it is not in the image."""
        tracks = []
        for box in self._words:
            rows = np.zeros((plan.frames, 4), np.float32)
            for shot in plan.shots:
                if shot.place == self.number:
                    part = slice(shot.start, shot.end + 1)
                    left, top, side = plan.camera[part].T
                    seen = np.stack([(box[axis] - (left, top)[axis % 2]) / side for axis in range(4)], axis=1)
                    clipped = seen.clip(0, 1)
                    empty = (clipped[:, 2:] <= clipped[:, :2]).any(axis=1, keepdims=True)
                    rows[part] = np.where(empty, 0, clipped)
            tracks.append(rows)
        return tracks


def _drawn(place: Place, size: int) -> tuple[Image.Image, list[tuple[float, ...]]]:
    """Return the background of a place with its words, and the boxes of their ink in coordinates of the place."""
    canvas = draw_background(
        place.background, place.background_seed, width=round(place.width * size), height=round(place.height * size),
        horizon=place.horizon / place.height,
    )  # fmt: skip
    boxes = []
    for word in place.words:
        ink, _ = print_word(canvas, word, 2.0 * size)
        boxes.append(tuple(edge / (2.0 * size) for edge in ink))
    return canvas, boxes


def _colour_behind(small: Image.Image, place: Place, track: Track) -> Rgb:
    """Return the colour of the background at the first position of an object that lies in the place."""
    xs, ys = track.path.x / place.width, track.path.y / place.height
    inside = np.flatnonzero((xs > 0) & (xs < 1) & (ys > 0) & (ys <= 1))
    at = int(inside[0]) if len(inside) else 0
    cell = [min(7, max(0, int(8 * share))) for share in (xs[at], ys[at] - 0.05)]
    pixel = small.getpixel((cell[0], cell[1]))
    assert isinstance(pixel, tuple)
    return int(pixel[0]), int(pixel[1]), int(pixel[2])


def _boxes(ids: UInt8[np.ndarray, "y x"], count: int) -> Float[np.ndarray, "k 4"]:
    """Return the box of the visible part of each track, xyxy in [0, 1]; zeros if it is not visible."""
    boxes, size = np.zeros((count, 4), np.float32), len(ids)
    for number in np.unique(ids):
        if 0 < number <= count:
            mask = ids == number
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            boxes[number - 1] = columns[0] / size, rows[0] / size, (columns[-1] + 1) / size, (rows[-1] + 1) / size
    return boxes


def _depth(plan: Plan, frame: int, ids: UInt8[np.ndarray, "y x"]) -> Float[np.ndarray, "y x"]:
    """Return the depth of every pixel: that of its object (a hand is as near as what it holds), or of the background."""
    place = plan.places[plan.shot_at(frame).place]
    table = np.zeros(256, np.float32)
    for track in plan.tracks:
        table[track.number + 1] = track.path.depth[frame]
        if track.path.hand[frame] < np.inf and track.place == plan.shot_at(frame).place:
            table[HAND] = track.path.depth[frame]
    _, top, side = plan.camera[frame]
    behind = np.ones(len(ids), np.float32)
    if not place.flat:
        rows = top + side * (np.arange(len(ids)) + 0.5) / len(ids)
        behind = np.clip(1 - (rows - place.horizon) / (place.height - place.horizon), 0, 1).astype(np.float32)
    return np.where(ids > 0, table[ids], behind[:, None])
