"""`percept ask`, `caption` and `chat` as a user runs them, with a random model."""

import csv
import io
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from percept.cli import main
from percept.cli.answers import FIELDS, Store, as_text
from percept.cli.ask import _warn
from percept.core.errors import PerceptError
from percept.world.clips import clip_rows, generate_clip
from percept.world.qa import examples
from tests.data.video.films import film
from tests.infer import speaking

SHORT = ["--max-new-tokens", "6"]


@pytest.fixture(scope="session")
def talking(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return ["--model", str(speaking.folder(tmp_path_factory.mktemp("talking"))), *SHORT]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images, a broken one, and names relative to their folder."""
    monkeypatch.chdir(tmp_path)
    Path("some").mkdir()
    for number in range(2):
        speaking.picture(number).save(f"some/{number}.png")
    Path("some/broken.png").write_bytes(b"")


def answer(number: int, question: str = "what?", **options: Any) -> str:
    return speaking.assistant().ask(speaking.picture(number), question, max_new_tokens=6, **options)


def run(*arguments: str) -> int:
    return main(list(arguments))


def rows_of(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_one_image_is_answered_alone(talking: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ask", "some/0.png", "what?", *talking) == 0
    shown = capsys.readouterr().out
    assert shown.rstrip("\n").translate({ord(c): "�" for c in "\t\x0b\x0c\x1c\x13"}) == answer(0).translate(
        {number: "�" for number in range(32) if number != 10}
    )
    assert run("ask", "some/0.png", "what?", *talking, "--choices", "yes,no") == 0
    assert capsys.readouterr().out.strip() == answer(0, choices=["yes", "no"])
    assert (
        run(
            "ask",
            "some/0.png",
            "what?",
            *talking,
            "--pattern",
            "[0-9]{3}",
            "--temperature",
            "1",
            "--samples",
            "2",
            "--seed",
            "1",
        )
        == 0
    )
    assert capsys.readouterr().out.split() == answer(0, pattern="[0-9]{3}", temperature=1.0, samples=2, seed=1)


def test_no_image_several_together_and_regions(talking: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = [*talking, "--choices", "yes,no"]
    assert run("ask", "is it?", *options) == 0
    assert run("ask", "some/0.png", "some/1.png", "is it?", "--together", *options) == 0
    assert run("ask", "some/0.png", "is it?", "--region", "1,2,9,9", "--region", "0,0,5,5", *options) == 0
    boxes = [(1, 2, 9, 9), (0, 0, 5, 5)]
    spoken, pictures = speaking.assistant(), [speaking.picture(0), speaking.picture(1)]
    assert capsys.readouterr().out.split() == [
        spoken.ask(images, "is it?", regions=regions, choices=["yes", "no"], max_new_tokens=6)
        for images, regions in ((None, ()), (pictures, ()), (pictures[0], boxes))
    ]


def test_repeated_options_add_up_and_swallow_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        "percept.cli.ask._answer",
        lambda files, question, boxes, model, answer: seen.append((question, boxes, answer.stop)) or 0,
    )
    assert (
        run("ask", "--region", "1,2,9,9", "some/0.png", "what?", "--region", "0,0,5,5", "--stop", "x", "--stop", "y")
        == 0
    )
    assert seen == [("what?", [[1, 2, 9, 9], [0, 0, 5, 5]], ("x", "y"))]


def test_a_folder_gives_a_table_and_lists_bad_files(talking: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ask", "some", "is it?", *talking, "--choices", "yes,no") == 0
    shown = capsys.readouterr().out
    assert all(f"{number}.png" in shown for number in range(2))
    assert answer(0, "is it?", choices=["yes", "no"]) in shown
    assert "1 file left out" in shown
    assert "is empty" in shown


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_a_run_is_continued(talking: list[str], capsys: pytest.CaptureFixture[str], ending: str) -> None:
    out = f"new/answers.{ending}"
    assert run("ask", "some/0.png", "what?", *talking, "--out", out) == 0
    first = Path(out).read_bytes()
    with Path(out).open("ab") as file:
        file.write(b'{"path": "some/1.png", "answ' if ending == "jsonl" else b'some/1.png,what?,"an')
    capsys.readouterr()
    assert run("ask", "some", "what?", *talking, "--out", out) == 0
    assert "1 file answered before, 2 left" in capsys.readouterr().err
    assert Path(out).read_bytes().startswith(first)
    rows = (
        rows_of(out)
        if ending == "jsonl"
        else list(csv.DictReader(io.StringIO(Path(out).read_bytes().decode(), newline="")))
    )
    assert [row["path"] for row in rows] == ["some/0.png", "some/1.png"]
    assert [row["answer"] for row in rows] == [answer(0), answer(1)]
    assert run("ask", "some", "what?", *talking, "--out", out) == 0  # the broken one is tried again
    assert Path(out).read_bytes().count(b"some/") == 2
    assert run("ask", "some", "and?", *talking, "--out", out) == 0
    assert run("ask", "some", "what?", *talking, "--out", out, "--tiles", "2") == 0
    assert len(Store(Path(out)).records) == 6


def test_rows_of_samples_and_standard_output(talking: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--temperature", "1", "--samples", "2", "--seed", "3"]
    assert run("caption", "some", *talking, *options, "--prompt", "what?", "--out", "a.jsonl") == 0
    rows = rows_of("a.jsonl")
    assert [(row["path"], row["sample"]) for row in rows] == [(f"some/{n}.png", s) for n in range(2) for s in range(2)]
    assert [row["answer"] for row in rows[:2]] == list(answer(0, temperature=1.0, samples=2, seed=3))
    capsys.readouterr()
    assert run("caption", "some", *talking, "--out", "-") == 0
    captured = capsys.readouterr()
    shown = [json.loads(line) for line in captured.out.splitlines()]
    assert [row["answer"] for row in shown] == [answer(n, "Describe the image in one sentence.") for n in range(2)]
    assert "left out: some/broken.png is empty" in captured.err


def test_a_clip_is_described_as_a_clip(talking: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    film(Path("some/walk.mp4"), count=3)
    files = ["some/0.png", "some/walk.mp4"]
    assert run("caption", *files, *talking, "--out", "a.jsonl") == 0
    texts = ["Describe the image in one sentence.", "Describe the video briefly."]
    assert any(pair.question == texts[0] for drawn in islice(examples(0, more=9), 200) for pair in drawn.pairs)
    rows = clip_rows(generate_clip(0, frames=8, size=32), video="", sampled=4)
    assert texts[1] in {turn["value"] for row in rows for turn in row.data["conversations"]}
    assert [row["question"] for row in rows_of("a.jsonl")] == texts
    assert rows_of("a.jsonl")[1]["answer"] == speaking.assistant().ask(files[1], texts[1], max_new_tokens=6)
    capsys.readouterr()
    assert run("caption", *files, *talking, "--out", "a.jsonl") == 0
    assert "2 files answered before" in capsys.readouterr().err
    assert run("caption", *files, *talking) == 0
    assert " / ".join(texts) in capsys.readouterr().out
    assert run("caption", *files, *talking, "--prompt", "what?", "--out", "a.jsonl") == 0
    assert [row["question"] for row in rows_of("a.jsonl")[2:]] == ["what?"] * 2


def test_a_file_of_answers_survives_quotes_and_line_breaks(tmp_path: Path) -> None:
    facts, question = {"model": "m", "options": {"stop": ["x"]}}, 'a "b",\nc'
    asked = {"question": question, **facts}
    records = [{"path": "p", "answer": 'two\nlines, "quoted"', **asked}, {"path": "q", "answer": "\n", **asked}]
    for ending in (".csv", ".jsonl"):
        Store(tmp_path / f"a{ending}").add(records)
        again = Store(tmp_path / f"a{ending}")
        assert [{name: row[name] for name in records[0]} for row in again.records] == records
        assert again.left({Path("p"): question, Path("q"): "d", Path("r"): question}, facts) == {
            Path("q"): "d", Path("r"): question,
        }  # fmt: skip
        assert again.left({Path("p"): question}, {**facts, "model": "other"}) == {Path("p"): question}
        half = as_text(records, ending)[:-4]
        (tmp_path / f"b{ending}").write_text(
            (",".join(FIELDS) + "\n" if ending == ".csv" else "") + half, encoding="utf-8"
        )
        assert len(Store(tmp_path / f"b{ending}").records) == 1
    for ending in (".json", ".parquet"):  # lines beside the file, until it is complete
        store = Store(tmp_path / f"a{ending}")
        store.add(records[:1])
        assert Store(tmp_path / f"a{ending}").left(dict.fromkeys((Path("p"), Path("q")), question), facts) == {
            Path("q"): question
        }
        store.add(records[1:])
        store.finish()
        assert not (tmp_path / f"a{ending}.part.jsonl").exists()
        again = Store(tmp_path / f"a{ending}").records
        assert [{name: row[name] for name in records[0]} for row in again] == records
    (tmp_path / "c.json").write_text('{"rows": [{"a": 1}]}')
    (tmp_path / "c.csv").write_text("other,things\n1,2\n")
    (tmp_path / "c.jsonl").write_text('{"a": 1}\n')
    for name in ("c.csv", "c.json", "c.jsonl", "c.txt"):
        with pytest.raises(PerceptError, match=r"holds no answers of percept|the format written is .csv or .json"):
            Store(tmp_path / name)


def test_a_file_of_answers_that_was_cut_keeps_its_whole_records(tmp_path: Path) -> None:
    facts, question = {"model": "m", "options": {"samples": 3}}, "one\rtwo\r\nthree"
    for ending in (".csv", ".jsonl"):
        file = tmp_path / f"a{ending}"
        for path in ("p", "q"):
            Store(file).add(
                [{"path": path, "question": question, "answer": f"é\r\n{n}\rx", "sample": n, **facts} for n in range(3)]
            )
        whole, lines = file.read_bytes(), {Path("p"): question, Path("q"): question}
        file.write_bytes(whole + "r,é".encode()[:-1])
        assert Store(file).left(lines, facts) == {}
        assert file.read_bytes() == whole
        end = whole.rindex(b'{"path"' if ending == ".jsonl" else b'"q",')
        file.write_bytes(whole[:end])  # two of three samples
        assert Store(file).left(lines, facts) == {Path("q"): question}
        assert len(Store(file).records) == 3
        assert whole.startswith(file.read_bytes())


def test_what_the_packaged_model_was_not_trained_for(capsys: pytest.CaptureFixture[str]) -> None:
    file = [Path("some/0.png")]
    _warn(file, "what?", [])
    _warn(file, "What is in the region <|bbox0|>?", [[1.0, 2.0, 3.0, 4.0]])
    assert not capsys.readouterr().err
    _warn(file, "what?", [[1.0, 2.0, 3.0, 4.0]])
    assert "Name the region in the question" in capsys.readouterr().err
    _warn([], "what?", [])
    assert "was trained on questions about images" in capsys.readouterr().err


def test_a_conversation_in_the_terminal(
    talking: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(
        [
            "what?",
            "",
            "/image none.png",
            "/image",
            "/image 'some/1.png'",
            "and?",
            "why? " * 300,
            "/help",
            "/new",
            "hello",
            "/quit",
            "no",
        ]
    )
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    assert run("chat", "some/0.png", *talking, "--choices", "yes,no") == 0
    captured = capsys.readouterr()
    chat = speaking.assistant().chat(speaking.picture(0))
    options: Any = {"choices": ["yes", "no"], "max_new_tokens": 6}
    told = [chat.ask("what?", **options), chat.ask("and?", speaking.picture(1), **options)]
    assert captured.out.split() == [*told, speaking.assistant().ask(None, "hello", **options)]
    for words in (
        "there is no file none.png",
        "no path follows /image",
        "some/1.png goes with the next question",
        "more than the context",
        "/quit",
    ):
        assert words in captured.err
    assert next(lines) == "no"


def test_the_conversation_ends_with_its_input(talking: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("what?\n"))
    assert run("chat", *talking) == 0


def test_an_assistant_is_converted_with_its_words(talking: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    source = talking[1]
    for layout in ("transformers", "original", "percept"):
        assert run("convert", source, "--out", layout, "--to", layout) == 0
        assert "equal to the bit" in capsys.readouterr().out
        assert run("ask", "some/0.png", "is it?", "--model", f"./{layout}", "--choices", "yes,no") == 0
        assert capsys.readouterr().out.strip() == answer(0, "is it?", choices=["yes", "no"])
        source = layout
    assert run("convert", source, "--out", "percept", "--to", "percept") == 2
    assert "percept exists already" in capsys.readouterr().err
    for arguments, words in (
        (["--to", "timm"], "unknown layout 'timm'"),
        (["--to", "percept", "--image-size", "8"], "converted as it is"),
    ):
        assert run("convert", source, "--out", "new", *arguments) == 2
        assert words in capsys.readouterr().err


REFUSED: dict[str, Any] = {
    "no words": (["ask"], "no question was given"),
    "a file for a question": (["ask", "some/0.png"], "the last argument has to be the question"),
    "a missing file alone": (["ask", "none.png"], "there is no file none.png, and no question follows it"),
    "two questions": (["ask", "some/0.png", "what is it?", "which colour?"], "Only the last argument is the question"),
    "a broken file to chat about": (["chat", "some/broken.png"], "is empty"),
    "a missing file": (["ask", "none.png", "what?"], "there is no file or folder none.png"),
    "a box of three": (["ask", "some/0.png", "what?", "--region", "1,2,3"], "--region 1,2,3 is not a box"),
    "a region of many": (["ask", "some", "what?", "--region", "1,2,3,4"], "--region and --together print one answer"),
    "a file without images": (["ask", "what?", "--out", "a.jsonl"], "--out was given, but no images"),
    "an ending": (["ask", "some", "what?", "--out", "a.txt"], "the format written is .csv or .json or .jsonl or .parquet"),
    "an encoder": (["ask", "some/0.png", "what?", "--model", "nano"], "is an encoder, which cannot answer in words"),
    "no such model": (["ask", "some/0.png", "what?", "--model", "plm-nanno"], "did you mean 'plm-nano'"),
    "samples of a conversation": (["chat", "--samples", "2"], "a conversation goes on with one answer"),
    "no choices": (["ask", "some/0.png", "what?", "--choices", ","], "--choices names no answer"),
    "no table": (["caption", "some", "--show", "0"], "the number of answers shown must be at least 1"),
    "no file to chat about": (["chat", "none.png"], "there is no file none.png"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, words = REFUSED[case]
    assert run(*arguments) == 2
    assert words in capsys.readouterr().err


def test_nothing_readable_and_bad_options(talking: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ask", "some/broken.png", "what?", "--out", "a.jsonl", *talking) == 2
    assert "none of the files could be read" in capsys.readouterr().err
    assert run("ask", "some/0.png", "what?", *talking, "--top-p", "0.5") == 2
    assert "no effect at temperature 0" in capsys.readouterr().err
    assert run("classify", "some", "--labels", "a,b", *talking[:2]) == 2
    assert "Open it with percept.assistant" in capsys.readouterr().err


def test_the_packaged_model_or_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    code = run("ask", "some/0.png", "what?", *SHORT)
    captured = capsys.readouterr()
    assert (code == 0 and captured.out) or (code == 2 and "percept train plm/nano" in captured.err)
