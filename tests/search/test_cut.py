"""Clips cut out of videos: the right frames at the right times, with their sound."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.data.video import open_video
from percept.search.cut import cut
from percept.search.thumbnails import frame_at
from tests.data.video.films import film, number_on


def shown(path: Path) -> tuple[list[int], list[float], float]:
    with open_video(path) as video:
        numbers = [number_on(image) for _, image in video.frames(range(len(video)))]
        return numbers, video.times.tolist(), video.duration


def test_a_clip_holds_the_frames_of_its_span(tmp_path: Path) -> None:
    source = film(tmp_path / "source.mp4", 60, rate=25, gop=30)
    cut(source, 0.4, 1.6, tmp_path / "out" / "clip.mp4")
    numbers, times, seconds = shown(tmp_path / "out" / "clip.mp4")
    assert numbers == list(range(10, 40))
    assert times == pytest.approx([number / 25 for number in range(30)], abs=1e-3)
    assert seconds == pytest.approx(1.2, abs=0.01)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["clip.mp4"]


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    stamps = [0, 100, 150, 400, 900, 1000, 1500]
    source = film(tmp_path / "source.mp4", 7, stamps=stamps, unit=Fraction(1, 1000))
    cut(source, 0.12, 1.2, tmp_path / "clip.mp4")
    numbers, times, seconds = shown(tmp_path / "clip.mp4")
    assert numbers == [1, 2, 3, 4, 5]  # the first is on screen at 0.12 s
    assert times == pytest.approx([0, 0.03, 0.28, 0.78, 0.88], abs=1e-3)
    assert seconds == pytest.approx(1.08, abs=0.02)


def test_a_span_ends_with_the_video_and_cannot_begin_after_it(tmp_path: Path) -> None:
    source = film(tmp_path / "source.mp4", 50, rate=25)
    cut(source, 1.8, 9.0, tmp_path / "clip.mp4")
    assert shown(tmp_path / "clip.mp4")[0] == list(range(45, 50))
    with pytest.raises(PerceptError, match="after the end"):
        cut(source, 5.0, 6.0, tmp_path / "none.mp4")
    with pytest.raises(PerceptError, match="no file"):
        cut(tmp_path / "gone.mp4", 0.0, 1.0, tmp_path / "none.mp4")
    assert not (tmp_path / "none.mp4").exists()


def test_sound_stays_with_its_frames(tmp_path: Path) -> None:
    source, rate = tmp_path / "beep.mp4", 16000
    with av.open(str(source), "w") as output:
        picture = output.add_stream("libx264", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        speech = output.add_stream("aac", rate=rate, layout="mono")
        for number in range(100):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(picture.encode(frame))
        output.mux(picture.encode())
        time = np.arange(4 * rate) / rate
        tone = np.where((time > 2) & (time < 2.5), np.sin(2 * np.pi * 800 * time), 0).astype(np.float32)
        for first in range(0, len(tone) - 1024, 1024):
            sound = av.AudioFrame.from_ndarray(tone[None, first : first + 1024], format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = rate, first, Fraction(1, rate)
            output.mux(speech.encode(sound))
        output.mux(speech.encode())
    cut(source, 1.5, 3.0, tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        parts = [(frame.time, np.abs(frame.to_ndarray()[0])) for frame in clip.decode(audio=0)]
    loud = [(time or 0) + np.flatnonzero(part > 0.3)[[0, -1]] / 48_000 for time, part in parts if (part > 0.3).any()]
    assert loud[0][0] == pytest.approx(0.5, abs=0.05)
    assert loud[-1][1] == pytest.approx(1.0, abs=0.05)


def test_a_frame_of_a_time(tmp_path: Path) -> None:
    source = film(tmp_path / "source.mp4", 50, rate=25)
    for seconds, number in ((0.0, 0), (1.0, 25), (1.03, 25), (99.0, 49)):
        image = frame_at(source, seconds, 320)
        assert image is not None
        assert number_on(image) == number
    assert frame_at(tmp_path / "gone.mp4", 1.0, 320) is None
