"""The loop: exact resume, guards, stopping, what it logs."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from percept.core.errors import PerceptError
from percept.core.io import load_metadata, load_tensors, same_tensors, save_tensors
from percept.data.batch import ImageText
from percept.optim.rules import Frozen, Scale
from percept.train import Every, fit, journal, meters, parallel, state
from percept.train.loop import PATIENCE
from percept.train.state import CHECKPOINT, MODEL
from tests.models.small import VISION
from tests.train import quick, toy
from tests.train.runs import SETTINGS, Config, Hooked, RandomPairs, Trial, experiment, metrics, trial

ROOT = Path(__file__).parents[2]


def weights(run: Trial) -> dict[str, torch.Tensor]:
    return run.model.state_dict()


@pytest.mark.parametrize(
    ("dtype", "stops", "optimiser"),
    [
        ("float32", (3,), "adamw"),
        ("bfloat16", (1, 2, 7), "adamw"),
        ("bfloat16", (3,), "muon"),
        ("float32", (1, 5), "muon"),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(
    tmp_path: Path, dtype: str, stops: tuple[int, ...], optimiser: str
) -> None:
    whole = experiment(dtype=dtype, optimiser=optimiser)
    fit(whole, tmp_path / "whole")
    for stop in stops:
        part = experiment(dtype=dtype, optimiser=optimiser)
        torch.rand(stop)  # where the generator stands before must not matter: another process is elsewhere
        taken = stop - (json.loads(last) if (last := previous(tmp_path / "parts")) else 0)
        interrupt_at(part.model, taken)
        assert fit(part, tmp_path / "parts").step == stop
    last = experiment(dtype=dtype, optimiser=optimiser)
    progress = fit(last, tmp_path / "parts")
    assert (progress.step, progress.samples) == (8, 32)
    assert same_tensors(weights(last), weights(whole))
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    kept = [load_tensors(tmp_path / name / CHECKPOINT) for name in ("parts", "whole")]
    assert same_tensors(*kept)


def previous(folder: Path) -> str:
    lines = (folder / "metrics.jsonl").read_text().splitlines() if folder.is_dir() else []
    return str(json.loads(lines[-1])["step"]) if lines else ""


def interrupt_at(model: torch.nn.Module, call: int) -> None:
    """Press Ctrl-C in that step."""
    assert isinstance(model, Hooked)
    model.before = lambda number: signal.raise_signal(signal.SIGINT) if number == call else None


def test_dropped_branches_make_the_random_state_matter(tmp_path: Path) -> None:
    """The test above would prove little if the model drew nothing."""
    one, other = experiment(), experiment(Config(drop_path=0.0))
    fit(one, tmp_path / "a")
    fit(other, tmp_path / "b")
    assert not same_tensors(weights(one), weights(other))


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path) -> None:
    runs = [experiment(seed=seed) for seed in (0, 0, 1)]
    for number, run in enumerate(runs):
        fit(run, tmp_path / str(number))
    assert same_tensors(weights(runs[0]), weights(runs[1]))
    assert not same_tensors(weights(runs[0]), weights(runs[2]))


def test_work_behind_the_last_checkpoint_is_done_again_and_logged_once(tmp_path: Path) -> None:
    whole = experiment()
    fit(whole, tmp_path / "whole")
    part = experiment()
    interrupt_at(part.model, 3)
    fit(part, tmp_path / "killed")
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:  # as if it had gone on, and been killed in a line
        file.write('{"step": 4, "samples": 16}\n{"step": 5, "sam')
    fit(experiment(), tmp_path / "killed")
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")


def test_checkpoints_are_written_along_the_way(tmp_path: Path) -> None:
    def die(step: int) -> None:
        if step == 5:
            raise MemoryError("killed")

    run = experiment(checkpoint_every=0.0)
    run.model.before = die
    with pytest.raises(MemoryError):
        fit(run, tmp_path)
    whole, resumed = experiment(), experiment()
    fit(whole, tmp_path / "whole")
    resumed.model.before = lambda call: None
    config = replace(resumed, config=Config(settings=replace(SETTINGS, checkpoint_every=0.0)))
    fit(config, tmp_path)
    assert resumed.model.calls == 4
    assert same_tensors(weights(resumed), weights(whole))


def test_a_stage_is_told_as_it_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    staged = {"stages": {0: "small pictures", 5: "large pictures"}}
    run = replace(experiment(), **staged)
    interrupt_at(run.model, 3)
    fit(run, tmp_path)
    told = " ".join(capsys.readouterr().err.split())
    assert "from step 0 on: small pictures the first" in told
    assert "large" not in told
    fit(replace(experiment(), **staged), tmp_path)
    told = " ".join(capsys.readouterr().err.split())
    assert "small" not in told
    assert "from step 5 on: large pictures; its losses do not compare with those before step 6/8" in told


def test_a_finished_run_is_finished_again_without_a_step(tmp_path: Path) -> None:
    fit(experiment(), tmp_path)
    finished: list[dict] = []
    again = experiment(save=lambda folder, task, totals: finished.append(totals))
    fit(again, tmp_path)
    assert again.model.calls == 0
    assert [(totals["steps"], totals["samples"], totals["skipped"]) for totals in finished] == [(8, 32, 0)]


def test_another_configuration_is_refused_and_named(tmp_path: Path) -> None:
    fit(experiment(), tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    for other in (Config(drop_path=0.1), Config(settings=replace(SETTINGS, learning_rate=2e-3))):
        with pytest.raises(PerceptError, match=r"values of (drop_path|settings\.learning_rate)\. Use another folder"):
            fit(experiment(other), tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_a_finished_model_without_its_checkpoint_is_not_replaced_by_another_run(tmp_path: Path) -> None:
    def save(folder: Path, task: Any, totals: Any) -> None:
        (folder / MODEL).write_text("{}")

    fit(experiment(save=save), tmp_path)
    (tmp_path / CHECKPOINT).unlink()
    described = (tmp_path / "run.json").read_bytes()
    for replan in (False, True):
        with pytest.raises(PerceptError, match=r"finished model .* values of settings\.learning_rate\. Use another"):
            fit(experiment(save=save, learning_rate=2e-3), tmp_path, replan=replan)
    assert (tmp_path / "run.json").read_bytes() == described
    again = experiment(save=save)
    assert fit(again, tmp_path).step == again.model.calls == 8  # the same run may be repeated


def test_a_run_does_not_resume_with_other_data(tmp_path: Path) -> None:
    def run(identity: str, steps: int = 8) -> Trial:
        source = RandomPairs(4)
        setattr(source, "identity", identity)  # noqa: B010
        return experiment(source=source, steps=steps)

    first = run("30 rows")
    interrupt_at(first.model, 3)
    fit(first, tmp_path)
    with pytest.raises(PerceptError, match=r"different values of training data\. Use another folder"):
        fit(run("31 rows"), tmp_path)
    progress = fit(run("31 rows"), tmp_path, replan=True)
    assert (progress.step, progress.changes) == (8, [{"step": 3, "before": {"training data": "30 rows"}}])
    assert fit(experiment(), tmp_path).step == 8  # a source without an identity


def test_a_warmup_longer_than_the_run_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(experiment(warmup=8), tmp_path / "whole")
    assert "warmup" not in capsys.readouterr().err
    fit(experiment(warmup=32), tmp_path / "part")
    told = " ".join(capsys.readouterr().err.split())
    assert "warmup=32 is more than the 8 steps of the run, so the learning rate reaches only 25 % of 0.001" in told
    assert max(row["learning_rate"] for row in metrics(tmp_path / "part")) == pytest.approx(2.5e-4)


@pytest.mark.parametrize("length", [0, 100, -1])
def test_a_broken_checkpoint_is_said(tmp_path: Path, length: int) -> None:
    fit(experiment(), tmp_path)
    data = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(data[:length])
    with pytest.raises(PerceptError, match="not a complete safetensors file"):
        fit(experiment(), tmp_path)


def test_a_step_that_is_not_finite_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = experiment(Config(drop_path=0.0))
    run.model.spoil = lambda call: call in (3, 4)
    progress = fit(run, tmp_path)
    assert (progress.step, progress.skipped) == (8, 2)
    assert all(bool(value.isfinite().all()) for value in weights(run).values())
    assert [row["step"] for row in metrics(tmp_path)] == [1, 2, 5, 6, 7, 8]
    told = " ".join(capsys.readouterr().err.split())
    assert "step 3: loss nan, gradient norm nan, not finite in clip.vision.blocks.0.attention.qkv.weight, " in told
    assert told.count("more; left out") == 2
    assert "step 4: loss nan" in told


def test_a_loss_that_stays_not_finite_gives_up_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=40)
    first = experiment(Config(settings=settings))
    interrupt_at(first.model, 3)
    fit(first, tmp_path)
    before = load_tensors(tmp_path / CHECKPOINT)
    second = experiment(Config(settings=settings))
    second.model.spoil = lambda call: True
    with pytest.raises(
        PerceptError, match=f"last {PATIENCE} steps, 4 to 13; .*checkpoint of step 3, from before them.*--replan"
    ):
        fit(second, tmp_path)
    assert second.model.calls == PATIENCE
    assert same_tensors(load_tensors(tmp_path / CHECKPOINT), before)
    fresh = experiment(Config(settings=settings))
    fresh.model.spoil = lambda call: True
    with pytest.raises(PerceptError, match="no checkpoint yet"):
        fit(fresh, tmp_path / "fresh")


def test_a_run_that_ends_diverged_is_not_finished_and_its_checkpoint_is_from_before_the_failures(
    tmp_path: Path,
) -> None:
    finished: list[Path] = []
    run = experiment(save=lambda folder, task, totals: finished.append(folder), checkpoint_every=0.0)
    run.model.spoil = lambda call: call > 5  # also when the batch of step 5 is computed again
    with pytest.raises(PerceptError, match="the last 3 steps, 6 to 8"):
        fit(run, tmp_path)
    assert finished == []
    sound = experiment(checkpoint_every=0.0)
    assert fit(sound, tmp_path).step == 8  # goes on from step 5, without the failures
    assert metrics(tmp_path)[-1]["step"] == 8
    whole = experiment(checkpoint_every=0.0)
    fit(whole, tmp_path / "whole")
    assert same_tensors(weights(sound), weights(whole))


def test_a_run_whose_last_steps_are_not_finite_finishes_with_the_weights_before_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished: list[dict[str, object]] = []
    run = experiment(save=lambda folder, task, totals: finished.append(totals), checkpoint_every=0.0)
    run.model.spoil = lambda call: call in (6, 7, 8)
    progress = fit(run, tmp_path)
    assert (progress.step, progress.skipped) == (8, 3)
    assert [totals["skipped"] for totals in finished] == [3]
    assert "the last 3 steps of the run were left out; the model is that of step 5" in capsys.readouterr().err
    sound = experiment(checkpoint_every=0.0)
    interrupt_at(sound.model, 5)
    assert fit(sound, tmp_path / "sound").step == 5
    assert same_tensors(weights(run), weights(sound))
    assert fit(experiment(checkpoint_every=0.0), tmp_path).step == 8  # stands finished; nothing is trained again


def test_a_run_without_any_finite_step_is_not_finished(tmp_path: Path) -> None:
    finished: list[Path] = []
    run = experiment(save=lambda folder, task, totals: finished.append(folder))
    run.model.spoil = lambda call: True
    with pytest.raises(PerceptError, match="the last 8 steps, 1 to 8; there is no checkpoint yet"):
        fit(run, tmp_path)
    assert finished == []
    assert fit(experiment(), tmp_path).step == 8


def test_a_stop_among_failures_names_the_step_of_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = experiment(checkpoint_every=0.0)
    interrupt_at(run.model, 5)
    run.model.spoil = lambda call: call > 3
    assert fit(run, tmp_path).step == 5
    assert "stopped at step 5 of 8; the same command resumes at step 3" in " ".join(capsys.readouterr().err.split())


class Counting(Hooked):
    """Keeps a running mean besides its parameters, as queues and teachers do."""

    mean: torch.Tensor

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.register_buffer("mean", torch.zeros(VISION.output_dim or 0))

    def forward(self, batch: ImageText) -> dict[str, torch.Tensor]:
        values = super().forward(batch)
        self.mean.lerp_(self.clip.embed_image(batch.image).detach().mean(dim=0).to(self.mean.dtype), 0.5)
        return values | {"loss": values["loss"] + self.mean.sum()}


def test_buffers_are_resumed() -> None:
    whole, again = resumed(Counting)
    assert bool(whole.mean.any())
    assert same_tensors(again.state_dict(), whole.state_dict())


class Taught(Hooked):
    """Follows a frozen teacher that is a moving average of the student."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.teacher = deepcopy(self.clip).requires_grad_(False)

    def forward(self, batch: ImageText) -> dict[str, torch.Tensor]:
        values = super().forward(batch)
        for mine, its in zip(self.clip.parameters(), self.teacher.parameters(), strict=True):
            its.lerp_(mine.detach(), 0.1)
        distance = (self.clip.embed_image(batch.image) - self.teacher.embed_image(batch.image)).square().sum()
        return values | {"loss": values["loss"] + distance}


def test_a_teacher_of_moving_averages_is_resumed() -> None:
    whole, again = resumed(Taught)
    assert not same_tensors(whole.clip.state_dict(), whole.teacher.state_dict())
    assert same_tensors(again.state_dict(), whole.state_dict())


def resumed(kind: Callable[..., Any]) -> tuple[Any, Any]:
    """Return a task trained without interruption, and one that was stopped after step 3 and resumed."""

    def made() -> Trial:
        start = experiment(dtype="float32")
        model = kind(start.model.config, start.model.clip)
        return trial(model, start.config)

    with TemporaryDirectory() as folder:
        whole = made()
        fit(whole, Path(folder) / "whole")
        part = made()
        interrupt_at(part.model, 3)
        fit(part, Path(folder) / "parts")
        again = made()
        fit(again, Path(folder) / "parts")
    return whole.model, again.model


def test_minutes_stop_with_a_checkpoint_and_do_not_finish(tmp_path: Path) -> None:
    finished: list[Path] = []
    run = experiment(save=lambda folder, task, totals: finished.append(folder))
    assert fit(run, tmp_path, minutes=0.0).step == 1
    assert (tmp_path / CHECKPOINT).is_file()
    assert finished == []
    assert fit(experiment(save=lambda folder, task, totals: finished.append(folder)), tmp_path, minutes=5.0).step == 8
    assert finished == [tmp_path]


def test_a_run_goes_on_with_another_plan_when_told_to_and_says_so(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    def save(folder: Path, task: object, totals: dict[str, Any]) -> None:
        told.append(totals)

    fit(experiment(), tmp_path, minutes=0.0)
    with pytest.raises(PerceptError, match="at its step 1 with the new values: --replan"):
        fit(experiment(steps=4, hold=1), tmp_path)
    progress = fit(experiment(steps=4, hold=1, save=save), tmp_path, replan=True)
    assert progress.step == 4
    (totals,) = told
    (change,) = totals["changes"]
    assert change["step"] == 1
    assert change["before"]["settings"]["steps"] == 8
    assert set(change["before"]) == {"settings"}
    fit(experiment(steps=4, hold=1, save=save), tmp_path)  # the new plan is the folder's plan now
    assert told[1]["changes"] == [change]
    again: list[dict[str, Any]] = []
    fit(experiment(save=lambda folder, task, totals: again.append(totals)), tmp_path / "plain", replan=True)
    assert "changes" not in again[0]


def test_the_second_ctrl_c_interrupts_at_once_and_the_handler_is_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    run = experiment()

    def twice(call: int) -> None:
        if call == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    run.model.before = twice
    with pytest.raises(KeyboardInterrupt):
        fit(run, tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_metrics_have_the_promised_fields(tmp_path: Path) -> None:
    fit(experiment(steps=7, log_every=3), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6, 7]
    for row in rows:
        promised = (
            "step samples seconds loss scale batch_accuracy image_cosine text_cosine gradient_norm learning_rate "
        )
        promised += "samples_per_second operations_per_second share_of_peak memory data_wait_seconds"
        assert set(promised.split()) == set(row)
        assert row["samples"] == 4 * row["step"]
        assert all(math.isfinite(value) for value in row.values())
        assert row["share_of_peak"] > 0
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["steps"] == 7


def test_a_failing_source_is_raised_as_it_is(tmp_path: Path) -> None:
    run = experiment(source=RandomPairs(fails_at=5))
    with pytest.raises(OSError, match="the disk is gone"):
        fit(run, tmp_path)
    assert run.model.calls == 5
    assert [row["step"] for row in metrics(tmp_path)] == [1, 2, 3, 4, 5]


def test_weights_are_in_the_type_asked_for_and_scalars_in_float32(tmp_path: Path) -> None:
    run = experiment(steps=1)
    fit(run, tmp_path)
    types = {name: value.dtype for name, value in weights(run).items()}
    assert types.pop("clip.log_scale") == torch.float32
    assert set(types.values()) == {torch.bfloat16}


def test_training_lowers_the_loss_on_pairs_seen_again(tmp_path: Path) -> None:
    class Same(RandomPairs):
        def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> ImageText:
            return super().batch(0)

    run = experiment(Config(settings=replace(SETTINGS, steps=30, learning_rate=1e-2), drop_path=0.0), source=Same())
    fit(run, tmp_path)
    losses = [row["loss"] for row in metrics(tmp_path)]
    assert losses[-1] < losses[0] / 3


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"steps": 0}, "steps=0"),
        ({"batch": 0}, "batch=0"),
        ({"log_every": 0}, "log_every=0"),
        ({"learning_rate": 0.0}, "learning_rate=0"),
        ({"clip": float("nan")}, "clip=nan"),
        ({"optimiser": "mu"}, "'muon'"),
        ({"learning_rate": float("inf")}, "learning_rate=inf"),
        ({"warmup": -5}, "warmup=-5"),
        ({"weight_decay": -1.0}, "weight_decay=-1"),
        ({"checkpoint_every": float("nan")}, "checkpoint_every=nan"),
        ({"betas": (1.5, 0.9)}, "betas="),
        ({"accumulate": 0}, "accumulate=0"),
        ({"keep": 0}, "keep=0"),
        ({"keep_every": -1}, "keep_every=-1"),
    ],
)
def test_settings_that_cannot_be(changes: dict, hint: str) -> None:
    with pytest.raises(PerceptError, match=hint):
        replace(SETTINGS, **changes)


def test_a_number_type_or_device_that_is_not_possible(tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match="'bfloat16'"):
        experiment(dtype="float16")
    with pytest.raises(PerceptError, match="unknown device 'quantum'"):
        fit(experiment(device="quantum"), tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(PerceptError, match="cannot be made"):
            fit(experiment(), folder)


@pytest.mark.parametrize("name", ["model.safetensors", "one.jpg"])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(PerceptError, match=r"not empty and holds no run \(no run\.json\)"):
        fit(experiment(), tmp_path)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [(name, b"precious")]


def test_a_file_in_place_of_a_checkpoint_is_not_taken_for_one(tmp_path: Path) -> None:
    save_tensors(tmp_path / CHECKPOINT, {"master.0": torch.zeros(2)}, {"step": "7"})
    with pytest.raises(PerceptError, match="not a checkpoint of this version"):
        fit(experiment(), tmp_path)


def test_the_forward_pass_runs_once_per_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations are counted during real steps; teachers and queues in Python would advance in any other."""
    monkeypatch.setattr(meters.Meter, "_count", quick.COUNT)
    run = experiment()
    fit(run, tmp_path)
    assert run.model.calls == 8
    assert all(json.loads(line)["share_of_peak"] > 0 for line in (tmp_path / "metrics.jsonl").read_text().splitlines())


def test_callbacks_come_every_n_steps_and_at_the_end_and_change_nothing(tmp_path: Path) -> None:
    called: list[int] = []

    def evaluate(task: torch.nn.Module, step: int) -> dict[str, float]:
        called.append(step)
        task.eval()
        torch.rand(step)
        return {"accuracy": step / 10}

    plain, evaluated = experiment(), replace(experiment(), every=(Every(steps=3, call=evaluate),))
    fit(plain, tmp_path / "plain")
    fit(evaluated, tmp_path / "evaluated")
    assert called == [3, 6, 8]
    assert same_tensors(weights(evaluated), weights(plain))
    rows = [row for row in metrics(tmp_path / "evaluated") if "accuracy" in row]
    assert rows == [{"step": step, "accuracy": step / 10} for step in called]
    with pytest.raises(PerceptError, match="steps=0"):
        Every(steps=0, call=evaluate)


def test_an_optimiser_passed_as_a_function_gets_the_groups_and_keeps_its_rates(tmp_path: Path) -> None:
    built: list[torch.optim.Optimizer] = []

    def build(groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        built.append(torch.optim.SGD(groups, momentum=0.5))
        return built

    rules = (("^clip.text", Frozen()), ("log_scale", Scale(10)), (".*", Scale()))
    run = replace(experiment(dtype="float32", warmup=0, steps=2, hold=2), optimiser=build, rules=rules)
    before = {name: value.clone() for name, value in weights(run).items()}
    fit(run, tmp_path)
    assert sorted({group["lr"] for group in built[0].param_groups}) == pytest.approx([1e-3, 1e-2])
    moved = {name for name, value in weights(run).items() if not torch.equal(value, before[name])}
    assert moved
    assert not any(name.startswith("clip.text") for name in moved)


def test_frozen_parts_are_not_rounded_and_drop_no_paths(tmp_path: Path) -> None:
    run = experiment(Config(settings=replace(SETTINGS, dtype="auto"), drop_path=0.5))
    modes: list[tuple[bool, bool]] = []
    run.model.before = lambda call: modes.append((run.model.clip.vision.training, run.model.training))
    fit(replace(run, rules=(("^clip.vision", Frozen()),)), tmp_path)
    assert set(modes) == {(False, True)}
    assert {value.dtype for value in run.model.clip.vision.parameters()} == {torch.float32}
    with pytest.raises(PerceptError, match="frozen weights in float32"):
        fit(replace(experiment(dtype="bfloat16"), rules=(("^clip.vision", Frozen()),)), tmp_path / "other")


def damaged(data: bytearray, how: str) -> bytearray:
    start = 8 + int.from_bytes(data[:8], "little")
    if how == "tensors":
        for place in range(start + 100, len(data), 997):
            data[place] ^= 0x40
    elif how == "one bit":
        data[-1] ^= 1
    elif how == "progress":
        data[data.find(b'\\"step\\": ') + 10] = ord(";")
    else:
        data[data.find(b'\\"samples\\": ') + 13] ^= 1
    return data


@pytest.mark.parametrize("how", ["tensors", "one bit", "progress", "samples"])
def test_a_checkpoint_with_damaged_bits_is_refused(tmp_path: Path, how: str) -> None:
    fit(experiment(), tmp_path, minutes=0.0)
    path = tmp_path / CHECKPOINT
    path.write_bytes(damaged(bytearray(path.read_bytes()), how))
    with pytest.raises(PerceptError, match="is damaged"):
        fit(experiment(), tmp_path)


def test_a_checkpoint_of_another_set_of_frozen_parameters_is_refused_or_exact(tmp_path: Path) -> None:
    def frozen(pattern: str) -> Trial:
        return replace(experiment(dtype="float32"), rules=((pattern, Frozen()),))

    first = frozen("^clip.text")
    fit(first, tmp_path, minutes=0.0)
    with pytest.raises(PerceptError, match="set of frozen parameters"):
        fit(frozen("^clip.vision"), tmp_path)
    second = frozen("^clip.vision")
    assert fit(second, tmp_path, minutes=0.0, replan=True).changes[0]["before"]["trained"]
    before, after = weights(first), weights(second)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("clip.vision"))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    fit(experiment(), tmp_path, minutes=0.0)
    with pytest.raises(PerceptError, match="mean differ"):
        fit(trial(Counting(Hooked.Config(), experiment().model.clip), Config()), tmp_path, replan=True)


def test_leftovers_of_killed_processes_are_removed_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    gone = subprocess.Popen(["true"])
    gone.wait()
    for process in (gone.pid, os.getppid()):
        (tmp_path / f".{CHECKPOINT}.{process}.part").write_bytes(b"half")
    fit(experiment(), tmp_path)
    assert [path.name for path in tmp_path.glob(".*")] == [f".{CHECKPOINT}.{os.getppid()}.part"]


def test_a_full_disk_is_reported_with_what_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = experiment(checkpoint_every=0.0)
    save = safetensors.torch.save_file
    calls: list[int] = []

    def full(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save(*arguments)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    reason = r"checkpoint\.safetensors cannot be written: no space left on device; the last checkpoint, step 2, stands"
    with pytest.raises(PerceptError, match=reason):
        fit(run, tmp_path)
    assert fit(experiment(checkpoint_every=0.0), tmp_path).step == 8
    assert metrics(tmp_path)[-1]["step"] == 8


def test_a_full_disk_under_the_log_is_reported_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(journal, "append_json_line", full)
    with pytest.raises(PerceptError, match=r"metrics\.jsonl cannot be written.*no checkpoint yet"):
        fit(experiment(), tmp_path)


def steps_of(folder: Path) -> list[int]:
    return sorted(int(path.stem.split("-")[1]) for path in folder.glob("checkpoint-*.safetensors"))


def test_checkpoints_are_kept_as_asked(tmp_path: Path) -> None:
    settings = replace(toy.SETTINGS, steps=10, checkpoint_every=0.0, keep=3, keep_every=4)
    fit(toy.recipe(toy.Config(settings=settings)), tmp_path)
    assert steps_of(tmp_path) == [4, 8, 9, 10]
    latest, named = tmp_path / CHECKPOINT, tmp_path / "checkpoint-10.safetensors"
    assert latest.stat().st_ino == named.stat().st_ino  # no space is taken twice
    wanted = load_tensors(tmp_path / CHECKPOINT)
    for name in (CHECKPOINT, "metrics.jsonl", "model.safetensors"):
        (tmp_path / name).unlink()
    (tmp_path / "checkpoint-4.safetensors").rename(latest)
    assert fit(toy.recipe(toy.Config(settings=settings)), tmp_path).step == 10
    assert same_tensors(load_tensors(latest), wanted)
    assert steps_of(tmp_path) == [4, 8, 9, 10]  # it got its name back


def test_a_checkpoint_to_keep_is_written_when_none_is_due(tmp_path: Path) -> None:
    fit(toy.recipe(toy.Config(settings=replace(toy.SETTINGS, steps=7, keep_every=3))), tmp_path)
    assert steps_of(tmp_path) == [3, 6]
    (tmp_path / "plain").mkdir()
    fit(toy.recipe(toy.Config(settings=replace(toy.SETTINGS, steps=3, checkpoint_every=0.0))), tmp_path / "plain")
    assert steps_of(tmp_path / "plain") == []


def test_a_checkpoint_to_keep_gets_its_name_although_the_process_died_before(tmp_path: Path) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state.os, "link", die)
        with pytest.raises(KeyboardInterrupt):
            fit(experiment(keep_every=4), tmp_path)
    assert not (tmp_path / "checkpoint-4.safetensors").exists()
    assert fit(experiment(keep_every=4), tmp_path).step == 8
    for step in (4, 8):
        assert json.loads(load_metadata(tmp_path / f"checkpoint-{step}.safetensors")["progress"])["step"] == step


def test_a_file_system_without_links_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    fit(toy.recipe(toy.Config(settings=replace(toy.SETTINGS, steps=3, keep_every=3))), tmp_path)
    copies = [load_tensors(tmp_path / name) for name in (CHECKPOINT, "checkpoint-3.safetensors")]
    assert same_tensors(*copies)


def test_parts_of_a_batch_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    found = {}
    for parts in (1, 8, 3):
        run = toy.recipe(toy.Config(settings=replace(toy.SETTINGS, accumulate=parts, log_every=1)))
        fit(run, tmp_path / str(parts))
        found[parts] = load_tensors(tmp_path / str(parts) / "model.safetensors"), metrics(tmp_path / str(parts))
    for parts in (8, 3):
        for name, value in found[1][0].items():
            torch.testing.assert_close(found[parts][0][name], value, atol=1e-6, rtol=1e-6)
        for name in ("loss", "half", "gradient_norm", "samples"):
            assert [row[name] for row in found[parts][1]] == pytest.approx([row[name] for row in found[1][1]], rel=1e-4)


def test_parts_are_refused_where_they_would_change_the_loss(tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match=r"the loss of Hooked, which is not a mean over samples.*micro_tokens"):
        fit(experiment(accumulate=2), tmp_path)
    with pytest.raises(PerceptError, match="accumulate=9 is more than the 8 samples"):
        fit(toy.recipe(toy.Config(settings=replace(toy.SETTINGS, accumulate=9))), tmp_path)


def test_recomputed_activations_give_the_same_run(tmp_path: Path) -> None:
    plain, recomputing = (experiment(dtype="float32", checkpointing=each, log_every=8) for each in (False, True))
    fit(plain, tmp_path / "plain")
    fit(recomputing, tmp_path / "recomputing")
    assert [module.checkpointing for module in recomputing.model.modules() if hasattr(module, "checkpointing")] == [
        True
    ] * 2
    assert same_tensors(weights(recomputing), weights(plain))
    for name in ("checkpointing", "compile"):
        with pytest.raises(PerceptError, match=f"{name}=True does not apply"):
            fit(toy.recipe(toy.Config(settings=replace(toy.SETTINGS, **{name: True}))), tmp_path / name)


def test_a_compiled_run_is_the_plain_one_to_rounding_and_resumes_to_the_bit(tmp_path: Path) -> None:
    """In a process of its own: the compiler does not go together with checked annotations."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.train.compiling", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"calls": 8, "compilations": 3}
    plain, whole, parts = (load_tensors(tmp_path / name / CHECKPOINT) for name in ("plain", "whole", "parts"))
    assert same_tensors(parts, whole)
    for name, value in plain.items():
        if name.startswith("master."):
            torch.testing.assert_close(whole[name], value, atol=1e-4, rtol=1e-4)
    losses = [metrics(tmp_path / name)[-1]["loss"] for name in ("whole", "plain")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_compiling_without_a_compiler_or_with_shards_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "compiler", lambda device: None)
    with pytest.raises(PerceptError, match="needs a compiler for cpu"):
        fit(experiment(compile=True), tmp_path)
    with pytest.raises(PerceptError, match="does not work with shard"):
        parallel.compile_blocks(experiment().model, torch.device("cpu"), shard=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_reported_and_a_later_call_resumes(tmp_path: Path, number: signal.Signals) -> None:
    run = experiment(log_every=8)
    run.model.before = lambda call: signal.raise_signal(number) if call == 3 else None
    before = signal.getsignal(number)
    progress = fit(run, tmp_path)
    assert (progress.step, progress.signal) == (3, number)
    assert signal.getsignal(number) is before
    progress = fit(experiment(log_every=8), tmp_path)
    assert (progress.step, progress.signal) == (8, 0)


def test_tensorboard_gets_the_log_or_names_its_extra(tmp_path: Path) -> None:
    run = toy.recipe(toy.Config(settings=replace(toy.SETTINGS, tensorboard=True)))
    if find_spec("tensorboard") is None:
        with pytest.raises(
            PerceptError, match=r"needs tensorboard; install it with: pip install 'percept-models\[tensorboard\]'"
        ):
            fit(run, tmp_path)
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # pyright: ignore

    fit(run, tmp_path, minutes=0.0)
    fit(run, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("loss")}
    assert found == pytest.approx({row["step"]: row["loss"] for row in metrics(tmp_path)}, rel=1e-4)
