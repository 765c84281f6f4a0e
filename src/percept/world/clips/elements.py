"""Clips as plain data: places, tracks, events, shots and the camera.

Lengths are in image sides, x to the right and y down, in coordinates of a place, which can be larger than an image. Times are frame
numbers from 0; the last frame of a span belongs to it.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Float

from percept.world.backgrounds import BACKGROUNDS
from percept.world.elements import Scene, Thing, Word

CAMERA_KINDS = ("pans", "zooms")
"""Kinds of events of the camera. They have no subjects."""
LEAST_OPACITY = 0.5
"""An object that fades counts as present from this opacity on."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happens, from the first frame of the change to its last."""

    kind: str
    """A name of `ACTIONS`, or of `CAMERA_KINDS`."""
    subjects: tuple[int, ...]
    """Track that acts, then the track that it passes, approaches or hits; empty for the camera."""
    start: int
    end: int
    direction: str = ""
    """"left", "right", "up", "down", "towards", "away", "clockwise", "counter-clockwise", "in", "out", or empty."""
    speed: float = 0.0
    """Mean speed of a change of position, in image sides per frame; 0 for other events."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """Frames between two cuts."""

    place: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a shot happens. Shots can return to a place."""

    background: str
    background_seed: int
    width: float = 1.0
    height: float = 1.0
    left: float = 0.0
    """Left edge of the window, of side 1, in which everything happens."""
    top: float = 0.0
    horizon: float = 0.0
    """y at which the ground begins; 0 on a texture."""
    words: tuple[Word, ...] = ()

    @property
    def flat(self) -> bool:
        """True for a texture without ground."""
        return BACKGROUNDS[self.background].flat

    @property
    def wider(self) -> bool:
        """True if the place is larger than the window in which everything happens."""
        return self.width > 1 or self.height > 1


@dataclass(kw_only=True, eq=False)
class Path:
    """The pose of one object in every frame."""

    x: Float[np.ndarray, " t"]
    """Centre."""
    y: Float[np.ndarray, " t"]
    """Bottom edge of a thing that stands on the ground (without `lift`), else the centre."""
    scale: Float[np.ndarray, " t"]
    """Longest side."""
    angle: Float[np.ndarray, " t"]
    """Rotation away from the thing's own angle, in degrees, counter-clockwise."""
    lift: Float[np.ndarray, " t"]
    """Height above the ground."""
    opacity: Float[np.ndarray, " t"]
    depth: Float[np.ndarray, " t"]
    """0 nearest to 1 farthest."""
    hand: Float[np.ndarray, " t"]
    """Distance of a hand above the object; infinite where there is no hand."""

    @staticmethod
    def at_rest(frames: int, *, x: float, y: float, scale: float, depth: float) -> "Path":
        """Return the path of an object that never changes."""
        values = {"x": x, "y": y, "scale": scale, "depth": depth, "angle": 0.0, "lift": 0.0, "opacity": 1.0}
        return Path(**{name: np.full(frames, value) for name, value in {**values, "hand": np.inf}.items()})

    def set(self, name: str, start: int, values: Float[np.ndarray, " n"]) -> None:
        """Change a value from frame `start` on and hold the last one afterwards."""
        array = getattr(self, name)
        array[start : start + len(values)] = values
        array[start + len(values) :] = values[-1]

    def copy(self) -> "Path":
        """Return a copy."""
        return Path(**{each.name: getattr(self, each.name).copy() for each in fields(self)})

    def rounded(self) -> dict[str, list[float]]:
        """Return the values of all frames, without the hand, as plain data."""
        names = [each.name for each in fields(self) if each.name != "hand"]
        return {name: np.round(getattr(self, name), 4).tolist() for name in names}


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """One object of a clip, with the same number in all frames and shots."""

    number: int
    place: int
    thing: Thing
    """Its look. Position and size are those of the first frame; `path` has all of them."""
    high: float
    """Height as a share of the longest side."""
    path: Path

    def centre(self, frame: int) -> tuple[float, float]:
        """Return the centre of the object in a frame, in coordinates of its place."""
        path = self.path
        raised = 0.5 * self.high * path.scale[frame] if self.thing.grounded else 0.0
        return float(path.x[frame]), float(path.y[frame] - raised - path.lift[frame])


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Everything needed to render a clip and to describe it."""

    seed: int
    split: str
    frames: int
    places: tuple[Place, ...]
    shots: tuple[Shot, ...]
    tracks: tuple[Track, ...]
    events: tuple[Event, ...]
    """In order of their first frames."""
    camera: Float[np.ndarray, "t 3"]
    """Left, top and side of the visible window in every frame, in coordinates of the place."""

    @property
    def cuts(self) -> tuple[int, ...]:
        """First frames of all shots but the first."""
        return tuple(shot.start for shot in self.shots[1:])

    def shot_at(self, frame: int) -> Shot:
        """Return the shot of a frame."""
        return next(shot for shot in self.shots if shot.start <= frame <= shot.end)

    def on_stage(self, frame: int) -> list[Track]:
        """Return the tracks in the place of a frame whose centres are in the window and that have not faded."""
        left, top, side = self.camera[frame]
        place, shown = self.shot_at(frame).place, []
        for track in self.tracks:
            if track.place == place and track.path.opacity[frame] >= LEAST_OPACITY:
                x, y = track.centre(frame)
                if left < x < left + side and top < y < top + side:
                    shown.append(track)
        return shown

    def scene(self, frame: int, tracks: list[Track] | None = None) -> Scene:
        """Return one frame as a scene in image coordinates, with these tracks (if None, those of `on_stage`)."""
        left, top, side = (float(value) for value in self.camera[frame])
        place = self.places[self.shot_at(frame).place]
        chosen = self.on_stage(frame) if tracks is None else tracks
        horizon = 0.0 if place.flat else min(max((place.horizon - top) / side, 0.0), 1.0)
        words = [
            replace(word, x=(word.x - left) / side, y=(word.y - top) / side, size=word.size / side)
            for word in place.words
            if left < word.x - word.width / 2 and word.x + word.width / 2 < left + side
            if top < word.y - word.size and word.y + word.size < top + side
        ]
        return Scene(
            seed=self.seed, split=self.split, background=place.background, background_seed=place.background_seed,
            horizon=horizon, things=tuple(_framed(track, frame, left, top, side) for track in chosen), words=tuple(words),
        )  # fmt: skip


def _framed(track: Track, frame: int, left: float, top: float, side: float) -> Thing:
    """Return the thing of a track as it is in one frame, in image coordinates."""
    path, thing = track.path, track.thing
    lift = float(path.lift[frame])
    stands = thing.grounded and lift < 0.01
    middle = track.centre(frame)[1]
    y = float(path.y[frame]) if stands else middle
    return replace(
        thing,
        size="",
        x=(float(path.x[frame]) - left) / side,
        y=(y - top) / side,
        scale=float(path.scale[frame]) / side,
        depth=float(path.depth[frame]),
        grounded=stands,
        angle=thing.angle + float(path.angle[frame]),
    )
