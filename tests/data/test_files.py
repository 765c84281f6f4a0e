"""Folders: what is found, in which order, and that one bad file stops nothing."""

import os
import threading
import time
from pathlib import Path

import pytest

from percept.core.errors import PerceptError
from percept.data.files import find_images, find_media, in_order


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
    with pytest.raises(PerceptError, match=r"no pictures in .*looked for names ending in .*\.jpg"):
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


def test_what_a_person_may_take_for_a_picture_is_named_where_it_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path, "a.jpg", "b.HEIC", "c.heic", "d.mp4", "e.txt", "notes.json")
    assert find_images(tmp_path) == [tmp_path / "a.jpg"]
    assert "not read here: 2 .heic, 1 .mp4" in capsys.readouterr().err
    assert find_media(tmp_path) == [tmp_path / "a.jpg", tmp_path / "d.mp4"]
    assert "not read here: 2 .heic\n" in capsys.readouterr().err
    assert find_images(tmp_path / "b.HEIC") == [tmp_path / "b.HEIC"]  # named outright, it is tried
    assert not capsys.readouterr().err
