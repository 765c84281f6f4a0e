"""Folders: what is found, in which order, and that one bad file stops nothing."""

import os
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.sources import BadFile, find_images, in_order, read_many


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


def test_bad_files_are_named_in_their_place(tmp_path: Path) -> None:
    for number in range(12):
        Image.new("RGB", (8, 8), (number * 20, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"")
    (tmp_path / "7.png").write_bytes((tmp_path / "8.png").read_bytes()[:40])
    paths = [*find_images(tmp_path), tmp_path / "gone.png"]
    seen = list(read_many(paths, threads=3))
    assert [item.path if isinstance(item, BadFile) else item[0] for item in seen] == paths
    bad = {item.path.name: item.reason for item in seen if isinstance(item, BadFile)}
    assert bad.keys() == {"3.png", "7.png", "gone.png"}
    assert bad["3.png"] == "is empty (0 bytes)"
    reds = [item[1].getpixel((0, 0))[0] for item in seen if not isinstance(item, BadFile)]  # type: ignore[index]
    assert reds == [number * 20 for number in range(12) if number not in (3, 7)]


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


def test_a_link_to_nothing_says_so(tmp_path: Path) -> None:
    os.symlink("nowhere.png", tmp_path / "link.png")
    (found,) = read_many(find_images(tmp_path))
    assert isinstance(found, BadFile)
    assert found.reason == "is a link to a file that is not there"
