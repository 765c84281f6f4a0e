"""Frame choice: the published formulae, against their plain form and numbers obtained from the public code."""

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.data.video import CHOICES, choose, frames_within


def regular(count: int, rate: float = 30) -> tuple[np.ndarray, float]:
    return np.arange(count) / rate, count / rate


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 100, 14_999])
@pytest.mark.parametrize("count", [1, 2, 8, 16])
def test_the_conventions_of_the_perception_encoder(length: int, count: int) -> None:
    ends = [int(i * (length - 1) / (count - 1)) for i in range(count)] if count > 1 else [length // 2]
    assert choose(*regular(length), count) == ends
    assert choose(*regular(length), count, "pe-demo") == [int(i * length / count) for i in range(count)]


@pytest.mark.parametrize(
    ("length", "rate", "count", "starts"),
    [  # printed by the public video transform
        (300, 30, 8, [0, 30, 90, 120, 150, 180, 240, 270]),
        (300, 30, 32, [0, 10, 19, 29, 39, 48]),
        (1800, 30, 32, [0, 60, 120, 180, 240, 300, 330, 390]),
        (73, 6, 32, [0, 2, 5, 7, 9, 12]),
    ],
)
def test_the_convention_of_the_language_model(length: int, rate: int, count: int, starts: list[int]) -> None:
    chosen = choose(*regular(length, rate), count, "plm")
    assert chosen[: len(starts)] == starts
    assert len(chosen) == count


def test_the_language_model_takes_each_frame_of_a_short_clip_once() -> None:
    assert choose(*regular(3), 8, "plm") == [0, 1, 2]
    assert choose(*regular(4, 0.2), 2, "plm") == [0, 3]  # the public code fails below half a frame per second


def test_time_goes_by_the_clock() -> None:
    times = np.array([0, 8, 8.1, 8.2, 8.3, 9.9])
    assert choose(times, 10.0, 5, "time") == [0, 0, 0, 0, 4]
    assert choose(times, 10.0, 5) == [0, 1, 2, 3, 5]
    looked = [int(np.flatnonzero(times <= second)[-1]) for second in (1, 3, 5, 7, 9)]
    assert choose(times, 10.0, 5, "time") == looked


@pytest.mark.parametrize("choice", CHOICES)
def test_any_choice_is_ascending_and_inside(choice: str) -> None:
    for length in range(1, 40):
        for count in range(1, 20):
            chosen = choose(*regular(length), count, choice)
            assert chosen == sorted(chosen)
            assert 0 <= chosen[0] <= chosen[-1] < length
            assert len(chosen) == (min(count, length) if choice == "plm" else count)


def test_windows_hold_what_is_on_screen() -> None:
    times = np.array([0, 1, 4, 4.5])
    shown = {
        (0.0, 5.0): range(4),
        (0.0, 1.0): range(1),
        (2.0, 3.0): range(1, 2),
        (0.5, 4.2): range(3),
        (4.6, 99.0): range(3, 4),
    }
    assert {window: frames_within(times, 5.0, window) for window in shown} == shown


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ((1.0, 1.0), "not a stretch"), ((2.0, 1.0), "not a stretch"), ((-1.0, 1.0), "not a stretch"),
        ((0.0, float("nan")), "not a stretch"), ((float("nan"), 1.0), "not a stretch"), ((5.0, 6.0), "after the end of the clip, which lasts 5.00 s"),
    ],
)  # fmt: skip
def test_impossible_windows(window: tuple[float, float], words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        frames_within(np.array([0, 1.0]), 5.0, window)


@pytest.mark.parametrize(
    ("count", "choice", "words"),
    [(0, "time", "from 1 on"), (-1, "plm", "from 1 on"), (8, "pe-evalution", "'pe-evaluation'")],
)  # fmt: skip
def test_impossible_choices(count: int, choice: str, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        choose(*regular(9), count, choice)


def test_no_frames_no_choice() -> None:
    with pytest.raises(PerceptError, match="at least one frame"):
        choose(np.zeros(0), 0.0, 8)
