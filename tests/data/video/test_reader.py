"""Reading videos: the frame asked for is the frame that comes, however it is reached; anything else is refused plainly."""

import gc
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.images import read_image
from percept.data.video import frames_within, open_video
from percept.data.video.reader import upright
from tests.data.video.films import HEIGHT, WIDTH, film, gif, number_on, numbered, png, sound_only, turned

KINDS: dict[str, dict[str, Any]] = {
    "a.mp4": {"bf": "0"},
    "b.mp4": {"bf": "3"},
    "open.mp4": {"x264-params": "open-gop=1:bframes=3:scenecut=0:log-level=none"},
    "short.mp4": {"x264-params": "keyint=2:bframes=3:log-level=none"},
    "b.mkv": {"bf": "3"},
    "b.ts": {"bf": "3"},
    "b.avi": {"bf": "2"},
    "raw.h264": {"bf": "2"},
    "a.mov": {"codec": "mjpeg"},
    "mpeg4.avi": {"codec": "mpeg4", "bf": "2"},
    "mpeg2.mpg": {"codec": "mpeg2video", "bf": "2"},
    "vp8.webm": {"codec": "libvpx", "auto-alt-ref": "1", "lag-in-frames": "10", "deadline": "realtime"},
    "vp9.webm": {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": "8"},
}
COUNT = 40
REGULAR: dict[str, Any] = {"x264-params": "scenecut=0:log-level=none"}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("films") / request.param, COUNT, **KINDS[request.param])


def everything(path: Path) -> list[np.ndarray]:
    """Decode all frames with the library alone, in its order."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def pixels(path: Path, numbers: list[int], **options: int | None) -> dict[int, np.ndarray]:
    with open_video(path) as video:
        return {number: np.asarray(picture) for number, picture in video.frames(numbers, **options)}


def test_each_frame_is_the_one_asked_for(kind: Path) -> None:
    with open_video(kind) as video:
        assert len(video) == COUNT
        np.testing.assert_allclose(video.times, np.arange(COUNT) / 25, atol=2e-3)
        assert video.duration == pytest.approx(COUNT / 25, abs=5e-3)
        for number in (COUNT - 1, 0, 17, 3, 2, 38):
            found = list(video.frames([number], jump=0))
            assert [(place, number_on(picture)) for place, picture in found] == [(number, number)]


def test_jumping_and_decoding_through_give_the_same_pixels(kind: Path) -> None:
    expected = everything(kind)
    for numbers in ([5, 6, 7], [0, 13, 25, 39], [31], [2, 3, 19, 20, 37], list(range(COUNT))):
        for jump in (None, 0, 8):
            found = pixels(kind, numbers, jump=jump)
            assert list(found) == numbers
            assert all(np.array_equal(found[number], expected[number]) for number in numbers)


def test_sparse_frames_are_reached_by_jumps_and_near_ones_by_decoding_on(tmp_path: Path) -> None:
    path = film(tmp_path / "long.mp4", 300, gop=20, **REGULAR)
    with open_video(path) as video:
        assert [number for number, _ in video.frames([21, 141, 281])] == [21, 141, 281]
        jumped, video.decoded = video.decoded, 0
        list(video.frames([21, 141, 281], jump=None))
        through, video.decoded = video.decoded, 0
        list(video.frames(range(0, 300, 5)))
        dense = video.decoded
    assert jumped < 20  # two or three frames behind each of three keyframes, and what the decoder holds back
    assert through >= 282
    assert 296 <= dense <= 300  # each frame once


def test_variable_frame_rate_goes_by_timestamps(tmp_path: Path) -> None:
    stamps = [0, 40, 80, 1080, 1100, 3000, 3017]
    for name in ("v.mkv", "v.mp4"):
        path = film(tmp_path / name, len(stamps), stamps=stamps, unit=Fraction(1, 1000))
        with open_video(path) as video:
            np.testing.assert_allclose(video.times, np.array(stamps) / 1000, atol=1e-3)
            shown = [number_on(picture) for _, picture in video.frames(frames_within(video.times, 9.0, (1.0, 3.01)))]
            assert shown == [2, 3, 4, 5]


def test_times_begin_at_the_first_frame(tmp_path: Path) -> None:
    path = film(tmp_path / "late.mkv", 3, stamps=[5000, 5040, 5080], unit=Fraction(1, 1000))
    with open_video(path) as video:
        np.testing.assert_allclose(video.times, [0, 0.04, 0.08], atol=1e-3)
        assert video.duration == pytest.approx(0.12, abs=2e-3)


def test_one_frame(tmp_path: Path) -> None:
    for name in ("one.mp4", "one.mkv", "one.avi"):
        with open_video(film(tmp_path / name, 1)) as video:
            assert len(video) == 1
            assert video.duration == pytest.approx(0.04, abs=1e-3)
            assert [number for number, _ in video.frames([0, 0])] == [0]


TURNS: dict[tuple[int, int, int, int], Callable[[Image.Image], Image.Image]] = {
    (1, 0, 0, 1): lambda image: image,
    (0, 1, -1, 0): lambda image: image.transpose(Image.Transpose.ROTATE_270),  # clockwise by 90 degrees
    (-1, 0, 0, -1): lambda image: image.transpose(Image.Transpose.ROTATE_180),
    (0, -1, 1, 0): lambda image: image.transpose(Image.Transpose.ROTATE_90),
    (-1, 0, 0, 1): lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    (1, 0, 0, -1): lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    (0, 1, 1, 0): lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    (0, -1, -1, 0): lambda image: image.transpose(Image.Transpose.TRANSVERSE),
}


@pytest.mark.parametrize("matrix", TURNS)
def test_frames_are_upright(matrix: tuple[int, int, int, int], tmp_path: Path) -> None:
    path = film(tmp_path / "phone.mp4", 2)
    plain = Image.fromarray(everything(path)[1])
    found = pixels(turned(path, matrix), [1])[1]
    assert np.array_equal(found, np.asarray(TURNS[matrix](plain)))


def test_a_slanted_matrix_takes_the_nearest_right_angle() -> None:
    stored = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert np.array_equal(upright(stored, (60000, -8000, 8000, 60000)), stored)
    assert upright(stored, (8000, 60000, -60000, 8000)).shape == (4, 2, 3)


def test_a_gif_is_a_clip(tmp_path: Path) -> None:
    path = gif(tmp_path / "three.gif", ["red", "lime", "blue"], [100, 500, 200])
    with open_video(path) as video:
        np.testing.assert_allclose(video.times, [0, 0.1, 0.6])
        assert video.duration == pytest.approx(0.8)
        colours = [picture.getpixel((5, 5)) for _, picture in video.frames([0, 1, 2])]
    assert colours == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_transparency_is_over_white_as_in_pictures(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    clear.paste((200, 10, 10, 255), (5, 5, 15, 15))
    clear.save(tmp_path / "clear.gif")
    found = pixels(tmp_path / "clear.gif", [0])[0]
    assert np.array_equal(found, np.asarray(read_image(tmp_path / "clear.gif")))
    assert found[0, 0].tolist() == [255, 255, 255]


def test_bytes_and_strange_names(tmp_path: Path) -> None:
    data = film(tmp_path / "a.mp4", 3).read_bytes()
    expected = everything(tmp_path / "a.mp4")[2]
    names = ["%03d.mp4", "concat:a.mp4", "a b'c.mp4", "猫.mp4", "byte\udcff.mp4", "no_ending"]
    for source in (data, *(tmp_path / name for name in names)):
        if isinstance(source, Path):
            source.write_bytes(data)
        with open_video(source) as video:
            assert np.array_equal(np.asarray(dict(video.frames([2]))[2]), expected)


def test_sound_beside_the_pictures_does_not_matter(tmp_path: Path) -> None:
    with open_video(film(tmp_path / "talk.mp4", 12, sound=True)) as video:
        assert [number_on(picture) for _, picture in video.frames(range(12))] == list(range(12))


@pytest.mark.parametrize("name", ["front.mp4", "behind.mov", "b.mkv", "b.avi"])
def test_a_file_cut_short_is_refused(name: str, tmp_path: Path) -> None:
    first = {"movflags": "faststart"} if name.endswith("mp4") else None  # the table of frames in front
    whole = film(tmp_path / name, 200, gop=20, container=first).read_bytes()
    for share in (0.05, 0.5, 0.8):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(PerceptError, match="damaged or cut short"):
            pixels(tmp_path / name, [0])


def test_frames_that_cannot_be_decoded_are_refused(tmp_path: Path) -> None:
    data = bytearray(film(tmp_path / "a.mp4", 60).read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[start:end] = np.random.default_rng(0).bytes(end - start)
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(PerceptError, match=r"a\.mp4 is damaged or cut short"):
        pixels(tmp_path / "a.mp4", [0, 30])


def test_a_listed_frame_that_is_never_shown_stands_for_the_one_on_screen(tmp_path: Path) -> None:
    with open_video(film(tmp_path / "a.mp4", 12)) as video:
        stamps = video._table.stamps
        video._table = replace(video._table, stamps=sorted([*stamps, stamps[4] + 1]))
        assert [number_on(picture) for _, picture in video.frames([4, 5, 6])] == [4, 4, 5]
        video._table = replace(video._table, stamps=[*stamps, *(stamps[-1] + 10**6 * n for n in range(1, 9))])
        with pytest.raises(PerceptError, match=r"frame 18, at .* s, is not in it"):
            list(video.frames([18]))


def bad(folder: Path, name: str) -> Path:
    path = folder / name
    contents = {
        "empty.mp4": b"",
        "text.mp4": b"this is not a video at all, only words\n" * 20,
        "picture.mp4": png(),
        "script.mp4": f"ffconcat version 1.0\nfile {film(folder / 'secret.mp4', 2).name}\n".encode(),
        "list.m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "noise.mp4": np.random.default_rng(1).bytes(5000),
    }
    if name in contents:
        path.write_bytes(contents[name])
    elif name == "sound.mp4":
        sound_only(path)
    elif name == "folder.mp4":
        path.mkdir()
    elif name == "nothing.mkv":
        path.write_bytes(film(path, 5).read_bytes()[:500])
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty.mp4", r"empty \(0 bytes\)"),
        ("text.mp4", "is not a video: it is text"),
        ("picture.mp4", "is an image, not a video"),
        ("script.mp4", "is not a video"),
        ("list.m3u8", "is not a video"),
        ("noise.mp4", "is not a video"),
        ("sound.mp4", "no video stream, only audio"),
        ("folder.mp4", "is a folder, not a file"),
        ("nothing.mkv", "damaged or cut short"),
        ("missing.mp4", "there is no file"),
    ],
)
def test_what_is_no_video_is_refused_with_the_reason(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match=words):
        open_video(bad(tmp_path, name))


def test_urls_are_refused() -> None:
    with pytest.raises(PerceptError, match="is a url, and nothing is fetched"):
        open_video("https://example.org/walk.mp4")


def test_a_frame_that_is_not_there(tmp_path: Path) -> None:
    with open_video(film(tmp_path / "a.mp4", 3)) as video, pytest.raises(PerceptError, match="3 frames, 0 to 2"):
        list(video.frames([3]))


def test_frames_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("percept.data.video.files.MAX_FRAME_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(PerceptError, match=f"{WIDTH} × {HEIGHT} pixels"):
        open_video(film(tmp_path / "a.mp4", 1))


def test_the_library_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4", 1)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(PerceptError, match=r"PyAV.*percept-models\[video\]"):
        open_video(path)


def test_numbers_survive_encoding() -> None:
    assert [number_on(Image.fromarray(numbered(number))) for number in (0, 1, 513, 1023)] == [0, 1, 513, 1023]


def test_a_title_that_is_not_utf8_does_not_matter(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", 5, title="Cafe XXXX")
    data = path.read_bytes()
    assert b"Cafe" in data
    with open_video(data.replace(b"Cafe", b"Caf\xe9")) as video:
        assert len(video) == 5


@pytest.mark.parametrize("stage", ["open", "decode"])
def test_whatever_the_library_raises_is_the_files_reason(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / "a.mp4", 5)

    def fails(*_: object, **__: object) -> None:
        raise UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid")

    monkeypatch.setattr("av.open" if stage == "open" else "percept.data.video.reader.from_packets", fails)
    with pytest.raises(PerceptError, match=r"a\.mp4 is damaged or cut short: (its beginning|the decoder cannot read)"):
        open_video(path)


def test_listing_a_video_has_a_budget_of_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4", 5)
    monkeypatch.setattr("percept.data.video.table.VIDEO_SECONDS", -1.0)
    with pytest.raises(PerceptError, match=r"a\.mp4 takes more than -1 s to list"):
        open_video(path)


def test_no_thread_and_no_decoder_outlives_a_video(tmp_path: Path) -> None:
    path, cut = film(tmp_path / "a.mp4", 20), film(tmp_path / "b.mkv", 20).read_bytes()[:-500]
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("threads of libraries are not listed here")

    def use() -> None:
        with open_video(path) as video:
            list(video.frames([0, 5, 15]))
        with open_video(path) as video:
            next(video.frames([3]))  # left in the middle
        with pytest.raises(PerceptError):
            open_video(cut)

    use()
    gc.collect()
    gc.disable()
    try:
        before = len(list(tasks.iterdir()))
        for _ in range(5):
            use()
        assert len(list(tasks.iterdir())) <= before
    finally:
        gc.enable()


def test_a_closed_video_says_so(tmp_path: Path) -> None:
    with open_video(film(tmp_path / "a.mp4", 3)) as video:
        pass
    with pytest.raises(PerceptError, match="is closed"):
        list(video.frames([0]))


def test_a_video_from_a_pipe_is_read(tmp_path: Path) -> None:
    data = film(tmp_path / "a.mp4", 3).read_bytes()
    read, write = os.pipe()
    threading.Thread(target=lambda: (os.write(write, data), os.close(write))).start()
    with open_video(f"/dev/fd/{read}") as video:
        assert len(video) == 3
    os.close(read)
