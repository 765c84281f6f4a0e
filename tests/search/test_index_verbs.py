"""`percept index` and the commands that look after an index, as a person types them."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from percept.cli import main
from percept.search.index import Index
from tests.search.fakes import COLOURS, ColourEncoder, picture
from tests.search.test_videos import film


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("percept.infer.load.load", lambda name, **_: ColourEncoder(fingerprint=name, name=name))
    for name in COLOURS:
        picture(tmp_path / "photos" / f"{name}.png", name)


def number(label: str, printed: str) -> int:
    found = re.search(rf"{re.escape(label)}[^│]*│ +([\d,]+) ", printed)
    assert found is not None, printed
    return int(found[1].replace(",", ""))


def test_patterns_are_remembered_and_folders_need_no_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["index", "photos", "--include", "r*.png", "--include", "b*.png", "--exclude", "black.*"]) == 0
    assert number("in the index now", capsys.readouterr().out) == 2
    picture(tmp_path / "photos" / "sub" / "rose.png", (200, 0, 90))
    picture(tmp_path / "photos" / ".hidden" / "ruby.png", (200, 0, 10))
    assert main(["index"]) == 0
    out = capsys.readouterr().out
    assert (number("encoded", out), number("unchanged", out)) == (1, 2)
    assert main(["index", "photos", "--hidden"]) == 0
    assert number("encoded", capsys.readouterr().out) == 4
    assert main(["index", "status"]) == 0
    assert "photos, with hidden files" in capsys.readouterr().out


def test_without_folders_there_has_to_be_an_index(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index"]) == 2
    assert "no path was given. Name at least one folder or file." in capsys.readouterr().err
    assert main(["index", "photos", "--include", "*.gif"]) == 2
    assert "no images or videos that --include and --exclude select in photos" in capsys.readouterr().err
    assert not Path("percept-index").exists()


def test_status_remove_and_compact(capsys: pytest.CaptureFixture[str]) -> None:
    film(Path("photos/clip.mp4"), [("red", 3), ("white", 3)])
    Path("photos/bad.jpg").write_bytes(b"x")
    assert main(["index", "photos"]) == 0
    capsys.readouterr()
    assert main(["index", "status"]) == 0
    out = capsys.readouterr().out
    labels = (
        "files",
        "distinct images",
        "distinct videos",
        "vectors that can be found",
        "files that could not be read",
    )
    assert [number(label, out) for label in labels] == [6, 5, 1, 7, 1]
    assert main(["index", "remove", "photos/red.png", "photos/clip.mp4"]) == 0
    assert number("forgotten", capsys.readouterr().out) == 2
    assert Path("photos/red.png").exists()
    assert main(["index", "remove", "elsewhere"]) == 2
    assert "none of the 1 path is in percept-index" in capsys.readouterr().err
    assert main(["index", "remove"]) == 2
    assert main(["index", "compact"]) == 0
    assert number("vectors dropped", capsys.readouterr().out) == 3
    with Index("percept-index") as index:
        assert (len(index), index.status().dead) == (4, 0)


def test_a_folder_with_the_name_of_a_command_is_indexed(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.move("photos", "status")
    assert main(["index", "status"]) == 0
    assert number("encoded", capsys.readouterr().out) == 5
    assert main(["index", "export", "--help"]) == 0
    assert "percept index export" in capsys.readouterr().out


def test_damage_is_shown_and_repaired(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "photos"]) == 0
    (file,) = Path("percept-index/segments").glob("*.vec")
    file.write_bytes(bytes(file.stat().st_size))
    capsys.readouterr()
    assert main(["index", "status"]) == 0
    assert number("damaged vectors (percept index repair)", capsys.readouterr().out) == 5
    assert main(["index", "repair"]) == 0
    out = capsys.readouterr().out
    assert number("damaged vectors dropped", out) == number("files encoded again", out) == 5
    assert main(["index", "repair"]) == 0
    assert number("damaged vectors dropped", capsys.readouterr().out) == 0
    assert main(["index", "photos"]) == 0
    assert number("unchanged", capsys.readouterr().out) == 5


@pytest.mark.parametrize("ending", ["npz", "jsonl", "safetensors"])
def test_export_writes_every_file_with_its_vector(ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    film(Path("photos/clip.mp4"), [("red", 3), ("white", 3)])
    shutil.copy("photos/red.png", "photos/red again.png")
    assert main(["index", "photos"]) == 0
    assert main(["index", "export", "--out", f"v.{ending}"]) == 0
    if ending == "npz":
        with np.load("v.npz") as data:
            rows = dict(zip(data["paths"].tolist(), data["vectors"], strict=True))
    elif ending == "jsonl":
        lines = [json.loads(line) for line in Path("v.jsonl").read_text().splitlines()]
        rows = {line["path"]: np.array(line["vector"], np.float32) for line in lines}
    else:
        with safe_open("v.safetensors", "np") as data:
            rows = dict(zip(json.loads(data.metadata()["paths"]), data.get_tensor("vectors"), strict=True))
    names = {Path(path).name: vector for path, vector in rows.items()}
    spans = ["clip.mp4#t=0.000,3.000", "clip.mp4#t=3.000,6.000"]
    assert sorted(names) == sorted([*(f"{name}.png" for name in COLOURS), "red again.png", *spans])
    assert np.array_equal(names["red.png"], names["red again.png"])
    expected = ColourEncoder().image([str(Path("photos/green.png"))])[0].numpy()
    np.testing.assert_allclose(names["green.png"], expected, atol=1e-6)
    assert main(["index", "export", "--out", "v.csv"]) == 2
    assert "ends in .csv" in capsys.readouterr().err


def test_export_to_a_vector_database(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "photos"]) == 0
    try:
        import lancedb  # pyright: ignore[reportMissingImports]
    except ImportError:
        assert main(["index", "export", "--out", "v.lance"]) == 2
        assert "pip install 'percept-models[lancedb]'" in capsys.readouterr().err
        pytest.skip("lancedb is not installed")
    film(Path("photos/clip.mp4"), [("red", 3), ("white", 3)])
    assert main(["index", "photos"]) == 0
    assert main(["index", "export", "--out", "v.lance"]) == 0
    rows = lancedb.connect("v.lance").open_table("percept").to_arrow().to_pylist()
    assert len(rows) == 7
    assert sorted((row["start"], row["stop"]) for row in rows if row["kind"] == "video") == [(0.0, 3.0), (3.0, 6.0)]
    nearest = (
        lancedb.connect("v.lance").open_table("percept").search(ColourEncoder().text(["green"])[0].numpy()).limit(1)
    )
    assert nearest.to_list()[0]["path"].endswith("green.png")
    assert main(["index", "export", "--out", "v.lance"]) == 2
    assert "is in use" in capsys.readouterr().err


def test_an_empty_index_exports_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Index.create("percept-index", ColourEncoder()).close()
    assert main(["index", "export", "--out", "v.npz"]) == 2
    assert "holds no vectors, so nothing was written" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["status", "compact", "repair", "export", "remove"])
def test_commands_need_an_index(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"export": ["--out", "v.npz"], "remove": ["photos"]}.get(command, [])
    assert main(["index", command, *more]) == 2
    assert "the folder percept-index does not exist; make one with: percept index" in capsys.readouterr().err


def test_videos_are_cut_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    film(Path("clips/clip.mp4"), [("red", 4)])
    assert main(["index", "clips", "--window", "1", "--rate", "4"]) == 0
    with Index("percept-index") as index:
        assert index.status().pieces == 4
    assert main(["index", "clips", "--window", "0"]) == 2
    assert "window" in capsys.readouterr().err
