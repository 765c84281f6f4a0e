"""The pages on training, the doctor and ablations: their Python runs, and their options exist."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from percept.cli.train import parse
from percept.recipes import pe_nano
from percept.train import doctor
from percept.train.experiment import Settings

DOCS = Path(__file__).parents[2] / "docs"


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def test_the_run_of_the_guide_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ((code, printed),) = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", page("training"), flags=re.DOTALL)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "training.md", "exec"), {"__name__": "guide"})
    assert out.getvalue() == printed


@pytest.mark.parametrize("name", ["doctor", "ablations"])
def test_the_python_of_a_page_runs(name: str) -> None:
    for code in re.findall(r"```python\n(.*?)```", page(name), flags=re.DOTALL):
        exec(compile(code, f"{name}.md", "exec"), {"__name__": "guide"})


def test_every_setting_of_the_guide_exists() -> None:
    named = set(re.findall(r"--settings\.([a-z-]+)", page("training")))
    assert len(named) > 8
    assert {name.replace("-", "_") for name in named} <= set(Settings.__dataclass_fields__)
    rest = ["--minutes", "30", "--replan", "--check", "--settings.learning-rate", "1e-3", "--method.micro-tokens", "9"]
    assert parse("pe/nano", pe_nano.recipe, rest, tiny=None).check


def test_the_page_of_the_doctor_has_every_kind_with_its_thresholds() -> None:
    rows = dict(re.findall(r"^\| ([a-z ]+) \| (.*?) \|", page("doctor"), flags=re.MULTILINE))
    assert tuple(kind for kind in rows if kind != "kind") == doctor.KINDS
    assert f"more than {doctor.DUPLICATES:.0%}".replace("%", " %") in rows["duplicate captions"]
    assert f"above {doctor.COLLAPSED} for {doctor.STREAK} steps" in rows["collapsed embeddings"]
    assert f"±{doctor.FARTHEST}" in rows["image normalisation"]
    assert f"more than {doctor.LOSS_RATIO:g} times" in rows["learning rate"]
    assert f"more than {doctor.NORM_RATIO:g} times" in rows["learning rate"]
    assert f"more than {doctor.FORGOTTEN:.0%}".replace("%", " %") in rows["forgetting"]
    assert f"{doctor.STARVED_SECONDS:g} s and {doctor.STARVED:.0%}".replace("%", " %") in rows["data loading"]
    assert f"need {doctor.ENOUGH + doctor.STREAK} steps" in page("doctor")
