"""A rendered clip with its texts and questions, as plain data for json."""

import random
from typing import Any

from percept.core.config import to_dict
from percept.core.seed import derive
from percept.world.clips import language
from percept.world.clips.footage import HIDDEN, Footage
from percept.world.clips.questions import questions
from percept.world.clips.splits import is_held_out


class Clip(Footage):
    """A rendered clip. Its texts are a function of the plan."""

    def rng(self, use: str) -> random.Random:
        """Return the random numbers of this clip for a use."""
        plan = self.plan
        return random.Random(derive(plan.seed, "clip", use, plan.split, plan.frames))

    def record(self) -> dict[str, Any]:
        """Return the ground truth and all texts as plain data for json.

        Boxes are xyxy in [0, 1], or None in frames in which the object is not visible. Frames count from 0, and the last frame of a
        span belongs to it. The camera is [left, top, side] per frame, in image sides of its place.

        Raises:
            PerceptError: the clip was rendered without ground truth.
        """
        plan, rng = self.plan, self.rng("record")
        return {
            "seed": plan.seed,
            "split": plan.split,
            "num_frames": plan.frames,
            "size": self.size,
            "places": [to_dict(place) for place in plan.places],
            "shots": [to_dict(shot) for shot in plan.shots],
            "cuts": list(plan.cuts),
            "camera": plan.camera.round(4).tolist(),
            "tracks": [self._track(track.number, rng) for track in plan.tracks],
            "words": [_rounded_boxes(self.word_boxes[:, number]) for number in range(self.word_boxes.shape[1])],
            "events": [
                {
                    **to_dict(event),
                    "text": language.sentence(plan, event),
                    "caption": language.event_caption(plan, event, rng),
                    "pace": language.pace(event),
                    "held_out": is_held_out(plan, event),
                }
                for event in plan.events
            ],
            "dense": [_span(segment) for segment in language.dense_events(plan)],
            "moments": [_span(segment) for segment in language.moments(plan)],
            "captions": {
                "short": language.short_caption(plan, rng),
                "long": language.long_caption(plan, rng),
                "frames": [language.frame_caption(self, frame, rng) for frame in range(plan.frames)],
            },
            "questions": [to_dict(each) for each in questions(self, rng)],
        }

    def _track(self, number: int, rng: random.Random) -> dict[str, Any]:
        track = self.plan.tracks[number]
        shares = self.shares()[:, number]
        assert self.boxes is not None
        return {
            "number": number,
            "place": track.place,
            "category": track.thing.category,
            "colour": track.thing.colour,
            "fill": track.thing.fill,
            "boxes": _rounded_boxes(self.boxes[:, number]),
            "visible": [round(float(share), 4) for share in shares],
            "path": track.path.rounded(),
            "caption": language.region_caption(self, number, rng),
            "segments": [_span(segment) for segment in language.story(self, number)],
            "out_of_frame": [frame for frame, share in enumerate(shares.tolist()) if share <= HIDDEN],
        }


def _span(segment: language.Segment) -> dict[str, Any]:
    return {"start": segment.start, "end": segment.end, "text": segment.text}


def _rounded_boxes(boxes: Any) -> list[list[float] | None]:
    return [[round(float(edge), 4) for edge in box] if box.any() else None for box in boxes]
