"""Videos in an index: cut where the scene changes and after a while, found by their spans, with dates and thumbnails."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.video import open_video
from percept.search.cutting import Cutting
from percept.search.index import Index
from percept.search.reading import THUMBNAIL, date_taken
from percept.search.scenes import cut, sampled
from percept.search.store import Filter, Piece
from tests.search.fakes import COLOURS, ColourEncoder, picture

RATE = 10


def film(path: Path, scenes: list[tuple[str, float]], *, size: tuple[int, int] = (64, 48)) -> Path:
    """Write a video of plain scenes: (colour, seconds)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options={"crf": "10", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for colour, seconds in scenes:
            frame = av.VideoFrame.from_image(Image.new("RGB", size, COLOURS[colour]))
            for _ in range(round(seconds * RATE)):
                output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def spans(path: Path, cutting: Cutting | None = None) -> list[tuple[float, float]]:
    with open_video(path) as video:
        pieces = list(cut(video, ColourEncoder().preprocess, cutting or Cutting()))
    return [(round(piece.start, 2), round(piece.stop, 2)) for piece in pieces]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("films") / "three.mp4", [("red", 3), ("white", 4), ("black", 2)])


def test_a_piece_ends_where_the_scene_changes(three: Path) -> None:
    assert spans(three) == [(0.0, 3.0), (3.0, 7.0), (7.0, 9.0)]
    assert spans(three, Cutting(scene_change=1.0)) == [(0.0, 9.0)]


def test_a_long_scene_is_cut_after_the_window(three: Path, tmp_path: Path) -> None:
    assert spans(three, Cutting(window=2.0)) == [(0.0, 2.0), (2.0, 3.0), (3.0, 5.0), (5.0, 7.0), (7.0, 9.0)]
    assert spans(film(tmp_path / "still.mp4", [("blue", 23)])) == [(0.0, 10.0), (10.0, 20.0), (20.0, 23.0)]


def test_slow_changes_and_short_flashes_are_not_scenes(tmp_path: Path) -> None:
    path = tmp_path / "fade.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(60):
            grey = Image.new("RGB", (64, 48), (4 * number,) * 3)
            output.mux(stream.encode(av.VideoFrame.from_image(grey)))
        output.mux(stream.encode())
    assert spans(path) == [(0.0, 6.0)]


@pytest.mark.parametrize("seconds", [0.1, 0.4, 1.0])
def test_a_short_video_is_one_piece(seconds: float, tmp_path: Path) -> None:
    assert spans(film(tmp_path / "short.mp4", [("green", seconds)])) == [(0.0, seconds)]


def test_pieces_touch_and_are_the_whole_video(three: Path) -> None:
    for cutting in (Cutting(window=1.3), Cutting(rate=3.0, window=2.5), Cutting(rate=50.0)):
        parts = spans(three, cutting)
        assert (parts[0][0], parts[-1][1]) == (0.0, 9.0)
        assert [stop for _, stop in parts[:-1]] == [start for start, _ in parts[1:]]
        assert all(stop - start <= cutting.window + 1 / cutting.rate + 0.01 for start, stop in parts)


def test_frames_are_looked_at_by_the_clock() -> None:
    times = np.array([0.0, 0.1, 0.2, 1.4, 1.5])  # one frame stays for more than a second
    assert sampled(times, 2.0, 2.0) == [0, 2, 4]


def test_impossible_cutting_is_refused() -> None:
    for options in ({"window": 0.0}, {"rate": -1.0}, {"frames": 0}):
        with pytest.raises(PerceptError, match="window, rate and frames must be positive"):
            Cutting(**options)  # type: ignore[arg-type]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index.create(tmp_path / "index", ColourEncoder())


def pieces(index: Index, **condition: object) -> list[Piece]:
    return index.store.pieces(index.store.where(Filter(**condition)))  # type: ignore[arg-type]


def test_videos_are_indexed_by_their_pieces(index: Index, tmp_path: Path) -> None:
    film(tmp_path / "media" / "walk.mp4", [("red", 3), ("white", 4), ("black", 2)], size=(640, 360))
    picture(tmp_path / "media" / "a.png", "blue")
    report = index.add(tmp_path / "media")
    assert (report.added, report.bad, len(index)) == (2, [], 2)
    found = pieces(index, kind="video")
    assert [(piece.start, piece.stop) for piece in found] == [(0.0, 3.0), (3.0, 7.0), (7.0, 9.0)]
    assert {(piece.width, piece.height, piece.seconds) for piece in found} == {(640, 360, 9.0)}
    with open_video(tmp_path / "media" / "walk.mp4") as video:
        frames = [image for _, image in video.frames([0, 5, 10, 15, 20, 25])]
    expected = F.normalize(ColourEncoder().image(frames).mean(0), dim=0)
    ids, vectors = next(index.store.vectors())
    row = vectors[ids == found[0].id][0]
    torch.testing.assert_close(torch.from_numpy(np.array(row)), expected, atol=2e-3, rtol=0)
    with Image.open(io.BytesIO(index.store.thumbnail(found[0].content) or b"")) as thumbnail:
        assert thumbnail.size == (THUMBNAIL, 180)
        assert min(thumbnail.convert("RGB").getpixel((100, 100))) > 240  # type: ignore[arg-type, type-var] - the middle is white
    again = index.add()
    assert (again.unchanged, again.added) == (2, 0)


def test_moved_and_copied_videos_are_not_decoded_again(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / "media" / "a.mp4", [("red", 2)])
    index.add(tmp_path / "media")
    path.rename(path.with_name("b.mp4"))
    path.with_name("copy.mp4").write_bytes(path.with_name("b.mp4").read_bytes())
    monkeypatch.setattr("percept.search.reading.open_video", lambda path: pytest.fail(f"decoded {path}"))
    report = index.add()
    assert (report.reused, report.added, len(report.removed), len(index)) == (2, 0, 1, 2)
    assert len(pieces(index)) == 1


def test_damaged_videos_are_listed_once_read_and_remembered(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / "media" / "a.mp4", [("red", 2)])
    path.write_bytes(path.read_bytes()[:600])
    (tmp_path / "media" / "empty.mp4").touch()
    report = index.add(tmp_path / "media")
    assert [file.path.name for file in report.bad] == ["a.mp4", "empty.mp4"]
    assert report.bad[1].reason == "is empty (0 bytes)"
    monkeypatch.setattr("percept.search.reading.open_video", lambda path: pytest.fail(f"decoded {path}"))
    assert [file.reason for file in index.add().bad] == [file.reason for file in report.bad]


def test_without_the_video_library_images_are_still_indexed(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    film(tmp_path / "media" / "a.mp4", [("red", 2)])
    picture(tmp_path / "media" / "a.png", "blue")
    with monkeypatch.context() as without:
        without.setattr("percept.search.build.find_spec", lambda name: None)
        assert index.add(tmp_path / "media").added == 1
    assert "1 video is left out; to read them: pip install 'percept-models[video]'" in " ".join(
        capsys.readouterr().err.split()
    )
    assert index.add().added == 1  # nothing was remembered against it


def photo(path: Path, date: str | None, *, offset: str | None = None, size: tuple[int, int] = (40, 30)) -> Path:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    if date is not None:
        exif.get_ifd(0x8769)[0x9003] = date
    if offset is not None:
        exif.get_ifd(0x8769)[0x9011] = offset
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path, exif=exif)
    return path


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_dates_are_read_from_exif(ending: str, tmp_path: Path) -> None:
    path = photo(tmp_path / f"a.{ending}", "2024:05:17 12:00:00", offset="+02:00")
    assert date_taken(path.read_bytes()) == 1715940000.0
    local = date_taken(photo(path, "2024:05:17 12:00:00").read_bytes())
    assert local is not None
    assert abs(local - 1715947200) <= 14 * 3600


def test_the_date_of_the_file_counts_where_there_is_no_other(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0132] = "2024:05:17 12:00:00"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.tif", exif=exif)
    assert abs((date_taken((tmp_path / "a.tif").read_bytes()) or 0) - 1715947200) <= 14 * 3600


@pytest.mark.parametrize("date", [None, "", "0000:00:00 00:00:00", "yesterday", "2024:13:45 99:00:00"])
def test_dates_that_are_none(date: str | None, tmp_path: Path) -> None:
    assert date_taken(photo(tmp_path / "a.jpg", date).read_bytes()) is None
    assert date_taken(b"not an image") is None


def test_dates_filter_and_thumbnails_keep_their_size(index: Index, tmp_path: Path) -> None:
    photo(tmp_path / "media" / "old.jpg", "2004:05:17 12:00:00", size=(2000, 1000))
    photo(tmp_path / "media" / "new.jpg", "2024:05:17 12:00:00", size=(30, 20))
    index.add(tmp_path / "media")
    (old,) = pieces(index, before=1.2e9)
    (new,) = pieces(index, after=1.2e9)
    assert (old.paths[0].name, new.paths[0].name) == ("old.jpg", "new.jpg")
    sizes = [Image.open(io.BytesIO(index.store.thumbnail(piece.content) or b"")).size for piece in (old, new)]
    assert sizes == [(THUMBNAIL, THUMBNAIL // 2), (30, 20)]
