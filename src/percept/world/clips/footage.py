"""Rendered frames of a clip with their ground truth."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from percept.core.errors import PerceptError
from percept.world.clips.elements import Event, Plan, Shot, Track
from percept.world.elements import Scene

HAND = 255
"""Id of the pixels of a hand that picks something up."""
HIDDEN, CLEAR = 0.02, 0.45
"""Visible share below which an object counts as not visible, and above which it counts as clearly visible."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Footage:
    """Rendered frames. Fields of the ground truth are None if they were rendered without."""

    plan: Plan
    frames: UInt8[np.ndarray, "t y x 3"]
    ids: UInt8[np.ndarray, "t y x"] | None
    """Track at each pixel plus 1; 0 is background, `HAND` a hand."""
    boxes: Float[np.ndarray, "t k 4"] | None
    """Box of the visible part of each track, xyxy in [0, 1]; zeros where it is not visible."""
    visible: Float[np.ndarray, "t k"] | None
    """Share of each track that is neither hidden, nor outside the image, nor faded."""
    depth: Float[np.ndarray, "t y x"] | None
    """From 0 nearest to 1 farthest."""
    word_boxes: Float[np.ndarray, "t m 4"]
    """Box of the ink of each word of all places, xyxy in [0, 1]; zeros where it is not in the image."""

    @property
    def size(self) -> int:
        """Side of the frames in pixels."""
        return self.frames.shape[1]

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Objects, by number."""
        return self.plan.tracks

    @property
    def events(self) -> tuple[Event, ...]:
        """Events in order of their first frames."""
        return self.plan.events

    @property
    def shots(self) -> tuple[Shot, ...]:
        """Shots in order."""
        return self.plan.shots

    @property
    def cuts(self) -> tuple[int, ...]:
        """First frames of all shots but the first."""
        return self.plan.cuts

    @property
    def camera(self) -> Float[np.ndarray, "t 3"]:
        """Left, top and side of the visible window in every frame, in image sides of its place."""
        return self.plan.camera

    def mask(self, track: int) -> Bool[np.ndarray, "t y x"]:
        """Return the visible pixels of a track."""
        if self.ids is None:
            raise PerceptError("the clip was rendered without ground truth. Render it with truth=True.")
        return self.ids == track + 1

    @property
    def masks(self) -> Bool[np.ndarray, "t k y x"]:
        """Visible pixels of all tracks; masks do not overlap."""
        return np.stack([self.mask(track.number) for track in self.tracks], axis=1)

    def shares(self) -> Float[np.ndarray, "t k"]:
        """Return the visible share of every track in every frame.

        Raises:
            PerceptError: the clip was rendered without ground truth.
        """
        if self.visible is None:
            raise PerceptError("the clip was rendered without ground truth. Render it with truth=True.")
        return self.visible

    def clearly_visible(self, frame: int) -> list[Track]:
        """Return the tracks of which enough is visible in a frame to recognise them."""
        shares = self.shares()[frame]
        return [track for track in self.plan.on_stage(frame) if shares[track.number] > CLEAR]

    def scene(self, frame: int) -> Scene:
        """Return one frame as a scene with the objects that are clearly visible, so that image texts apply to it."""
        return self.plan.scene(frame, self.clearly_visible(frame))

    def is_clear(self, frame: int) -> bool:
        """Return whether every object is either clearly visible in a frame or not at all, and no hand is there."""
        assert self.ids is not None
        visible = int((self.shares()[frame] > HIDDEN).sum())
        return visible == len(self.clearly_visible(frame)) and not (self.ids[frame] == HAND).any()
