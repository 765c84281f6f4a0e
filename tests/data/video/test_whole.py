"""Videos that were cut: refused where the container announces a length, read up to the cut where it does not."""

from pathlib import Path
from typing import Any

import pytest

from percept.core.errors import PerceptError
from percept.data.video import open_video
from tests.data.video.films import film, gif, number_on

KINDS: dict[str, dict[str, Any]] = {
    "a.wmv": {"codec": "wmv2"},
    "a.asf": {"codec": "msmpeg4"},
    "a.flv": {"codec": "flv"},
    "h264.flv": {},
    "a.mkv": {},
    "a.webm": {"codec": "libvpx", "deadline": "realtime"},
    "a.avi": {"codec": "mpeg4"},
    "a.mp4": {},
    "a.gif": {},
}


def made(path: Path) -> bytes:
    if path.suffix == ".gif":
        gif(path, ["red", "lime", "blue", "white"] * 5, [100] * 20)
    else:
        film(path, 30, **KINDS[path.name])
    return path.read_bytes()


@pytest.mark.parametrize("name", KINDS)
def test_a_cut_is_noticed_wherever_it_is(name: str, tmp_path: Path) -> None:
    data = made(tmp_path / name)
    with open_video(data) as video:
        assert len(video) == (20 if name == "a.gif" else 30)
    for kept in (0.3, 0.5, 0.7, 0.9, 0.99):
        with pytest.raises(PerceptError, match="damaged or cut short"):
            open_video(data[: int(len(data) * kept)])


def test_a_live_recording_announces_nothing(tmp_path: Path) -> None:
    path = film(tmp_path / "live.mkv", 30, gop=5, container={"live": "1"})
    with open_video(path) as video:
        assert len(video) == 30
    with open_video(path.read_bytes()[:-300]) as video:
        assert 0 < len(video) <= 30


def test_a_transport_stream_is_read_up_to_the_cut(tmp_path: Path) -> None:
    data = film(tmp_path / "a.ts", 60, gop=5).read_bytes()
    with open_video(data[: len(data) // 2]) as video:
        count = len(video)
        shown = [number_on(image) for _, image in video.frames(range(count))]
    assert 10 < count < 60
    assert shown[:-1] == list(range(count - 1))  # the last frame may lack its end


def test_joined_transport_streams_are_one_clip(tmp_path: Path) -> None:
    data = film(tmp_path / "a.ts", 30).read_bytes()
    for times in (2, 3):
        with open_video(data * times) as video:
            assert len(video) == 30 * times
            assert [number_on(image) for _, image in video.frames(range(30 * times))] == list(range(30)) * times


def test_material_exchange_files_end_with_their_footer(tmp_path: Path) -> None:
    data = film(tmp_path / "a.mxf", 30, codec="mpeg2video").read_bytes()
    for kept in (0.3, 0.5, 0.7, 0.9):
        with pytest.raises(PerceptError, match="damaged or cut short: it announces"):
            open_video(data[: int(len(data) * kept)])
    with open_video(data[:-100]) as video:  # inside the footer: every frame is there
        assert [number_on(image) for _, image in video.frames(range(len(video)))] == list(range(30))
