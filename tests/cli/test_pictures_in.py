"""The verbs that read folders of pictures: classify and encode."""

import csv
import json
import os
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open

import percept
from percept.cli import main
from percept.cli.encode import WRITERS
from percept.infer.labels import class_vectors
from tests.data.video.films import film


def test_classify_ranks_all_and_lists_bad_files(model, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "out" / "labels.json"
    assert main(["classify", str(pictures), "--labels", "cat,red cup", "--model", model, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "a [red] cup.jpg" in printed
    assert "2 files left out" in printed
    found = json.loads(out.read_text())
    assert len(found["rows"]) == 3
    assert {entry["path"].rsplit("/", 1)[1] for entry in found["about"]["bad"]} == {"empty.png", "text.jpg"}
    encoder = percept.load(model)
    for entry in found["rows"]:
        scores = encoder.image(entry["path"]) @ class_vectors(encoder, ["cat", "red cup"]).T
        best = ("cat", "red cup")[int(scores.argmax())]
        assert entry["label"] == entry["guesses"][0]["label"] == best
        assert sum(guess["probability"] for guess in entry["guesses"]) == pytest.approx(1)


def test_classify_says_when_nothing_could_be_read(model, pictures, tmp_path, capsys):
    out, bad = tmp_path / "labels.json", [str(pictures / name) for name in ("empty.png", "text.jpg")]
    assert main(["classify", *bad, "--labels", "cat,dog", "--model", model, "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert "2 files left out" in printed.out
    assert printed.err.endswith("percept classify: none of the files could be read, so nothing was ranked\n")
    assert len(json.loads(out.read_text())["about"]["bad"]) == 2


def test_classify_shows_a_part_of_many(model, pictures, capsys):
    assert main(["classify", str(pictures), "--labels", "cat,dog", "--model", model, "--show", "1", "--top", "9"]) == 0
    printed = capsys.readouterr().out
    assert "The first 1 of 3 images" in printed
    assert "Images by best label" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{pictures}", "--labels", ","], "labels"),
        (["{pictures}", "--labels", "cat,cat"], "more than once"),
        (["{pictures}", "--labels", "cat", "--template", "a picture"], "{}"),
        (["{pictures}/notes.txt", "--labels", "cat"], None),
        (["{pictures}/none", "--labels", "cat"], "none"),
        (["--labels", "cat"], "no path"),
        (["{pictures}", "--labels", "@{pictures}/one.png"], "UTF-8"),
        (["{pictures}", "--labels", "cat \udcff"], "not valid Unicode"),
        (["{pictures}", "--labels", "cat", "--top", "0"], "--top must be at least 1"),
        (["{pictures}", "--labels", "cat", "--top", "-1"], "--top must be at least 1"),
        (["{pictures}", "--labels", "cat", "--show", "-1"], "--show at least 0"),
        (["{pictures}", "--labels", "cat", "--model", "nanno"], "'nano'"),
    ],
)
def test_mistakes_of_classify(model, pictures, capsys, arguments, words):
    arguments = [argument.replace("{pictures}", str(pictures)) for argument in arguments]
    assert main(["classify", "--model", model, *arguments]) == 2
    captured = capsys.readouterr()
    assert (words or "not an image") in captured.err + captured.out


def read(file, suffix: str) -> tuple[list[str], np.ndarray, dict]:
    """Read paths, vectors and facts as a user would, without percept."""
    if suffix == ".parquet":
        from pyarrow import parquet

        rows = parquet.read_table(file)
        return (
            rows["path"].to_pylist(),
            np.array(rows["vector"].to_pylist()),
            json.loads(rows.schema.metadata[b"percept"]),
        )
    if suffix == ".npz":
        with np.load(file, allow_pickle=False) as stored:
            return stored["paths"].tolist(), stored["vectors"], json.loads(str(stored["facts"]))
    if suffix == ".json":
        found = json.loads(file.read_text())
        return (
            [row["path"] for row in found["rows"]],
            np.array([row["vector"] for row in found["rows"]]),
            found["about"],
        )
    if suffix in (".jsonl", ".csv"):
        if suffix == ".csv":
            with file.open(newline="") as table:
                rows = [{**row, "vector": json.loads(row["vector"])} for row in csv.DictReader(table)]
        else:
            rows = [json.loads(line) for line in file.read_text().splitlines()]
        facts = json.loads(file.with_name(file.name + ".meta.json").read_text())
        return [row["path"] for row in rows], np.array([row["vector"] for row in rows]), facts
    with safe_open(file, "np") as stored:
        facts = stored.metadata()
        return json.loads(facts["paths"]), stored.get_tensor("vectors"), json.loads(facts["percept"])


@pytest.mark.parametrize("suffix", WRITERS)
def test_encode_writes_what_the_encoder_gives(model, pictures, tmp_path, capsys, suffix):
    out = tmp_path / f"vectors{suffix}"
    assert main(["encode", str(pictures), "--out", str(out), "--model", model]) == 0
    assert "2 files left out" in capsys.readouterr().out
    paths, vectors, facts = read(out, suffix)
    encoder = percept.load(model)
    torch.testing.assert_close(torch.tensor(vectors, dtype=torch.float32), encoder.image(paths), atol=1e-6, rtol=0)
    assert facts["model"]["image"] == encoder.identity.image
    assert {entry["path"].rsplit("/", 1)[1] for entry in facts["bad"]} == {"empty.png", "text.jpg"}
    assert all(entry["reason"] for entry in facts["bad"])


def test_encode_refuses_before_it_works(model, pictures, tmp_path, capsys, monkeypatch):
    assert main(["encode", str(pictures), "--out", str(tmp_path / "vectors.xyz"), "--model", model]) == 2
    assert ".parquet" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["encode", str(pictures), "--out", str(tmp_path / "vectors.parquet"), "--model", model]) == 2
    assert "percept-models[data]" in capsys.readouterr().err
    assert main(["encode", str(pictures / "empty.png"), "--out", str(tmp_path / "v.npz"), "--model", model]) == 2
    assert "nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.glob("v.npz*"))


@pytest.fixture
def strange(pictures) -> str:
    """Images whose names are not UTF-8, span two lines, or contain terminal codes; one file is damaged."""
    good = (pictures / "one.png").read_bytes()
    folder = os.fsencode(pictures / "strange")
    os.mkdir(folder)
    for name, data in (
        (b"byte\xff.png", good),
        (b"two\nlines.png", good),
        (b"esc\x1b[31m.png", good),
        (b"\xfe.png", b""),
    ):
        with open(folder + b"/" + name, "wb") as file:
            file.write(data)
    return os.fsdecode(folder)


@pytest.mark.parametrize("suffix", [*WRITERS, ".NPZ"])
def test_any_name_a_file_can_have_is_written(model, strange, tmp_path, capsys, suffix):
    out = tmp_path / f"vectors{suffix}"
    assert main(["encode", strange, "--out", str(out), "--model", model]) == 0
    paths, vectors, facts = read(out, suffix.lower())
    assert {path.rsplit("/", 1)[1] for path in paths} == {"byte\ufffd.png", "two\nlines.png", "esc\x1b[31m.png"}
    assert len(vectors) == 3
    assert facts["bad"] == [{"path": f"{strange}/\ufffd.png", "reason": "is empty (0 bytes)"}]
    assert "\x1b[31m" not in capsys.readouterr().out


def test_any_name_a_file_can_have_is_shown_in_one_line(model, strange, tmp_path, capsys):
    out = tmp_path / "labels.json"
    assert main(["classify", strange, "--labels", "cat,dog", "--model", model, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("byte\ufffd.png", "two\ufffdlines.png", "esc\ufffd[31m.png"))
    assert "\x1b[31m" not in printed
    assert len(json.loads(out.read_text())["rows"]) == 3
    assert main(["classify", strange, "--labels", "cat,dog", "--model", model, "--top", "1"]) == 0
    assert "second" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("verb", "ending"), [(("classify", "--labels", "cat", "--out"), ".json"), (("encode", "--out"), ".npz")]
)
def test_an_output_that_cannot_be_is_refused_before_any_work(
    model, pictures, tmp_path, capsys, monkeypatch, verb, ending
):
    monkeypatch.setattr("percept.infer.load.load", lambda *_, **__: pytest.fail("a model was loaded"))
    (tmp_path / "file").touch()
    (tmp_path / f"folder{ending}").mkdir()
    for out, reason in (
        (f"file/x{ending}", "cannot be written"),
        (f"folder{ending}", "is a folder"),
        ("x.txt", ending),
    ):
        assert main([verb[0], str(pictures), *verb[1:], str(tmp_path / out), "--model", model]) == 2
        assert reason in capsys.readouterr().err


@pytest.fixture
def clips(pictures):
    """The pictures with two clips among them, one of them cut short."""
    film(pictures / "walk.mp4", 12)
    (pictures / "cut.mov").write_bytes((pictures / "walk.mp4").read_bytes()[:300])
    return pictures


def test_videos_are_encoded_among_pictures(model, clips, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "vectors.npz"
    assert main(["encode", str(clips), "--out", str(out), "--model", model, "--frames", "3"]) == 0
    printed = capsys.readouterr()
    assert "3 images and 1 video" in printed.out
    assert "4 images" not in printed.out
    assert "5 images and 2 videos" in " ".join(printed.err.split())
    paths, vectors, facts = read(out, ".npz")
    assert facts["sampling"] == {"frames": 3, "choice": "pe-evaluation"}
    assert {entry["path"].rsplit("/", 1)[1] for entry in facts["bad"]} == {"empty.png", "text.jpg", "cut.mov"}
    place = paths.index(str(clips / "walk.mp4"))
    expected = percept.load(model).video(clips / "walk.mp4", frames=3, average="zero-shot")
    torch.testing.assert_close(torch.tensor(vectors[place]), expected, atol=1e-6, rtol=0)


def test_videos_are_classified_among_pictures(model, clips, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "labels.json"
    arguments = ["classify", str(clips), "--labels", "cat,red cup", "--model", model, "--out", str(out)]
    assert main([*arguments, "--frame-choice", "time"]) == 0
    printed = capsys.readouterr().out
    assert "3 images and 1 video in" in printed
    assert "Files by best label" in printed
    assert "is damaged or cut short" in printed
    guesses = {entry["path"].rsplit("/", 1)[1]: entry["guesses"] for entry in json.loads(out.read_text())["rows"]}
    encoder = percept.load(model)
    vector = encoder.video(clips / "walk.mp4", choice="time", average="zero-shot")
    scores = (class_vectors(encoder, ["cat", "red cup"]) @ vector).tolist()
    assert guesses["walk.mp4"][0]["score"] == pytest.approx(max(scores), abs=1e-5)


@pytest.mark.parametrize("arguments", [("--frames", "0"), ("--frame-choice", "pe-demmo")])
def test_mistakes_about_frames_are_told(model, clips, capsys, arguments):
    assert main(["classify", str(clips), "--labels", "cat", "--model", model, *arguments]) == 2
    assert "frames" in capsys.readouterr().err


def test_without_the_video_library_pictures_are_still_read(model, clips, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["classify", str(clips), "--labels", "cat", "--model", model]) == 0
    printed = capsys.readouterr().out
    assert "percept-models[video]" in printed
    assert "4 files left out" in printed
