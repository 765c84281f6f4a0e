"""The examples about search, on small folders with an encoder that sees only colour."""

import csv
import runpy
from pathlib import Path

import pytest

import percept
from tests.search.fakes import ColourEncoder, picture

EXAMPLES = Path(__file__).parents[2] / "examples"
ENCODER = ColourEncoder()


@pytest.mark.parametrize("name", ["near_duplicates", "training_set"])
def test_an_example_is_short(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 80


def test_near_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    for name, colour in {"a": (250, 0, 0), "b": (246, 0, 0), "c": (0, 0, 250), "d": (0, 250, 0)}.items():
        picture(tmp_path / "pictures" / f"{name}.png", colour)
    (tmp_path / "pictures" / "copy.png").write_bytes((tmp_path / "pictures" / "c.png").read_bytes())
    monkeypatch.setattr("percept.load", lambda _: ENCODER)
    example = runpy.run_path(str(EXAMPLES / "near_duplicates.py"))
    example["main"](tmp_path / "pictures", tmp_path / "index", above=0.999)
    printed = capsys.readouterr().out
    assert "2 groups" in printed
    with percept.Index(tmp_path / "index", ENCODER) as index:
        groups = example["near_duplicates"](index, 0.999)
    assert sorted(sorted(path.stem for _, path in group) for group in groups) == [["a", "b"], ["c", "copy"]]


def test_a_training_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(percept.PerceptError, match="exists already"):
        example["main"](tmp_path / "index", tmp_path / "out", asked)
