"""`percept search` as a person types it: files for programs, clips, filters, and several texts and images."""

import csv
import json
from pathlib import Path

import pytest

from percept.cli import main
from percept.data.images import read_image
from percept.data.video import open_video
from percept.search.store import Store
from tests.data.video.films import film, number_on
from tests.search.fakes import COLOURS, ColourEncoder, picture
from tests.search.stock import pictures_in, video_in
from tests.search.test_query import direction

ENCODER = ColourEncoder()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("percept.infer.load.load", lambda *_, **__: ENCODER)
    with Store.create(tmp_path / "percept-index", ENCODER) as store:
        pictures = [picture(tmp_path / "pictures" / f"{name}.png", name) for name in COLOURS]
        pictures_in(store, ENCODER, pictures, taken=1_000_000_000.0)
        (tmp_path / "clips").mkdir()
        clip = film(tmp_path / "clips" / "walk.mp4", 100, rate=25)
        video_in(store, clip, direction(0, 0.99, 0.98, 0.2), [(i, i + 1.0) for i in (0.0, 1.0, 2.0, 3.0)])


def test_every_format_has_the_same_fields(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for ending in ("csv", "json", "jsonl"):
        assert main(["search", "red", "--top", "3", "--out", f"hits.{ending}"]) == 0
    assert "red.png" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "hits.jsonl").read_text().splitlines()]
    whole = json.loads((tmp_path / "hits.json").read_text())
    assert whole["rows"] == lines
    assert whole["about"]["query"] == "“red”"
    with (tmp_path / "hits.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [row["path"] for row in lines]
    assert list(rows[0]) == list(lines[0])
    first, second = lines[:2]
    assert (first["rank"], Path(first["path"]).name, first["kind"], first["start"]) == (1, "red.png", "image", None)
    assert first["taken"].startswith("2001-09-0")
    assert (Path(second["path"]).name, second["start"], second["stop"]) == ("walk.mp4", 1.0, 3.0)
    assert second["spans"][0]["score"] == pytest.approx(0.99, abs=1e-3)


def test_standard_output_holds_nothing_but_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "red", "--top", "4", "--out", "-"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["rank"] for line in lines] == [1, 2, 3, 4]


def test_moments_are_listed_cut_and_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    done = main(
        ["search", "red", "--moments", "--cut", "cut", "--sheet", "s.png", "--page", "p.html", "--out", "h.jsonl"]
    )
    assert done == 0
    printed = capsys.readouterr()
    assert "0:01–0:03" in printed.out
    assert "best 1 of 4 items" in printed.out
    clip = tmp_path / "cut" / "01-walk-1.00-3.00.mp4"
    assert json.loads((tmp_path / "h.jsonl").read_text())["clip"] == str(clip.relative_to(tmp_path))
    with open_video(clip) as video:
        assert [number_on(image) for _, image in video.frames([0, 49])] == [25, 74]
        assert len(video) == 50
    assert "#t=1.00,3.00" in (tmp_path / "p.html").read_text()
    assert read_image(tmp_path / "s.png").width > 400


def test_no_clip_without_a_video(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["search", "red", "--type", "image", "--cut", "cut"]) == 0
    assert "there is no video among the hits" in capsys.readouterr().err
    (tmp_path / "clips" / "walk.mp4").write_bytes(b"no film")
    assert main(["search", "red", "--moments", "--cut", "cut"]) == 0
    assert "no clip of hit 1" in capsys.readouterr().err
    assert list((tmp_path / "cut").iterdir()) == []


def names(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["search", *arguments, "--top", "9", "--out", "-"]) == 0
    return [Path(json.loads(line)["path"]).stem for line in capsys.readouterr().out.splitlines()]


def test_filters(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(names(capsys, "red", "--type", "image")) == set(COLOURS)
    assert names(capsys, "red", "--path", "clips") == ["walk"]
    assert sorted(names(capsys, "red", "--path", "*/b*.png", "--path", "re?.png")) == ["black", "blue", "red"]
    assert set(names(capsys, "red", "--not-path", "*.mp4", "--not-path", "pictures/b*")) == {"red", "green", "white"}
    assert names(capsys, "red", "--after", "2002") == ["walk"]
    assert set(names(capsys, "red", "--before", "2002-02")) == set(COLOURS)
    assert names(capsys, "red", "--min-side", "40") == ["walk"]
    assert set(names(capsys, "red", "--max-side", "20")) == set(COLOURS)
    assert names(capsys, "red", "--path", "nowhere/*") == []
    assert names(capsys, "red", "--min-score", "0.9") == ["red", "walk"]


def test_several_texts_and_images_with_both_signs(capsys: pytest.CaptureFixture[str]) -> None:
    assert names(capsys, "--image", "pictures/blue.png", "--type", "image")[0] == "blue"
    assert set(names(capsys, "red", "blue", "--type", "image")[:2]) == {"red", "blue"}
    both = ["--image", "pictures/red.png", "--image", "pictures/blue.png", "--type", "image"]
    assert set(names(capsys, *both)[:2]) == {"red", "blue"}
    assert names(capsys, *both, "--not", "blue")[0] == "red"
    assert names(capsys, *both, "--not-image", "pictures/blue.png")[0] == "red"


def test_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert names(capsys, "red", "--group", "folder") == ["red", "walk"]
    assert names(capsys, "red", "--group", "duplicate", "--above", "0.9")[0] == "red"
    assert "walk" not in names(capsys, "red", "--group", "duplicate", "--above", "0.9")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--after", "May"], "'May' is not a date"),
        (["--after", "2024-05", "--before", "2024-05"], "no time is after"),
        (["--type", "song"], "must be image or video"),
        (["--min-side", "0"], "at least 1 pixel"),
        (["--group", "size"], "unknown group"),
        (["--out", "hits.txt"], "ends in .txt"),
        (["--cut", "pictures/red.png"], "is a file"),
        (["--moments", "--type", "image"], "only videos have moments"),
        (["--not-image", "none.png"], "there is no file none.png"),
        (["--top", "0"], "at least 1"),
    ],
)
def test_mistakes(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "red", *arguments]) == 2
    assert reason in " ".join(capsys.readouterr().err.split())
