"""Runs in a row: each begins with the model before; finished ones are left alone; a stopped one resumes."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.data.batch import Batch
from percept.train.chain import Chain, fit_chain
from percept.train.experiment import Experiment, Settings


class Task(nn.Module):
    def __init__(self, start: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([start]))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": (self.value**2).sum()}


@dataclass(frozen=True, kw_only=True, eq=False)
class One(Batch):
    value: Tensor


class Ones:
    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> One:
        return One(value=torch.ones(1))


def chain(calls: list[tuple[str, str | None]], steps: int = 3) -> Chain:
    def part(name: str, before: Path | None) -> Experiment:
        calls.append((name, None if before is None else before.name))
        settings = Settings(steps=steps, batch=1, device="cpu", dtype="float32", warmup=0)
        return Experiment(
            name=name, config=settings, settings=settings, task=lambda place: Task(1.0), source=lambda place: Ones(),
            save=lambda out, task, totals: write_json(out / "config.json", {"name": name}),
        )  # fmt: skip

    return Chain(
        name="test", config=None, parts=(("one", lambda before: part("one", before)), ("two", lambda before: part("two", before)))
    )  # fmt: skip


def test_each_part_gets_the_folder_before_and_finished_parts_are_left_alone(tmp_path: Path) -> None:
    calls: list[tuple[str, str | None]] = []
    folder, progress, finished = fit_chain(chain(calls), tmp_path / "run")
    assert (folder.name, progress.step, finished) == ("two", 3, True)
    assert calls == [("one", None), ("two", "one")]
    (tmp_path / "run" / "two" / "config.json").unlink()
    calls.clear()
    assert fit_chain(chain(calls), tmp_path / "run")[2]
    assert calls == [("one", None), ("two", "one")]
    before = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}
    assert fit_chain(chain(calls), tmp_path / "run")[2]
    assert {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))} == before


def test_finished_parts_of_a_different_configuration_are_refused(tmp_path: Path) -> None:
    fit_chain(chain([]), tmp_path / "run")
    with pytest.raises(PerceptError, match=r"one holds a finished model .* different values of steps"):
        fit_chain(chain([], steps=4), tmp_path / "run")
    assert fit_chain(chain([], steps=4), tmp_path / "run", replan=True)[2]


def test_a_chain_that_is_out_of_time_stops_and_resumes(tmp_path: Path) -> None:
    calls: list[tuple[str, str | None]] = []
    *_, finished = fit_chain(chain(calls, steps=50), tmp_path / "run", minutes=1e-9)
    assert not finished
    assert [name for name, _ in calls] == ["one"]
    assert fit_chain(chain(calls, steps=50), tmp_path / "run")[2]


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(PerceptError, match="holds no run of test"):
        fit_chain(chain([]), tmp_path)
