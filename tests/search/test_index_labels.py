"""Labels and near duplicates from the vectors of an index, in Python and from the command line: no image is encoded again."""

import csv
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import percept
from percept.cli import main
from percept.infer.taught import Taught, save_labels
from percept.search.store import Filter, Store
from tests.search.fakes import ColourEncoder, picture
from tests.search.stock import pictures_in, video_in

LABELS = ["red", "green", "blue"]
FIELDS = ["path", "start", "stop", "label", "probability", "score", "guesses"]


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ColourEncoder:
    """An index of four images, a copy of one, and a video that turns from red to blue, whose file does not exist."""
    made = ColourEncoder()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("percept.infer.load.load", lambda *_, **__: made)
    colours = {"red": (250, 0, 0), "dark": (246, 0, 0), "blue": (0, 0, 250), "more/green": (0, 250, 0)}
    files = [picture(tmp_path / "pictures" / f"{name}.png", colour) for name, colour in colours.items()]
    picture(tmp_path / "pictures/red.png", (250, 0, 0), size=(40, 20))
    (tmp_path / "pictures/copy.png").write_bytes(files[2].read_bytes())
    with Store.create(tmp_path / "percept-index", made) as store:
        pictures_in(store, made, [*files, tmp_path / "pictures/copy.png"])
        red, blue = made.text(["red", "blue"]).numpy()
        video_in(store, tmp_path / "clips/turn.mp4", np.stack([red, red, blue]), [(0.0, 2.0), (2.0, 4.0), (4.0, 5.0)])
    made.encoded = 0
    return made


def test_files_are_labelled_without_being_read(encoder: ColourEncoder, tmp_path: Path) -> None:
    expected = percept.Index("percept-index", encoder)
    for path in (tmp_path / "pictures").rglob("*.png"):
        path.unlink()
    with expected as index:
        results = index.classify(LABELS)
        none = index.classify(["white"], none_below=0.5)
        only = index.classify(LABELS, top=1, where=Filter(include=("more/*",)))
    best = {path.name: guesses[0].label for path, guesses in zip(results.paths, results, strict=True)}
    assert best == {
        "red.png": "red", "dark.png": "red", "blue.png": "blue", "copy.png": "blue", "green.png": "green", "turn.mp4": "red",
    }  # fmt: skip
    (spans,) = results.spans.values()
    assert [(span.start, span.stop, span.guesses[0].label) for span in spans] == [
        (0, 2, "red"), (2, 4, "red"), (4, 5, "blue"),
    ]  # fmt: skip
    assert encoder.encoded == 0
    assert [guesses[0].label for guesses in none] == ["white"] * 6  # one label alone always gets 100 %
    assert [path.name for path in only.paths] == ["green.png"]
    assert [len(guesses) for guesses in only] == [1]


def test_several_threads_label_one_index(encoder: ColourEncoder) -> None:
    with percept.Index("percept-index", encoder) as index, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: [row[0].label for row in index.classify(LABELS)], range(8)))
    assert all(answer == answers[0] for answer in answers)


def test_the_command_labels_an_index(encoder: ColourEncoder, tmp_path: Path, capsys) -> None:
    (tmp_path / "new.txt").write_text("red\ngreen\nblue\n")
    arguments = ["classify", "--index", "percept-index", "--labels", "@new.txt"]
    assert main([*arguments, "--out", "-"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(row) for row in rows] == [FIELDS] * 8
    assert [(row["start"], row["stop"]) for row in rows if row["path"].endswith(".mp4")] == [(0, 2), (2, 4), (4, 5)]
    assert (
        main([*arguments, "--type", "image", "--top", "1", "--show", "2", "--sheet", "sheet.png", "--sort", "sorted"])
        == 0
    )
    printed = capsys.readouterr().out
    assert "The first 2 of 5 images" in printed
    assert {path.parent.name for path in (tmp_path / "sorted").rglob("*.png")} == set(LABELS)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 300
    assert main([*arguments, "--path", "more/*", "--out", "one.csv"]) == 0
    with (tmp_path / "one.csv").open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["green"]
    capsys.readouterr()
    assert main([*arguments[:3], "--none-below", "0.9", "--out", "-", "--labels", "red,red thing"]) == 0
    assert "none" in {json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()}
    assert encoder.encoded == 0


def test_a_doubt_needs_enough_files_that_pass_the_conditions(encoder: ColourEncoder, monkeypatch, capsys) -> None:
    monkeypatch.setattr("percept.cli.ranking.MANY", 5)
    monkeypatch.setattr("percept.cli.classify.MANY", 5)
    monkeypatch.setattr(
        "percept.infer.labeller.other_texts", lambda *_: encoder.text(LABELS)
    )  # these fit every file better
    command = ["classify", "--index", "percept-index", "--labels", "white,black"]
    assert main(command) == 0
    assert "other words fit 5 of 5 files better" in "".join(capsys.readouterr().err.split("\n"))
    assert main([*command, "--type", "image"]) == 0
    assert "other words fit" not in capsys.readouterr().err  # 4 different images are too few to say


def test_taught_labels_need_no_model(encoder: ColourEncoder, tmp_path: Path, monkeypatch, capsys) -> None:
    weight, bias = encoder.text(LABELS), torch.zeros(3)
    taught = Taught(
        classes=tuple(LABELS), weight=weight, bias=bias, temperature=0.01, least=0.5, model="colours",
        image=encoder.identity.image,
    )  # fmt: skip
    save_labels(tmp_path / "mine", taught)

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("percept.infer.load.load", refused)
    with percept.Index("percept-index") as index:
        results = index.classify(tmp_path / "mine", none_below="auto")
    assert results[results.paths.index(tmp_path / "pictures/blue.png")][0].label == "blue"
    assert main(["classify", "--index", "percept-index", "--labels", "mine", "--out", "-"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8
    other = Taught(**{**vars(taught), "image": "something else"})
    save_labels(tmp_path / "other", other)
    assert main(["classify", "--index", "percept-index", "--labels", "other"]) == 2
    assert "taught on colours" in capsys.readouterr().err


def test_near_duplicates_of_an_index(encoder: ColourEncoder, tmp_path: Path) -> None:
    with percept.Index("percept-index", encoder) as index:
        found = index.dupes(above=0.999)
        groups = {group.keep.path.name: [copy.file.path.name for copy in group.copies] for group in found.groups}
        assert groups == {"red.png": ["dark.png"], "blue.png": ["copy.png"]}
        (exact,) = [copy.exact for group in found.groups if group.keep.path.name == "blue.png" for copy in group.copies]
        assert exact
        assert {bad.path.name for bad in found.bad} == {"turn.mp4"}  # it is not there
        assert found.files == 5
        assert [len(index.dupes(above=0.999, keep=rule).groups) for rule in ("sharpest", "first", "newest")] == [
            2,
            2,
            2,
        ]
        picture(tmp_path / "pictures/red.png", (0, 0, 250), size=(50, 20))
        changed = index.dupes(above=0.999, where=Filter(exclude=("*.mp4",)))
        (bad,) = changed.bad
        assert (bad.path.name, "has changed" in bad.reason) == ("red.png", True)
        assert [group.keep.path.name for group in changed.groups] == ["blue.png"]
        with pytest.raises(percept.PerceptError, match="unknown rule"):
            index.dupes(keep="best")
        with pytest.raises(percept.PerceptError, match="no file of the index"):
            index.dupes(where=Filter(include=("*.gif",)))
    assert encoder.encoded == 0


def test_the_command_puts_copies_of_an_index_aside(encoder: ColourEncoder, tmp_path: Path, capsys) -> None:
    arguments = ["dupes", "--index", "percept-index", "--above", "0.999", "--type", "image"]
    assert main([*arguments, "--out", "-"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted((row["group"], row["keep"]) for row in rows) == [(1, False), (1, True), (2, False), (2, True)]
    assert main([*arguments, "--page", "page.html", "--move-to", "copies"]) == 0
    printed = capsys.readouterr()
    assert "2 groups among 5 files: 2 copies" in printed.out
    assert "brings the index up to date" in printed.err
    assert sorted(path.name for path in (tmp_path / "copies").glob("*.png")) == ["copy.png", "dark.png"]
    assert "data:image/jpeg" in (tmp_path / "page.html").read_text()
    assert main(arguments) == 0
    assert "2 files left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["classify", "pictures", "--index", "percept-index", "--labels", "red"], "paths and an index were given"),
        (["classify", "pictures", "--labels", "red", "--type", "image"], "choose files of an index"),
        (["classify", "--index", "percept-index", "--labels", "red", "--every", "2"], "no effect on an index"),
        (["classify", "--index", "percept-index", "--labels", "red", "--path", "*.gif"], "passes these conditions"),
        (["classify", "--index", "nowhere", "--labels", "red"], "nowhere"),
        (["dupes", "--index", "percept-index", "--frames", "2"], "no effect on the vectors"),
        (["dupes", "pictures", "--after", "2024"], "choose files of an index"),
        (["dupes", "--index", "percept-index", "--type", "sound"], "image or video"),
    ],
)
def test_mistakes(encoder: ColourEncoder, capsys, arguments: list[str], words: str) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.out == ""


def test_damaged_vectors_get_no_label(encoder: ColourEncoder, tmp_path: Path) -> None:
    (segment,) = (tmp_path / "percept-index/segments").glob("*.vec")
    with segment.open("r+b") as file:
        file.write(np.full(4, np.nan, np.float32).tobytes())
        os.fsync(file.fileno())
    with percept.Index("percept-index", encoder) as index:
        assert len(index.classify(LABELS)) == 5
        assert index.dupes(above=0.999).files == 4
