"""Folders: what is found, in which order, and that one bad file stops nothing."""

import os
import threading
import time
from pathlib import Path

import pytest

from percept.core.errors import PerceptError
from percept.data import heif
from percept.data.files import BadFile, find_images, find_media, in_order, is_video, read_each


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_pictures_are_found_recursively_in_natural_order(tmp_path: Path) -> None:
    touch(tmp_path, "img10.jpg", "img2.JPG", "Img1.png", "b/x.webp", "a.txt", ".hidden.jpg", ".git/y.png", "b/c/z.gif")
    names = [str(path.relative_to(tmp_path)) for path in find_images(tmp_path)]
    assert names == ["b/c/z.gif", "b/x.webp", "Img1.png", "img2.JPG", "img10.jpg"]


def test_named_files_are_taken_as_they_are_and_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "scan.dat")
    assert find_images([tmp_path / "scan.dat", tmp_path, str(tmp_path / "a.jpg")]) == [
        tmp_path / "scan.dat",
        tmp_path / "a.jpg",
    ]


def test_missing_and_empty_folders_say_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match="there is no file or folder"):
        find_images(tmp_path / "nowhere")
    touch(tmp_path, "notes.txt")
    with pytest.raises(PerceptError, match=r"no images in .*looked for names ending in .*\.jpg"):
        find_images(tmp_path)
    with pytest.raises(PerceptError, match="no path was given"):
        find_images([])


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/b.jpg")
    os.symlink(tmp_path, tmp_path / "a" / "up")
    assert find_images(tmp_path) == [tmp_path / "a" / "b.jpg"]


def test_results_keep_their_order_and_reading_stays_only_a_little_ahead() -> None:
    started: list[int] = []

    def slow(number: int) -> int:
        started.append(number)
        time.sleep(0.002 * (number % 3))
        return number

    results = in_order(slow, iter(range(100)), threads=4)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(started) <= 10 + 8 + 1
    results.close()
    assert len(started) < 30
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("percept-read")]


def test_an_error_in_the_function_reaches_the_caller() -> None:
    def fails(number: int) -> int:
        return 1 // (number - 2)

    with pytest.raises(ZeroDivisionError):
        list(in_order(fails, range(5)))


def test_images_that_are_not_read_are_counted_in_a_notice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heif, "is_installed", lambda: False)
    touch(tmp_path, "a.jpg", "b.HEIC", "c.heic", "d.mp4", "e.txt", "notes.json", "f.jp2", "g.ico", "h.tga", "i.ts")
    assert find_images(tmp_path) == [tmp_path / "a.jpg"]
    skipped = (
        "skipped, not read here: 2 .heic, 1 .ico, 1 .jp2, 1 .mp4, 1 .tga; for HEIC: pip install 'percept-models[heif]'"
    )
    assert skipped in " ".join(capsys.readouterr().err.split())
    assert find_media(tmp_path) == [tmp_path / "a.jpg", tmp_path / "d.mp4"]
    assert "2 .heic, 1 .ico, 1 .jp2, 1 .tga" in " ".join(capsys.readouterr().err.split())
    assert find_images(tmp_path / "b.HEIC") == [tmp_path / "b.HEIC"]  # named outright, it is tried
    assert not capsys.readouterr().err


def test_heic_is_found_where_the_extra_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heif, "is_installed", lambda: True)
    touch(tmp_path, "b.HEIC", "c.jpg")
    assert find_images(tmp_path) == [tmp_path / "b.HEIC", tmp_path / "c.jpg"]


def test_a_folder_under_two_names_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "p/a.jpg", "p/b.jpg")
    os.symlink(tmp_path / "p", tmp_path / "link")
    os.symlink("a.jpg", tmp_path / "p" / "c.jpg")
    monkeypatch.chdir(tmp_path)
    names = ["p/a.jpg", "p/b.jpg", "p/c.jpg"]  # c is a name of its own
    for again in ("p/../p", "./p", tmp_path / "p", "link", tmp_path / "link" / "a.jpg"):
        assert [str(path) for path in find_images(["p", again])] == names
    assert [str(path) for path in find_images(["link/b.jpg", "p"])] == ["link/b.jpg", "p/a.jpg", "p/c.jpg"]


def test_a_transport_stream_is_told_from_typescript_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "walk.ts").write_bytes((b"G" + bytes(187)) * 20)
    (tmp_path / "code.ts").write_text("export const GG = 1;\n" * 500)
    touch(tmp_path, "empty.TS")
    assert find_media(tmp_path) == [tmp_path / "walk.ts"]
    assert [is_video(tmp_path / name) for name in ("walk.ts", "code.ts", "empty.TS", "none.ts")] == [
        True,
        False,
        False,
        False,
    ]
    with pytest.raises(PerceptError, match="no images in"):
        find_images(tmp_path)


def test_each_file_gives_a_result_or_its_reason_in_order() -> None:
    def read(path: Path) -> str:
        if path.name == "plain":
            raise PerceptError(f"{path} is damaged")
        if path.name == "strange":
            raise UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid")
        if path.name == "large":
            raise MemoryError
        return path.name

    names = ["a", "plain", "b", "strange", "large", "c"] * 5
    results = list(read_each([Path("x", name) for name in names], read, threads=4))
    reasons = {result.path.name: result.reason for result in results if isinstance(result, BadFile)}
    assert [result if isinstance(result, str) else result.path.name for result in results] == names
    assert reasons["plain"] == "is damaged"
    assert reasons["strange"].startswith("failed with UnicodeDecodeError: 'utf-8' codec")
    assert reasons["large"].startswith("needs more memory than is free")


def test_results_of_each_file_are_streamed() -> None:
    started: list[Path] = []
    results = iter(
        read_each((Path(str(number)) for number in range(100)), lambda path: started.append(path) or 1, threads=2)
    )
    assert next(results) == 1
    assert len(started) <= 6
