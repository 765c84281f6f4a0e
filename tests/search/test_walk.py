"""Which files of folders are indexed: patterns, hidden files, links, and the changes that are seen."""

import os
from pathlib import Path

import pytest

from percept.core.errors import PerceptError
from percept.search.index import Index
from percept.search.store import Root
from percept.search.walk import UNKNOWN, walk
from tests.search.fakes import ColourEncoder, picture

NAMES = (
    "a.png",
    "b10.jpg",
    "b2.jpg",
    "sub/c.png",
    "sub/deep/d.jpg",
    "sub/clip.mp4",
    ".hidden/e.png",
    ".f.png",
    "notes.txt",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "photos"


def names(folder: Path, **selection: object) -> list[str]:
    root = Root(path=folder, **selection)  # type: ignore[arg-type]
    return [os.path.relpath(file.path, folder) for file in walk([root])]


ALL = ["a.png", "b2.jpg", "b10.jpg", "sub/clip.mp4", "sub/c.png", "sub/deep/d.jpg"]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, ALL),
        ({"hidden": True}, [".f.png", *ALL[:3], ".hidden/e.png", *ALL[3:]]),
        ({"include": ("*.jpg",)}, ["b2.jpg", "b10.jpg", "sub/deep/d.jpg"]),
        ({"include": ("*.jpg", "sub/c.*")}, ["b2.jpg", "b10.jpg", "sub/c.png", "sub/deep/d.jpg"]),
        ({"exclude": ("sub",)}, ALL[:3]),
        ({"exclude": ("deep/*", "b[0-9].jpg")}, ["a.png", "b10.jpg", "sub/clip.mp4", "sub/c.png"]),
        ({"include": ("sub/*",), "exclude": ("*.png",)}, ["sub/clip.mp4", "sub/deep/d.jpg"]),
        ({"include": ("*.tif",)}, []),
    ],
)
def test_selection(folder: Path, selection: dict, expected: list[str]) -> None:
    assert sorted(names(folder, **selection)) == sorted(expected)


def test_natural_order_files_before_folders(folder: Path) -> None:
    assert names(folder)[:3] == ["a.png", "b2.jpg", "b10.jpg"]


def test_links_are_followed_once_and_loops_end(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.png").write_bytes(b"x")
    (folder / "a link").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(tmp_path / "elsewhere")
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "itself").symlink_to(folder / "itself")
    (folder / "first of all").symlink_to(folder / "sub")
    (folder / "file.png").symlink_to(folder / "a.png")
    found = names(folder)
    assert sorted(found) == sorted([*ALL, "file.png", "a link/x.png"])  # sub under its own name, not that of a link


def test_one_folder_under_two_names_counts_once(folder: Path) -> None:
    roots = [Root(path=folder), Root(path=folder / "sub" / ".."), Root(path=folder / "sub")]
    assert len(list(walk(roots))) == len(ALL)


def test_files_named_outright_are_taken_whatever_their_name(folder: Path) -> None:
    roots = [Root(path=folder / ".f.png"), Root(path=folder / "notes.txt"), Root(path=folder / "none.png")]
    assert [file.path.name for file in walk(roots)] == [".f.png", "notes.txt"]


def test_a_link_to_nothing_is_a_file_that_cannot_be_read(folder: Path) -> None:
    (folder / "gone.png").symlink_to(folder / "nowhere")
    (file,) = (file for file in walk([Root(path=folder)]) if file.path.name == "gone.png")
    assert (file.bytes, file.modified) == (UNKNOWN, UNKNOWN)


def test_images_that_are_not_read_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "raw.cr2").write_bytes(b"x")
    names(folder)
    assert "skipped, not read here: 1 .cr2" in capsys.readouterr().err


def test_a_path_beyond_the_limit_of_the_system_is_a_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, part = os.open(tmp_path, os.O_RDONLY), "n" * 250
    try:
        for _ in range(20):  # 5,000 bytes; the limit of Linux is 4,096
            os.mkdir(part, dir_fd=place)
            inner = os.open(part, os.O_RDONLY, dir_fd=place)
            os.close(place)
            place = inner
    finally:
        os.close(place)
    picture(tmp_path / "a.png", "red")
    assert [file.path.name for file in walk([Root(path=tmp_path)])] == ["a.png"]
    assert "skipped a folder: [Errno 36] File name too long" in " ".join(capsys.readouterr().err.split())


def test_the_selection_is_remembered(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "private/c.png"):
        picture(tmp_path / "photos" / name, "red" if name[0] == "a" else (len(name), 1, 2))
    with Index.create(tmp_path / "index", ColourEncoder()) as index:
        assert index.add(tmp_path / "photos", exclude=["private"]).added == 2
        picture(tmp_path / "photos" / "d.png", "blue")
        picture(tmp_path / "photos" / "private" / "e.png", "green")
        report = index.add()
        assert (report.added, report.unchanged, len(index)) == (1, 2, 3)
        with pytest.raises(PerceptError, match="a selection of files needs folders"):
            index.add(exclude=["b.png"])
    with (
        Index.create(tmp_path / "empty", ColourEncoder()) as empty,
        pytest.raises(PerceptError, match="remembers no folder"),
    ):
        empty.add()


def test_a_file_that_vanishes_while_indexing_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from percept.search import reading

    for number in range(4):
        picture(tmp_path / "photos" / f"{number}.png", (number, 0, 0))
    read = reading.read_bytes

    def vanishing(path: Path) -> bytes:
        if path.name == "2.png":
            path.unlink()
        return read(path)

    monkeypatch.setattr(reading, "read_bytes", vanishing)
    with Index.create(tmp_path / "index", ColourEncoder()) as index:
        report = index.add(tmp_path / "photos")
        assert (report.added, [file.reason for file in report.bad]) == (
            3,
            [f"there is no file {tmp_path}/photos/2.png"],
        )
        assert index.add().bad == []
