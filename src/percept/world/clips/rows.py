"""Rows of clips in the json schemas of the field: video question answering, PLM region tasks, and video with caption.

The region tasks are those of PLM (Cho et al. 2025, arXiv:2504.13180, sec. 5): RCap describes what an object does in a span, RTLoc
finds the span of a description, and RDCap lists everything that an object does. Boxes are in pixels per original frame; frame
numbers in the texts count the frames that the model samples.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from percept.core.errors import PerceptError, unknown_name
from percept.data.chat.regions import box_text
from percept.data.video.choice import choose
from percept.world.clips.clip import Clip
from percept.world.clips.language import (
    OUT_OF_FRAME,
    Segment,
    dense_events,
    long_caption,
    moments,
    name,
    short_caption,
    story,
)
from percept.world.clips.questions import questions
from percept.world.clips.splits import is_held_out

TASKS = ("caption", "dense", "moment", "place", "qa", "choice", "rcap", "rtloc", "rdcap")
"""Kinds of rows: caption, dense event list, time of an event, place of an object in a frame, question, question with two options, and the region
tasks of PLM."""
PLACES = 2
"""Frames in which each object is asked for."""
SAMPLED = 32
"""Frames that PLM samples from a video."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of training or evaluation data."""

    task: str
    """A name of `TASKS`."""
    data: dict[str, Any]
    """The row as it is written to a json lines file."""
    held_out: bool
    """True if its answer relies on a composition of the evaluation split."""


def sampled_frame(frame: int, total: int, sampled: int = SAMPLED) -> int:
    """Return the number among `sampled` uniform frames of frame `frame` of `total`, by the rule of PLM.

    >>> sampled_frame(0, 64), sampled_frame(63, 64), sampled_frame(20, 80)
    (0, 31, 8)
    """
    return int(frame / (total / sampled))


def clip_rows(clip: Clip, *, video: str, tasks: tuple[str, ...] = TASKS, sampled: int = SAMPLED) -> Iterator[Row]:
    """Yield the rows of a clip that is stored as `video`.

    Raises:
        PerceptError: unknown task, a clip without ground truth, or fewer than one sampled frame.
    """
    for task in tasks:
        if task not in TASKS:
            raise unknown_name("task", task, TASKS)
    if sampled < 1:
        raise PerceptError(f"sampled must be a positive number of frames, got {sampled}.")
    makers = {
        "caption": _caption_rows,
        "dense": _dense_rows,
        "moment": _moment_rows,
        "place": _place_rows,
        "qa": _question_rows,
        "choice": _choice_rows,
    }
    for task in tasks:
        rng = clip.rng(task)
        rows = makers[task](clip, rng, sampled) if task in makers else _region_rows(clip, task, sampled)
        for turns, held_out, extra in rows:
            talk = [{"from": ("human", "assistant")[index % 2], "value": turn} for index, turn in enumerate(turns)]
            yield Row(task=task, data={"video": video, **extra, "conversations": talk}, held_out=held_out)


def pvd_record(clip: Clip, *, frames_per_second: float = 6.0) -> dict[str, Any]:
    """Return the json part of a clip in the layout of the PE Video Dataset."""
    return {
        "human_caption": long_caption(clip.plan, clip.rng("caption")),
        "video_duration_in_s": round(clip.plan.frames / frames_per_second, 3),
    }


_Made = Iterator[tuple[tuple[str, ...], bool, dict[str, Any]]]
"""Turns of the conversation, whether the answer relies on a held-out composition, and further fields."""


def _caption_rows(clip: Clip, rng: random.Random, sampled: int) -> _Made:
    held_out = any(is_held_out(clip.plan, event) for event in clip.events)
    yield ("Describe the video in detail.", long_caption(clip.plan, rng)), held_out, {}
    yield ("Describe the video briefly.", short_caption(clip.plan, rng)), held_out, {}


def _dense_rows(clip: Clip, rng: random.Random, sampled: int) -> _Made:
    lines = [_line(clip, segment, segment.text, sampled) for segment in dense_events(clip.plan)]
    ask = f"The video has {sampled} frames. List all events in order, one per line, as [start, end]: text."
    yield (ask, "\n".join(lines)), any(is_held_out(clip.plan, event) for event in clip.events), {}


def _moment_rows(clip: Clip, rng: random.Random, sampled: int) -> _Made:
    for segment in moments(clip.plan):
        ask = (
            f"The video has {sampled} frames. In which frames does this happen: {segment.text}? Answer as [start, end]."
        )
        yield (ask, _span(clip, segment, sampled)), _relies(clip, segment), {}


def _place_rows(clip: Clip, rng: random.Random, sampled: int) -> _Made:
    """Ask for the visible box of each object in two of the sampled frames."""
    total = clip.plan.frames
    seen = choose(np.arange(total, dtype=np.float64), float(total), sampled, "plm")
    for track in clip.tracks:
        acts = [event for event in clip.events if track.number in event.subjects]
        held_out = any(is_held_out(clip.plan, event) for event in acts)
        for number in sorted(rng.sample(range(len(seen)), min(PLACES, len(seen)))):
            box = _true_boxes(clip)[seen[number], track.number]
            ask = f"In frame {number} of {len(seen)}: Give the box of {name(clip.plan, track.number)}."
            yield (ask, box_text(tuple(box.tolist())) if box.any() else OUT_OF_FRAME), held_out, {}


def _question_rows(clip: Clip, rng: random.Random, sampled: int) -> _Made:
    for each in questions(clip, rng):
        held_out = any(is_held_out(clip.plan, clip.events[number]) for number in each.events)
        yield (each.text, each.answer), held_out, {"question_type": each.kind}


def _choice_rows(clip: Clip, rng: random.Random, sampled: int) -> _Made:
    """Ask with two options, the form of the binary rows of PLM's fine-grained questions."""
    for each in questions(clip, rng):
        if not each.wrong:
            continue
        right = rng.randrange(2)
        options = (each.answer, each.wrong) if right == 0 else (each.wrong, each.answer)
        held_out = any(is_held_out(clip.plan, clip.events[number]) for number in each.events)
        ask = f"{each.text}\n(a) {options[0]}\n(b) {options[1]}\nAnswer with the letter of the correct option."
        extra = {
            "question": each.text, "answer": each.answer, "options": {"option_0": options[0], "option_1": options[1]},
            "answer_index": right, "question_type": each.kind,
        }  # fmt: skip
        yield (ask, f"({'ab'[right]})"), held_out, extra


def _region_rows(clip: Clip, task: str, sampled: int) -> _Made:
    for track in clip.tracks:
        segments = story(clip, track.number)
        extra = {"masklet_id": track.number, "total_frames": clip.plan.frames, "bbox_map": _boxes(clip, track.number)}
        if not any(box for box in extra["bbox_map"].values()):
            continue
        if task == "rdcap":
            lines = [_line(clip, segment, _told(clip, track.number, segment), sampled) for segment in segments]
            ask = (
                f"The video has {sampled} frames. List everything that the object in the red rectangle does, "
                "one line per segment, as [start, end]: text."
            )
            dense = [
                {"start_frame": each.start, "end_frame": each.end, "caption": _told(clip, track.number, each)}
                for each in segments
            ]
            held_out = any(_relies(clip, segment) for segment in segments)
            yield (ask, "\n".join(lines)), held_out, {**extra, "dense_captions": dense}
            continue
        counts = Counter(segment.text for segment in segments)
        for segment in segments:
            if segment.event is None or (task == "rtloc" and counts[segment.text] > 1):
                continue
            caption = _told(clip, track.number, segment)
            span = {"caption": caption, "start_frame": segment.start, "end_frame": segment.end}
            start, end = (sampled_frame(edge, clip.plan.frames, sampled) for edge in (segment.start, segment.end))
            if task == "rcap":
                ask = (
                    f"The video has {sampled} frames. Describe what the object in the red rectangle does "
                    f"from frame {start} to frame {end}."
                )
                yield (ask, caption), _relies(clip, segment), {**extra, **span}
            else:
                ask = (
                    f"The video has {sampled} frames. In which frames does this happen to the object in the red "
                    f"rectangle: {caption}? Answer as [start, end]."
                )
                yield (ask, _span(clip, segment, sampled)), _relies(clip, segment), {**extra, **span}


def _told(clip: Clip, track: int, segment: Segment) -> str:
    return OUT_OF_FRAME if segment.text == OUT_OF_FRAME else f"{name(clip.plan, track)} {segment.text}"


def _relies(clip: Clip, segment: Segment) -> bool:
    return segment.event is not None and is_held_out(clip.plan, clip.events[segment.event])


def _span(clip: Clip, segment: Segment, sampled: int) -> str:
    start, end = (sampled_frame(edge, clip.plan.frames, sampled) for edge in (segment.start, segment.end))
    return f"[{start}, {end}]"


def _line(clip: Clip, segment: Segment, text: str, sampled: int) -> str:
    return f"{_span(clip, segment, sampled)}: {text}"


def _boxes(clip: Clip, track: int) -> dict[str, list[float] | None]:
    """Return the box of a track in each original frame, xyxy in pixels; None where it is not visible."""
    return {
        str(frame): [round(float(edge) * clip.size, 1) for edge in box] if box.any() else None
        for frame, box in enumerate(_true_boxes(clip)[:, track])
    }


def _true_boxes(clip: Clip) -> Float[np.ndarray, "t k 4"]:
    if clip.boxes is None:
        raise PerceptError("the clip was rendered without ground truth. Render it with truth=True.")
    return clip.boxes
