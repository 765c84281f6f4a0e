"""The pipeline: killed and resumed, idempotent, the same for any number of processes, with a report."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import percept
from percept.cli import main
from percept.cli.options import ModelOptions
from percept.core.errors import PerceptError
from percept.data.curate import tables
from percept.data.curate.engines import _on_ray
from percept.data.curate.pipeline import Curation
from percept.data.curate.step import make_steps
from percept.data.sources.open import open_source
from percept.world.language import short_caption
from percept.world.scene import sample_scene
from tests.data.curate.making import WORDS, captions, picture, write_lines
from tests.infer import tiny

STEPS = ["texts", "exact-images", "near-texts", "balance"]
SETTINGS: dict[str, Any] = {"balance": {"min_count": 3, "threshold": 60}, "near-texts": {"similarity": 0.9}}
KILL = """
import sys
from pathlib import Path
import os, signal
from percept.data.curate import pipeline, store, tables
from tests.data.curate.test_pipeline import curation

tables.CHUNK_ROWS = 40
left = int(sys.argv[3])

def counted(write):
    def wrapper(*arguments):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(*arguments)
    return wrapper

pipeline.write_table, pipeline.save_arrays = counted(pipeline.write_table), counted(pipeline.save_arrays)
store.write_table, pipeline.write_rows = counted(store.write_table), counted(pipeline.write_rows)
curation(Path(sys.argv[1]), Path(sys.argv[2])).run()
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(30):
        picture(number % 25).save(tmp_path / "images" / f"{number}.png")
    rows = [
        {"id": f"r{number}", "caption": text, "image": f"images/{number % 30}.png", "size": number}
        for number, text in enumerate(captions(30) + ["a b c"] * 2)
    ]
    return write_lines(tmp_path / "rows.jsonl", rows)


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tables, "CHUNK_ROWS", 40)
    rows = [{"id": f"r{number}", "caption": text} for number, text in enumerate(captions(400))]
    return write_lines(tmp_path / "rows.jsonl", rows)


def curation(source: Path, out: Path, **options: Any) -> Curation:
    steps = [name for name in STEPS if name != "exact-images"]
    return Curation(source=source, out=out, steps=make_steps(steps, SETTINGS), **{"workers": 1, **options})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_result_is_a_table_with_a_report(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = Curation(source=source, out=out, steps=make_steps(STEPS, SETTINGS), workers=1).run()
    assert set(contents(out)) == {"rows-00000.parquet", "report.json", "report.html", "curation.json"}
    rows = pq.read_table(out / "rows-00000.parquet").to_pylist()
    assert len(rows) == report["rows kept"] == report["files"][0]["rows"]
    assert set(rows[0]) == {"key", "caption", "image", "size"}
    assert all((out / row["image"]).resolve().is_file() for row in rows)
    texts = captions(30)
    assert all(row["caption"] == texts[row["size"]] for row in rows if row["size"] < 30)
    counts = {one["step"]: (one["rows before"], one["rows after"]) for one in report["steps"]}
    assert counts["texts"] == (32, 29)
    assert counts["exact-images"][1] <= 25
    for one in report["steps"]:
        assert one["rows before"] - one["rows after"] == sum(one["removed"].values())
    assert report == json.loads((out / "report.json").read_text())
    page = (out / "report.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert "<script" not in page
    assert "untitled" in page


@pytest.mark.parametrize(
    "writes",
    [pytest.param(4, marks=pytest.mark.slow), 38, *(pytest.param(n, marks=pytest.mark.slow) for n in (62, 76))],
)
def test_a_killed_run_resumes_to_the_same_bytes(many: Path, tmp_path: Path, writes: int) -> None:
    curation(many, tmp_path / "whole").run()
    command = [sys.executable, "-c", KILL, str(many), str(tmp_path / "killed"), str(writes)]
    killed = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = {file for file in (tmp_path / "killed" / ".work").rglob("*") if file.is_file()}
    times = {file: file.stat().st_mtime_ns for file in before if file.name[0] != "." and file.suffix != ".json"}
    assert len(times) == writes
    seen: dict[Path, int] = {}
    write_rows = "percept.data.curate.pipeline.write_rows"
    with pytest.MonkeyPatch.context() as patch:
        from percept.data.curate import pipeline

        real = pipeline.write_rows

        def watched(*arguments: Any) -> Any:
            seen.update({file: file.stat().st_mtime_ns for file in times})
            return real(*arguments)

        patch.setattr(write_rows, watched)
        curation(many, tmp_path / "killed").run()
    assert seen == times  # what was finished was not computed again
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_and_one_give_the_same_bytes(many: Path, tmp_path: Path) -> None:
    curation(many, tmp_path / "one").run()
    curation(many, tmp_path / "two", workers=2).run()
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same_bytes(many: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    curation(many, tmp_path / "local").run()
    try:
        curation(many, tmp_path / "ray", engine="ray", workers=2).run()
    finally:
        ray.shutdown()
    console = [each for each in logging.getLogger("ray.data").handlers if isinstance(each, logging.StreamHandler)]
    assert all(each.level >= logging.ERROR for each in console)
    assert contents(tmp_path / "local") == contents(tmp_path / "ray")


def test_a_second_run_changes_nothing(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = curation(many, out).run()
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in out.iterdir()}
    assert curation(many, out).run() == first
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in out.iterdir()} == before


def test_a_folder_of_something_else_is_left_alone(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    curation(many, out).run()
    before = contents(out)
    with pytest.raises(PerceptError, match="different source or with different settings"):
        Curation(source=many, out=out, steps=make_steps(["texts"], {})).run()
    many.write_text(many.read_text() + '{"caption": "one more row"}\n')
    with pytest.raises(PerceptError, match="different source"):
        curation(many, out).run()
    assert contents(out) == before
    with pytest.raises(PerceptError, match="not an empty folder"):
        curation(many, tmp_path).run()


def test_json_lines_hold_the_same_rows(many: Path, tmp_path: Path) -> None:
    curation(many, tmp_path / "parquet").run()
    curation(many, tmp_path / "lines", format="jsonl").run()
    lines = [json.loads(line) for line in (tmp_path / "lines" / "rows-00000.jsonl").read_text().splitlines()]
    stored = pq.read_table(tmp_path / "parquet" / "rows-00000.parquet").to_pylist()
    assert lines == [{name: value for name, value in row.items() if value is not None} for row in stored]


def test_captions_of_several_are_a_list(tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "rows.jsonl", [{"captions": ["a red cup", "cup"]}, {"captions": ["two dogs", "a cat"]}]
    )
    Curation(source=source, out=tmp_path / "out", steps=make_steps(["texts"], {})).run()
    rows = pq.read_table(tmp_path / "out" / "rows-00000.parquet").to_pylist()
    assert [(row["caption"], row["captions"]) for row in rows] == [
        ("a red cup", ["a red cup"]),
        ("two dogs", ["two dogs", "a cat"]),
    ]


def test_a_source_without_rows_is_refused(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "rows.jsonl", [{"caption": ""}, {"caption": 3}])
    with pytest.raises(PerceptError, match="no usable row: there is no caption"):
        Curation(source=source, out=tmp_path / "out", steps=make_steps(["texts"], {})).run()


def test_steps_that_would_remove_everything_are_refused(tmp_path: Path) -> None:
    rows = write_lines(tmp_path / "rows.jsonl", [{"caption": "a red cup", "image": "none.png"}])
    for name, message in (
        ("exact-images", "no image can be read"),
        ("near-images", "no image"),
        ("balance", "no caption contains"),
    ):
        with pytest.raises(PerceptError, match=message):
            Curation(source=rows, out=tmp_path / name, steps=make_steps([name], {}), workers=1).run()


def test_the_default_steps_keep_most_of_a_small_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [short_caption(sample_scene(seed), random.Random(seed)) for seed in range(150)]
    source = write_lines(tmp_path / "rows.jsonl", [{"caption": text} for text in texts])
    assert main(["curate", str(source), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["rows kept"] >= 100
    assert report["steps"][-1]["smallest count of an entry"] == 2
    assert "removed" not in capsys.readouterr().err


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_a_set_of_which_nothing_remains_is_an_error(
    many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"texts": {"min_words": 50}}))
    command = ["curate", str(many), "--out", str(tmp_path / "out"), "--format", format, "--workers", "1"]
    for _ in range(2):  # the second time from the report of the first
        assert main([*command, "--config", str(tmp_path / "config.json")]) == 2
        assert "no row remains: step texts removed the last ones" in " ".join(capsys.readouterr().err.split())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(one["step"], one["rows after"]) for one in report["steps"]] == [("texts", 0)]
    assert report["files"][0]["rows"] == 0
    with pytest.raises(PerceptError, match="holds no rows"):
        open_source(tmp_path / "out" / f"rows-00000.{format}", batch=2)


def test_a_step_that_leaves_little_gives_a_notice(
    many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = make_steps(["texts", "balance"], {"balance": {"threshold": 1, "min_count": 40}})
    report = Curation(source=many, out=tmp_path / "out", steps=steps, workers=1).run()
    before, after = report["steps"][1]["rows before"], report["steps"][1]["rows after"]
    assert 0 < after < 0.1 * before
    assert f"step balance removed {1 - after / before:.1%} of {before} rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["text"], {}, "did you mean 'texts'"),
        (["texts"], {"balance": {}}, "settings for 'balance', which is not among"),
        (["texts"], {"texts": {"min_word": 1}}, "did you mean 'min_words'"),
        (["texts", "texts"], {}, "given twice"),
        ([], {}, "no step was given"),
    ],
)
def test_mistakes_in_the_steps_are_named(names: list[str], settings: dict, message: str) -> None:
    with pytest.raises(PerceptError, match=message):
        make_steps(names, settings)


def test_the_command_scores_with_an_encoder_and_does_not_continue_with_another(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tiny.folder(tmp_path / "model"))
    command = ["curate", str(source), "--out", str(tmp_path / "out"), "--steps", "texts,score", "--model", model]
    assert main(command) == 0
    rows = pq.read_table(tmp_path / "out" / "rows-00000.parquet").to_pylist()
    encoder = percept.load(model)
    assert 10 <= len(rows) <= 15
    for row in rows:
        cosine = float(encoder.image([tmp_path / "out" / row["image"]])[0] @ encoder.text([row["caption"]])[0])
        assert row["scores"] == [pytest.approx(cosine, abs=2e-3)]
    assert main([*command, "--resize", "pad"]) == 2
    assert "with different settings" in capsys.readouterr().err


def test_visualness_by_a_general_encoder_gives_a_notice(
    many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(tiny.folder(tmp_path / "model"))
    command = ["curate", str(many), "--steps", "visualness", "--workers", "1"]
    assert main([*command, "--out", str(tmp_path / "tuned"), "--model", model]) == 0
    assert "needs an encoder tuned" not in capsys.readouterr().err
    encoder = percept.load(model)
    monkeypatch.setattr(ModelOptions, "open", lambda self: encoder)
    assert main([*command, "--out", str(tmp_path / "general")]) == 0
    assert "needs an encoder tuned for it, and nano is a general one" in " ".join(capsys.readouterr().err.split())


def test_a_missing_library_is_named(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PerceptError, match=r"percept-models\[data\]"):
        curation(many, tmp_path / "out").run()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PerceptError, match=r"percept-models\[ray\]"):
        list(_on_ray(2, int, [1]))


def test_the_command_runs_and_explains_mistakes(many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"balance": {"threshold": 10}}))
    command = ["curate", str(many), "--out", str(tmp_path / "out"), "--steps", "texts,balance", "--config", str(config)]
    assert main([*command, "--words", str(tmp_path / "words.txt"), "--workers", "1"]) == 0
    assert "balance" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["steps"][1]["entries"] == len(WORDS)
    before, after = report["steps"][1]["most frequent"][WORDS[0]]
    assert before > 2 * after
    assert main([*command[:3], str(tmp_path / "x"), "--steps", "texts", "--words", "w.txt"]) == 2
    assert "--words are for the step balance" in capsys.readouterr().err
    assert os.path.exists(tmp_path / "x") is False
