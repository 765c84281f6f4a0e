"""`percept eval plm` on small files of public layouts, as a user runs it, with a random model and with one whose answers are known."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import percept
from percept.cli import main
from percept.core.errors import PerceptError
from percept.eval.statistics import Score
from percept.eval.vlm.readers.files import Place
from percept.eval.vlm.readers.images import chartqa
from percept.eval.vlm.report import videobench
from tests.eval.vlm.fakes import Scripted
from tests.infer import speaking

PEOPLE = [{"answer": "red", "answer_id": number, "answer_confidence": "yes"} for number in range(1, 11)]
DOCUMENT = {
    "questionId": 337,
    "question": "Who?",
    "image": "documents/xnbl0037_1.png",
    "docId": 279,
    "answers": ["Ann Lee", "Ann"],
}
EXPRESSION = {
    "file_name": "COCO_train2014_000000000042.jpg",
    "height": 30,
    "width": 40,
    "id": 0,
    "caption": "the left cup",
}
LAYOUTS: dict[str, tuple[str, Any, str, str, dict[str, float]]] = {
    "vqav2": (
        "v2_OpenEnded_mscoco_val2014_questions.json",
        {"data_subtype": "val2014", "questions": [{"image_id": 42, "question": "Which colour?", "question_id": 42000}]},
        "COCO_val2014_000000000042.jpg", "Red.", {"VQA accuracy": 1.0},
    ),
    "textvqa": (
        "TextVQA_0.5.1_val.json",
        {"dataset_type": "val", "data": [
            {"question": "What does it say?", "image_id": "003a8ae2ef43b901", "question_id": 34602, "answers": ["stop"] * 2 + ["go"] * 8}
        ]},
        "train_images/003a8ae2ef43b901.jpg", "stop", {"VQA accuracy": 0.6},
    ),
    "docvqa": (
        "val_v1.0_withQT.json", {"dataset_name": "SP-DocVQA", "dataset_split": "val", "data": [DOCUMENT]},
        "documents/xnbl0037_1.png", "ann le", {"ANLS": 6 / 7, "exact match": 0.0},
    ),
    "chartqa": (
        "test_human.json", [{"imgname": "41699051005347.png", "query": "How much?", "label": "100"}],
        "png/41699051005347.png", "104", {"relaxed accuracy": 1.0},
    ),
    "pope": (
        "coco_pope_random.json",
        [
            {"question_id": number, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a dog in the image?", "label": label}
            for number, label in enumerate(("yes", "no"), start=1)
        ],
        "COCO_val2014_000000310196.jpg", "Yes", {"accuracy": 0.5, "precision": 0.5, "recall": 1.0, "share of yes": 1.0},
    ),
    "refcoco": (
        "finetune_refcoco_val.json",
        {"images": [EXPRESSION], "annotations": [{"image_id": 0, "id": 0, "category_id": 1, "bbox": [10, 6, 20, 12]}]},
        "train2014/COCO_train2014_000000000042.jpg", "[250,200,750,600]", {"accuracy at IoU 0.5": 1.0},
    ),
}  # fmt: skip
"""Task: name and content of the file, name of an image, an answer, and what it scores."""


def files_of(task: str, folder: Path) -> tuple[Path, Path]:
    """Write the files of a task; return the file and the folder of images."""
    name, content, image, _, _ = LAYOUTS[task]
    lines = task == "pope"  # its files end in .json, but hold json lines
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in content) if lines else json.dumps(content))
    if task == "vqav2":
        rows = [{"question_id": 42000, "image_id": 42, "answers": PEOPLE}]
        (folder / "v2_mscoco_val2014_annotations.json").write_text(json.dumps({"annotations": rows}))
    file = folder / "images" / image
    file.parent.mkdir(parents=True)
    Image.new("RGB", (40, 30), "red").save(file)
    return folder / name, file.parent if task == "refcoco" else folder / "images"


def scores(out: Path) -> dict[str, float]:
    return {row["name"]: row["value"] for row in json.loads(out.read_text())["scores"]}


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(speaking.folder(tmp_path_factory.mktemp("talking")))


@pytest.mark.parametrize("task", LAYOUTS)
def test_a_public_file_is_read_asked_and_graded(
    task: str, talking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, media = files_of(task, tmp_path)
    command = ["eval", "plm", "--task", task, "--data", str(data), "--media", str(media), "--model", talking]
    assert main([*command, "--out", str(tmp_path / "real.json")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "real.samples.jsonl").read_text().splitlines()]
    assert rows
    assert not any("error" in row for row in rows)
    *_, answer, expected = LAYOUTS[task]
    monkeypatch.setattr(percept, "assistant", lambda name, **_: Scripted(lambda text: answer))
    assert main([*command, "--out", str(tmp_path / "known.json")]) == 0
    measured = scores(tmp_path / "known.json")
    assert {name: measured[name] for name in expected} == pytest.approx(expected)


def test_several_files_in_one_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(percept, "assistant", lambda name, **_: Scripted(lambda text: "Yes"))
    places = []
    for task in ("pope", "chartqa"):
        (tmp_path / task).mkdir()
        places.append(files_of(task, tmp_path / task))
    (pope, images), (chart, charts) = places
    both = ["eval", "plm", "--task", "pope", "chartqa", "--data", str(pope), str(chart)]
    assert main([*both, "--media", str(images), str(charts), "--out", str(tmp_path / "card.json")]) == 0
    report = json.loads((tmp_path / "card.json").read_text())
    assert report["data"] == f"pope {pope}, chartqa {chart}"
    assert {row["task"] for row in report["scores"]} == {"pope", "chartqa"}
    for wrong, words in (
        (["--media", "a", "b", "c"], "3 folders for 2 files"),
        (["--task", "pope", "pope"], "names a task twice"),
        (["--task", "pope"], "belong together"),
    ):
        assert main([*both, *wrong]) == 2
        assert words in " ".join(capsys.readouterr().err.split())


def test_a_chart_without_an_answer_is_refused(tmp_path: Path) -> None:
    data, media = files_of("chartqa", tmp_path)
    row = {"imgname": "41699051005347.png", "query": "How much?"}
    for label, words in (({}, "the label is None"), ({"label": ["1", "2"]}, "It should be a text or a number")):
        data.write_text(json.dumps([row | label]))
        with pytest.raises(PerceptError, match=words):
            list(chartqa(Place(data=data, media=media)))
    data.write_text(json.dumps([row | {"label": ["14"]}, row | {"label": 3}]))
    assert [item.reference for item in chartqa(Place(data=data, media=media))] == ["14", "3"]


def test_the_average_of_videobench_is_that_of_the_paper() -> None:
    """PLM-8B and GPT-4o, arXiv:2504.13180, table of PLM-VideoBench."""
    for row, printed in (((67.7, 46.2, 52.8, 46.6, 59.1), 55.6), ((61.2, 63.7, 20.9, 35.7, 33.1), 51.6)):
        named = zip(("fgqa", "sgqa", "rdcap", "rcap", "rtloc"), row, strict=True)
        each = {
            name: Score(name="x", value=value / 100, n=9, low=value / 100 - 0.03, high=value / 100 + 0.03)
            for name, value in named
        }
        average = videobench(each)
        assert round(100 * average.value, 1) == printed
        assert average.high - average.low == pytest.approx(2 * 0.03 * (2 / 9 + 3 / 81) ** 0.5)


def test_the_average_is_shown_where_all_five_tasks_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(percept, "assistant", lambda name, **_: Scripted(lambda text: "(A) [0, 3]: it spins"))
    monkeypatch.setenv("COLUMNS", "200")
    command = ["eval", "plm", "--count", "2", "--size", "48", "--tasks", "fgqa", "sgqa", "rdcap", "rcap"]
    assert main(command) == 0
    assert "PLM-VideoBench" not in capsys.readouterr().out
    assert main([*command, "rtloc", "--out", str(tmp_path / "card.json")]) == 0
    assert "PLM-VideoBench" in capsys.readouterr().out
    *_, last = json.loads((tmp_path / "card.json").read_text())["scores"]
    assert (last["task"], last["name"]) == ("PLM-VideoBench", "average")
    assert "| PLM-VideoBench | average |" in (tmp_path / "card.md").read_text()
