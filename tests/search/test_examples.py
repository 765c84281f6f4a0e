"""The examples about search, on small folders with an encoder that sees only colour."""

import csv
import json
import re
import runpy
from pathlib import Path

import pytest

import percept
from tests.search.fakes import ColourEncoder, picture

EXAMPLES = Path(__file__).parents[2] / "examples"
ENCODER = ColourEncoder()


@pytest.mark.parametrize("name", ["near_duplicates", "training_set", "dedupe", "auto_tag", "vector_database"])
def test_an_example_is_short(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 80


def test_near_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    for name, colour in {"a": (250, 0, 0), "b": (246, 0, 0), "c": (0, 0, 250), "d": (0, 250, 0)}.items():
        picture(tmp_path / "pictures" / f"{name}.png", colour)
    (tmp_path / "pictures" / "copy.png").write_bytes((tmp_path / "pictures" / "c.png").read_bytes())
    (tmp_path / "pictures" / "broken.png").write_bytes(b"not an image")
    monkeypatch.setattr("percept.load", lambda _: ENCODER)
    example = runpy.run_path(str(EXAMPLES / "near_duplicates.py"))
    example["main"](tmp_path / "pictures", tmp_path / "index", above=0.999)
    printed = capsys.readouterr().out
    assert "2 groups" in printed
    assert "broken.png" in printed
    with percept.Index(tmp_path / "index", ENCODER) as index:
        groups = example["near_duplicates"](index, 0.999)
    assert sorted(sorted(path.stem for _, path in group) for group in groups) == [["a", "b"], ["c", "copy"]]


def test_the_folder_is_given_as_the_example_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "pictures" / "a.png", (250, 0, 0))
    monkeypatch.setattr("percept.load", lambda _: ENCODER)
    arguments = [
        "near_duplicates.py",
        str(tmp_path / "pictures"),
        "--index",
        str(tmp_path / "index"),
        "--above",
        "0.97",
    ]
    monkeypatch.setattr("sys.argv", arguments)
    runpy.run_path(str(EXAMPLES / "near_duplicates.py"), run_name="__main__")
    with percept.Index(tmp_path / "index", ENCODER) as index:
        assert len(index) == 1


def test_a_training_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        picture(tmp_path / "pictures" / f"red{number}.png", (255 - 60 * number, 0, 0))
        picture(tmp_path / "pictures" / f"blue{number}.png", (0, 0, 255 - 60 * number))
    picture(tmp_path / "pictures" / "both.png", (200, 0, 200))
    percept.Index.create(tmp_path / "index", ENCODER).add(tmp_path / "pictures")
    monkeypatch.setattr("percept.search.index.load_stamped", lambda _: ENCODER)
    example = runpy.run_path(str(EXAMPLES / "training_set.py"))
    asked = ("red=a red thing", "blue=a blue thing", "blue=blue")
    example["main"](tmp_path / "index", tmp_path / "out", asked, per_class=3)
    with (tmp_path / "out" / "images.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {"red", "blue"}
    for row in rows:
        assert Path(row["source"]).name.startswith(row["label"])
        assert Path(row["file"]).read_bytes() == Path(row["source"]).read_bytes()
        assert float(row["margin"]) >= 0.01
    assert sum(row["label"] == "red" for row in rows) == 3
    example["main"](tmp_path / "index", tmp_path / "fewer", ("red", "blue"), per_class=3)  # a class is its own text
    capsys.readouterr()
    example["main"](tmp_path / "index", tmp_path / "inside", ("../red=red", "blue"), margin=3.0)
    assert "│ _red  │      0 │" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "inside").iterdir()] == ["images.csv"]
    with pytest.raises(percept.PerceptError, match="exists already"):
        example["main"](tmp_path / "index", tmp_path / "out", asked)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of a red image, one that is nearly the same, and a blue one."""
    for name, colour in {"red": (255, 0, 0), "nearly": (251, 0, 0), "blue": (0, 0, 255)}.items():
        picture(tmp_path / "pictures" / f"{name}.png", colour, size=(40, 20) if name == "red" else (20, 10))
    with percept.Index.create(tmp_path / "index", ENCODER) as index:
        index.add(tmp_path / "pictures")
    monkeypatch.setattr("percept.search.index.load_stamped", lambda _: ENCODER)
    return tmp_path / "index"


def test_copies_are_put_aside(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = runpy.run_path(str(EXAMPLES / "dedupe.py"))
    example["main"](photos, tmp_path / "copies", above=0.999, list=tmp_path / "copies.jsonl")
    assert re.search(r"copies: 1; percept undo .*undo-\d+-\d+\.jsonl moves them back", capsys.readouterr().out)
    (row,) = map(json.loads, (tmp_path / "copies.jsonl").read_text().splitlines())
    assert (Path(row["keep"]).name, Path(row["copy"]).name) == ("red.png", "nearly.png")
    assert (tmp_path / "copies/nearly.png").is_file()
    assert not (tmp_path / "pictures/nearly.png").exists()
    with percept.Index(photos) as index:
        assert len(index) == 2
    (tmp_path / "pictures/broken.png").write_bytes(b"not an image")
    example["main"](photos, tmp_path / "more", above=0.999)
    printed = capsys.readouterr().out
    assert "broken.png" in printed
    assert "percept undo" not in printed  # nothing was moved


def test_files_are_tagged(photos: Path, tmp_path: Path) -> None:
    example = runpy.run_path(str(EXAMPLES / "auto_tag.py"))
    example["main"](photos, "red,blue", out=tmp_path / "tags.csv", sidecars=True, least=0.5)
    with (tmp_path / "tags.csv").open(encoding="utf-8", newline="") as file:
        tags = {Path(row["path"]).stem: json.loads(row["tags"]) for row in csv.DictReader(file)}
    assert tags == {"red": ["red"], "nearly": ["red"], "blue": ["blue"]}
    sidecar = json.loads((tmp_path / "pictures/blue.png.tags.json").read_text())
    assert sidecar["tags"] == ["blue"]
    assert sidecar["probabilities"][0] > 0.5


def test_an_index_in_a_vector_database(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lancedb")
    example = runpy.run_path(str(EXAMPLES / "vector_database.py"))
    example["main"](photos, tmp_path / "photos.lance", "blue", where="width < 30", top=1)
    printed = capsys.readouterr().out
    assert "3" in printed
    assert "blue.png" in printed
    example["main"](photos, tmp_path / "photos.lance", "blue", top=1)  # not exported again
