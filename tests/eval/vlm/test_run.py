"""Asking, grading, comparing with a blind model, and the report."""

import json

import pytest
from PIL import Image

import percept
from percept.cli import main
from percept.core.errors import PerceptError
from percept.data.chat.conversation import ImageInput
from percept.eval.vlm.graders import Grading
from percept.eval.vlm.item import Item, ask
from percept.eval.vlm.kept import Kept
from percept.eval.vlm.run import CHUNK, measure
from percept.eval.vlm.tasks import PUBLIC, WORLD
from percept.infer.contracts import Generates
from tests.eval.vlm.fakes import Scripted

COLOURS = ("red", "blue", "green")


def items(count: int, bad: tuple[int, ...] = ()) -> list[Item]:
    return [
        Item(
            key=str(number), reference=COLOURS[number % 3], options=COLOURS, chance=1 / 3,
            prompt=ask(f"{'broken' if number in bad else COLOURS[number % 3]}?", [ImageInput(source="a.jpg")]),
        )
        for number in range(count)
    ]  # fmt: skip


def test_a_scripted_model_generates():
    assert isinstance(Scripted(str), Generates)


def test_answers_are_asked_in_batches_and_recorded():
    model = Scripted(lambda text: text.rstrip("?"))
    measured = measure(model, WORLD["colour"], items(CHUNK + 5), Grading(seed=3))
    assert [len(batch) for batch in model.batches] == [CHUNK, 5]
    assert model.most == {16}
    assert measured.scores[0].value == 1.0
    assert measured.chance == pytest.approx(1 / 3)
    assert measured.blind is None
    assert measured.records[1] == {
        "task": "colour", "key": "1", "prompt": "blue?", "answer": "blue", "reference": "blue", "score": 1.0, "seed": 3,
    }  # fmt: skip


def test_a_blind_model_sees_no_image():
    model, blind = Scripted(lambda text: text.rstrip("?")), Scripted(lambda text: "red")
    measured = measure(model, WORLD["colour"], items(6), Grading(), blind=blind)
    assert all(len(prompt.media) == 1 for prompt in model.batches[0])
    assert all(not prompt.media for prompt in blind.batches[0])
    assert measured.blind is not None
    assert measured.blind.value == pytest.approx(1 / 3)
    assert measured.records[1]["blind_answer"] == "red"
    assert measured.records[1]["blind_score"] == 0.0


def test_an_item_that_cannot_be_asked_counts_as_wrong_and_is_named():
    model = Scripted(lambda text: text.rstrip("?"), bad="broken")
    measured = measure(model, WORLD["colour"], items(5, bad=(2,)), Grading())
    assert measured.scores[0].value == 0.8
    assert measured.records[2]["error"] == "cup.jpg cannot be read: it is empty"
    assert "1 items could not be asked" in measured.notes[0]
    with pytest.raises(PerceptError, match=r"cup.jpg cannot be read"):
        measure(model, WORLD["colour"], items(3, bad=(0, 1, 2)), Grading())
    with pytest.raises(PerceptError, match="colour has no items"):
        measure(model, WORLD["colour"], [], Grading())


def test_options_are_ranked_by_likelihood():
    rows = [
        Item(key="1", prompt=ask("red?"), reference=0, options=COLOURS),
        Item(key="2", prompt=ask("x"), reference=1, options=COLOURS),
    ]
    measured = measure(Scripted(lambda text: text.rstrip("?")), PUBLIC["choice"], rows, Grading())
    by_name = {score.name: score.value for score in measured.scores}
    assert by_name == {"accuracy by text": 0.5, "accuracy by likelihood": 0.5}
    assert measured.records[0]["likelihoods"] == {"red": -1.0, "blue": -3.0, "green": -4.0}


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Open scripted models: one that says yes to everything."""
    names: list[str] = []

    def assistant(name: str, **_: object) -> Scripted:
        names.append(name)
        return Scripted(lambda text: "yes")

    monkeypatch.setattr(percept, "assistant", assistant)
    monkeypatch.setenv("COLUMNS", "200")
    return names


def test_the_command_measures_the_world(opened, tmp_path, capsys):
    out = tmp_path / "card.json"
    options = ["--tasks", "existence", "moments", "--count", "6", "--model", "m", "--blind", "b", "--size", "64"]
    assert main(["eval", "plm", *options, "--out", str(out)]) == 0
    assert opened == ["m", "b"]
    printed = capsys.readouterr().out
    assert "≥ 90 % missed" in printed
    stored = json.loads(out.read_text())
    first = stored["scores"][0]
    assert (first["task"], first["name"], first["n"], first["chance"], first["met"]) == (
        "existence",
        "accuracy",
        6,
        0.5,
        False,
    )
    assert first["blind"]["value"] == first["value"]
    assert (
        stored["command"]
        == f"percept eval plm --model m --blind b --tasks existence moments --count 6 --size 64 --out {out}"
    )
    rows = [json.loads(line) for line in (tmp_path / "card.samples.jsonl").read_text().splitlines()]
    assert [row["task"] for row in rows] == ["existence"] * 6 + ["moments"] * 6
    assert {"key", "prompt", "answer", "reference", "score", "seed"} <= set(rows[0])
    assert "| existence | accuracy |" in (tmp_path / "card.md").read_text()


def test_targets_apply_to_the_evaluation_split_only(opened, tmp_path):
    out = tmp_path / "card.json"
    assert main(["eval", "plm", "--tasks", "side", "--count", "2", "--split", "train", "--out", str(out)]) == 0
    assert "target" not in json.loads(out.read_text())["scores"][0]


def test_the_command_measures_a_file(opened, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    row = {"question_id": 1, "image": "a.jpg", "text": "Is there a dog?", "label": "yes"}
    data = tmp_path / "pope.jsonl"
    data.write_text(json.dumps(row) + "\n" + json.dumps({**row, "question_id": 2, "label": "no"}) + "\n")
    out = tmp_path / "card.json"
    assert (
        main(["eval", "plm", "--task", "pope", "--data", str(data), "--out", str(out), "--version", "published"]) == 0
    )
    values = {row["name"]: row["value"] for row in json.loads(out.read_text())["scores"]}
    assert values == {"accuracy": 0.5, "precision": 0.5, "recall": 1.0, "F1": pytest.approx(2 / 3), "share of yes": 1.0}
    assert json.loads(out.read_text())["facts"]["metrics"] == "published"
    (tmp_path / "a.jpg").unlink()
    opened.clear()
    assert main(["eval", "plm", "--task", "pope", "--data", str(data)]) == 2
    assert opened == []  # before the model is opened
    assert "a.jpg is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "x.json"], "--data and --task belong together"),
        (["--task", "pope"], "--data and --task belong together"),
        (["--task", "popp", "--data", "x.json"], "did you mean 'pope'"),
        (["--task", "pope", "--data", "x.jsonl"], "there is no file x.jsonl"),
        (["--task", "pope", "--data", "x.jsonl", "--tasks", "side"], "--tasks names tasks of the generated world"),
        (["--media", "."], "--media was given without --data"),
        (["--tasks", "sides"], "did you mean 'side'"),
        (["--count", "0"], "measures nothing"),
        (["--judge-model", "big"], "no effect on the judge rules"),
        (["--judge", "http://localhost:1/v1"], "--judge-model is missing"),
        (["--out", "card.txt"], ".json"),
    ],
)
def test_wrong_options(opened, capsys, options, message):
    assert main(["eval", "plm", *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert opened == []


def test_help_names_the_evaluation_of_language_models(capsys):
    assert main(["eval", "--help"]) == 0
    assert "percept eval plm" in " ".join(capsys.readouterr().out.split()).replace("│ ", "")
    assert main(["eval", "plm", "--help"]) == 0
    assert "--blind" in capsys.readouterr().out


def test_a_task_that_fails_does_not_stop_the_others(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(percept, "assistant", lambda name, **_: Scripted(str, bad="above or below"))
    out = tmp_path / "card.json"
    assert main(["eval", "plm", "--tasks", "side", "category", "--count", "3", "--out", str(out)]) == 2
    assert [row["task"] for row in json.loads(out.read_text())["scores"]] == ["category"]
    assert "side failed: cup.jpg cannot be read" in capsys.readouterr().err


@pytest.fixture
def models(monkeypatch) -> list[Scripted]:
    """All models that were opened; each says left."""
    made: list[Scripted] = []

    def assistant(name: str, **_: object) -> Scripted:
        made.append(Scripted(lambda text: "left"))
        return made[-1]

    monkeypatch.setattr(percept, "assistant", assistant)
    return made


def test_answers_are_kept_if_the_judge_cannot_be_reached(models, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("percept.eval.vlm.endpoint.time.sleep", lambda seconds: None)
    out, kept = tmp_path / "card.json", tmp_path / "card.answers.jsonl"
    command = ["eval", "plm", "--tasks", "rcap", "--count", "2", "--blind", "b", "--out", str(out)]
    assert main([*command, "--judge", "http://127.0.0.1:9/v1", "--judge-model", "big"]) == 2
    assert "gave no answer in 6 attempts" in " ".join(capsys.readouterr().err.split())
    assert [json.loads(line)["text"] for line in kept.read_text().splitlines()] == ["left"] * 4
    kept.write_text(kept.read_text() + '{"id": "cut o')
    assert main(command) == 0
    assert [len(model.batches) for model in models] == [1, 1, 0, 0]
    assert "4 answers of an interrupted run" in " ".join(capsys.readouterr().err.split())
    assert not kept.exists()
    assert json.loads(out.read_text())["scores"][0]["n"] == 2


def test_kept_answers_are_those_of_the_same_run(tmp_path):
    first, second = items(2)
    kept = Kept(tmp_path / "a.jsonl", "one")
    name = kept.identify("colour", first, blind=False, most=16)
    kept.add({name: {"text": "red", "likelihoods": None}})
    again = Kept(tmp_path / "a.jsonl", "one")
    assert again.get(name) == {"text": "red", "likelihoods": None}
    others = [
        again.identify("colour", second, blind=False, most=16),
        again.identify("colour", first, blind=True, most=16),
        again.identify("colour", first, blind=False, most=64),
        again.identify("shape", first, blind=False, most=16),
        Kept(tmp_path / "a.jsonl", "two").identify("colour", first, blind=False, most=16),
    ]
    assert len({name, *others}) == 6
    assert all(again.get(other) is None for other in others)


def test_an_interrupted_task_goes_on_after_its_last_batch(tmp_path):
    class Stops(Scripted):
        def answers(self, prompts, /, *, max_new_tokens=256, stop=()):
            if len(self.batches) == 1:
                raise KeyboardInterrupt
            return super().answers(prompts, max_new_tokens=max_new_tokens)

    file = tmp_path / "a.jsonl"
    with pytest.raises(KeyboardInterrupt):
        measure(Stops(lambda text: text.rstrip("?")), WORLD["colour"], items(CHUNK + 5), Grading(), kept=Kept(file))
    model = Scripted(lambda text: text.rstrip("?"))
    measured = measure(model, WORLD["colour"], items(CHUNK + 5), Grading(), kept=Kept(file))
    assert [len(batch) for batch in model.batches] == [5]
    assert measured.scores[0].value == 1.0


def test_importing_the_command_imports_no_torch():
    import subprocess
    import sys

    code = "import percept.cli.evaluate, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]
