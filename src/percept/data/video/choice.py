"""Which frames stand for a clip: the published conventions, each under the name of its source.

The published ones count frames, whatever time lies between them; `time` goes by the clock, for clips of variable frame
rate. All are deterministic and ascending; where a clip has fewer frames than are wanted, the conventions of the
Perception Encoder and `time` repeat some, as published, and `plm` takes each once.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from percept.core.errors import PerceptError, unknown_name

Times = Float[np.ndarray, " t"]


def pe_evaluation(times: Times, end: float, count: int) -> list[int]:
    """Take int(i (t - 1) / (count - 1)): first and last frame included; for count 1 the middle frame.

    Bolya et al. 2025, arXiv:2504.13181, the code of its zero-shot and retrieval evaluation.

    >>> pe_evaluation(np.arange(300) / 30, 10.0, 8)
    [0, 42, 85, 128, 170, 213, 256, 299]
    """
    if count == 1:
        return [len(times) // 2]
    return [i * (len(times) - 1) // (count - 1) for i in range(count)]


def pe_demo(times: Times, end: float, count: int) -> list[int]:
    """Take int(i t / count): the first frame of each of `count` equal parts.

    Bolya et al. 2025, arXiv:2504.13181, the demonstration notebook.

    >>> pe_demo(np.arange(300) / 30, 10.0, 8)
    [0, 37, 75, 112, 150, 187, 225, 262]
    """
    return [i * len(times) // count for i in range(count)]


def plm(times: Times, end: float, count: int) -> list[int]:
    """Take one frame per second; evenly among these if they are too many, evenly among all frames if too few.

    Cho et al. 2025, arXiv:2504.13180, the code of PLM's video transform: stride round(frame rate), positions
    round(i (m - 1) / (count - 1)). Differs from it: below 0.5 frames per second the stride is 1 (there: an error).

    >>> plm(np.arange(300) / 30, 10.0, 8)
    [0, 30, 90, 120, 150, 180, 240, 270]
    """
    rate = len(times) / (end - float(times[0]))
    candidates = list(range(0, len(times), max(1, round(rate))))
    if len(candidates) < count:
        candidates = list(range(len(times)))
    return [candidates[place] for place in _spread(len(candidates), min(count, len(candidates)))]


def _spread(length: int, count: int) -> list[int]:
    return [0] if count == 1 else [round(i * (length - 1) / (count - 1)) for i in range(count)]


def by_time(times: Times, end: float, count: int) -> list[int]:
    """Take the frames on screen in the middle of `count` equally long parts.

    >>> by_time(np.array([0.0, 9.0, 9.5]), 10.0, 5)
    [0, 0, 0, 0, 1]
    """
    middles = times[0] + (np.arange(count) + 0.5) * (end - times[0]) / count
    return np.maximum(np.searchsorted(times, middles, side="right") - 1, 0).tolist()


CHOICES: dict[str, Callable[[Any, float, int], list[int]]] = {
    "pe-evaluation": pe_evaluation,
    "pe-demo": pe_demo,
    "plm": plm,
    "time": by_time,
}
"""Name: function of (seconds at which each frame appears, second at which the last one ends, frames wanted)."""


def choose(times: Times, end: float, count: int, choice: str = "pe-evaluation") -> list[int]:
    """Return the numbers, from 0 and ascending, of the frames that stand for a clip.

    Args:
        times: seconds at which each frame appears.
        end: second at which the last frame leaves the screen.
        count: frames wanted.
        choice: a name of CHOICES.

    Raises:
        PerceptError: a count below 1, an unknown convention, or a clip without frames.
    """
    if choice not in CHOICES:
        raise unknown_name("way to choose frames", str(choice), CHOICES)
    if count < 1:
        raise PerceptError(f"{count} frames cannot stand for a clip. Take a number from 1 on; 8 is common.")
    if not len(times):
        raise PerceptError("a clip needs at least one frame, but there are none.")
    return CHOICES[choice](times, end, count)


def frames_within(times: Times, end: float, window: tuple[float, float]) -> range:
    """Return the numbers of the frames on screen in [start, stop), in seconds; a window is cut at the end of the clip.

    >>> frames_within(np.arange(10) / 2, 5.0, (0.7, 2.0))
    range(1, 4)

    Raises:
        PerceptError: the window is empty or reversed, is not made of numbers, or begins before 0 or after the end.
    """
    start, stop = window
    if not (math.isfinite(start) and not math.isnan(stop) and 0 <= start < stop):
        raise PerceptError(
            f"the window [{start}, {stop}] is not a stretch of time. Give [start, end] with 0 <= start < end."
        )
    if start >= end:
        raise PerceptError(
            f"the window [{start:g}, {stop:g}] begins after the end of the clip, which lasts {end:.2f} s."
        )
    first = int(np.searchsorted(times, start, side="right")) - 1
    return range(max(0, first), int(np.searchsorted(times, stop, side="left")))
