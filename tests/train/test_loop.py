"""The loop: exact resume, guards, stopping, what it logs."""

import json
import math
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from percept.core.contracts import Batch
from percept.core.errors import PerceptError
from percept.core.io import load_tensors, same_tensors, save_tensors
from percept.train import Experiment, fit
from percept.train.loop import PATIENCE
from percept.train.state import CHECKPOINT
from tests.models.small import VISION
from tests.train.runs import SETTINGS, Config, Hooked, RandomPairs, experiment, metrics


def weights(run: object) -> dict[str, torch.Tensor]:
    return run.model.state_dict()  # type: ignore[attr-defined]


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
    run.model.before = die  # type: ignore[assignment]
    with pytest.raises(MemoryError):
        fit(run, tmp_path)
    whole, resumed = experiment(), experiment()
    fit(whole, tmp_path / "whole")
    resumed.model.before = lambda call: None  # type: ignore[assignment]
    config = replace(resumed, config=Config(settings=replace(SETTINGS, checkpoint_every=0.0)))
    fit(config, tmp_path)
    assert resumed.model.calls == 4  # type: ignore[comparison-overlap]
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
    assert "from step 5 on: large pictures; the loss starts anew, it does not compare with before step 6/8" in told


def test_a_finished_run_is_finished_again_without_a_step(tmp_path: Path) -> None:
    fit(experiment(), tmp_path)
    finished: list[dict] = []
    again = experiment(finish=lambda folder, totals: finished.append(totals))
    fit(again, tmp_path)
    assert again.model.calls == 0  # type: ignore[comparison-overlap]
    assert [(totals["steps"], totals["samples"], totals["skipped"]) for totals in finished] == [(8, 32, 0)]


def test_another_configuration_is_refused_and_named(tmp_path: Path) -> None:
    fit(experiment(), tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    for other in (Config(drop_path=0.1), Config(settings=replace(SETTINGS, learning_rate=2e-3))):
        with pytest.raises(PerceptError, match=r"another (drop_path|settings); give another folder"):
            fit(experiment(other), tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize("length", [0, 100, -1])
def test_a_broken_checkpoint_is_said(tmp_path: Path, length: int) -> None:
    fit(experiment(), tmp_path)
    data = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(data[:length])
    with pytest.raises(PerceptError, match="not a complete safetensors file"):
        fit(experiment(), tmp_path)


def test_a_step_that_is_not_finite_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = experiment(Config(drop_path=0.0))
    run.model.spoil = lambda call: call in (3, 4)  # type: ignore[assignment]
    progress = fit(run, tmp_path)
    assert (progress.step, progress.skipped) == (8, 2)
    assert all(bool(value.isfinite().all()) for value in weights(run).values())
    assert [row["step"] for row in metrics(tmp_path)] == [1, 2, 5, 6, 7, 8]
    assert "step 2: loss nan" in capsys.readouterr().err.replace("\n", " ")


def test_a_loss_that_stays_not_finite_gives_up_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=40)
    first = experiment(Config(settings=settings))
    interrupt_at(first.model, 3)
    fit(first, tmp_path)
    before = load_tensors(tmp_path / CHECKPOINT)
    second = experiment(Config(settings=settings))
    second.model.spoil = lambda call: True  # type: ignore[assignment]
    with pytest.raises(PerceptError, match=f"the last {PATIENCE} steps.*from before them"):
        fit(second, tmp_path)
    assert second.model.calls == PATIENCE  # type: ignore[comparison-overlap]
    assert same_tensors(load_tensors(tmp_path / CHECKPOINT), before)
    fresh = experiment(Config(settings=settings))
    fresh.model.spoil = lambda call: True  # type: ignore[assignment]
    with pytest.raises(PerceptError, match="no checkpoint yet"):
        fit(fresh, tmp_path / "fresh")


def test_a_run_that_ends_in_failures_is_not_finished_and_its_checkpoint_is_from_before_them(tmp_path: Path) -> None:
    finished: list[Path] = []
    run = experiment(finish=lambda folder, totals: finished.append(folder), checkpoint_every=0.0)
    run.model.spoil = lambda call: call > 5  # type: ignore[assignment]
    with pytest.raises(PerceptError, match="the last 3 steps, up to step 8"):
        fit(run, tmp_path)
    assert finished == []
    sound = experiment(checkpoint_every=0.0)
    assert fit(sound, tmp_path).step == 8  # goes on from step 5, without the failures
    assert metrics(tmp_path)[-1]["step"] == 8
    whole = experiment(checkpoint_every=0.0)
    fit(whole, tmp_path / "whole")
    assert same_tensors(weights(sound), weights(whole))


class Counting(Hooked):
    """Keeps a running mean beside its parameters, as queues and teachers do."""

    mean: torch.Tensor

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.register_buffer("mean", torch.zeros(VISION.output_dim or 0))

    def training_step(self, batch: Batch) -> dict[str, torch.Tensor]:
        values = super().training_step(batch)
        self.mean.lerp_(self.embed_image(batch.tensors()["image"]).detach().mean(dim=0).to(self.mean.dtype), 0.5)
        return values | {"loss": values["loss"] + self.mean.sum()}


def test_buffers_are_resumed_and_the_meter_leaves_them_alone(tmp_path: Path) -> None:
    def counting(**changes: Any) -> Experiment:
        run = experiment(dtype="float32", **changes)
        model = Counting(run.model.config)
        model.load_state_dict(run.model.state_dict(), strict=False)
        return replace(run, model=model)

    torch.manual_seed(0)
    whole = counting()
    fit(whole, tmp_path / "whole")
    part = counting()
    interrupt_at(part.model, 3)
    fit(part, tmp_path / "parts")
    again = counting()
    fit(again, tmp_path / "parts")
    assert bool(whole.model.mean.any())  # type: ignore[arg-type]
    assert same_tensors(weights(again), weights(whole))


def test_minutes_stop_with_a_checkpoint_and_do_not_finish(tmp_path: Path) -> None:
    finished: list[Path] = []
    run = experiment(finish=lambda folder, totals: finished.append(folder))
    assert fit(run, tmp_path, minutes=0.0).step == 1
    assert (tmp_path / CHECKPOINT).is_file()
    assert finished == []
    assert fit(experiment(finish=lambda folder, totals: finished.append(folder)), tmp_path, minutes=5.0).step == 8
    assert finished == [tmp_path]


def test_a_run_goes_on_with_another_plan_when_told_to_and_says_so(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    def finish(folder: Path, totals: dict[str, Any]) -> None:
        told.append(totals)

    fit(experiment(), tmp_path, minutes=0.0)
    with pytest.raises(PerceptError, match="from its step 1 with the new one: --replan"):
        fit(experiment(steps=4, hold=1), tmp_path)
    progress = fit(experiment(steps=4, hold=1, finish=finish), tmp_path, replan=True)
    assert progress.step == 4
    (totals,) = told
    (change,) = totals["changes"]
    assert change["step"] == 1
    assert change["before"]["settings"]["steps"] == 8
    assert set(change["before"]) == {"settings"}
    fit(experiment(steps=4, hold=1, finish=finish), tmp_path)  # the new plan is the folder's plan now
    assert told[1]["changes"] == [change]
    again: list[dict[str, Any]] = []
    fit(experiment(finish=lambda folder, totals: again.append(totals)), tmp_path / "plain", replan=True)
    assert "changes" not in again[0]


def test_the_second_ctrl_c_interrupts_at_once_and_the_handler_is_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    run = experiment()

    def twice(call: int) -> None:
        if call == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    run.model.before = twice  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        fit(run, tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_metrics_have_the_promised_fields(tmp_path: Path) -> None:
    fit(experiment(steps=7, log_every=3), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6, 7]
    for row in rows:
        promised = "step samples seconds loss scale batch_accuracy gradient_norm rate samples_per_second share_of_peak"
        assert set(promised.split()) == set(row)
        assert row["samples"] == 4 * row["step"]
        assert all(math.isfinite(value) for value in row.values())
        assert row["share_of_peak"] > 0
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["steps"] == 7


def test_a_failing_source_is_raised_as_it_is(tmp_path: Path) -> None:
    run = experiment(source=RandomPairs(fails_at=5))
    with pytest.raises(OSError, match="the disk is gone"):
        fit(run, tmp_path)
    assert run.model.calls == 5  # type: ignore[comparison-overlap]
    assert [row["step"] for row in metrics(tmp_path)] == [1, 2, 3, 4, 5]


def test_weights_are_in_the_type_asked_for_and_scalars_in_float32(tmp_path: Path) -> None:
    run = experiment(steps=1)
    fit(run, tmp_path)
    types = {name: value.dtype for name, value in weights(run).items()}
    assert types.pop("log_scale") == torch.float32
    assert set(types.values()) == {torch.bfloat16}


def test_training_lowers_the_loss_on_pairs_seen_again(tmp_path: Path) -> None:
    class Same(RandomPairs):
        def batch(self, step: int):
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
        ({"micro_tokens": 0}, "micro_tokens=0"),
        ({"learning_rate": 0.0}, "learning_rate=0"),
        ({"clip": float("nan")}, "clip=nan"),
        ({"optimiser": "mu"}, "'muon'"),
        ({"learning_rate": float("inf")}, "learning_rate=inf"),
        ({"warmup": -5}, "warmup=-5"),
        ({"weight_decay": -1.0}, "weight_decay=-1"),
        ({"checkpoint_every": float("nan")}, "checkpoint_every=nan"),
        ({"betas": (1.5, 0.9)}, "betas="),
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
