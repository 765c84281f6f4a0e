"""Two processes: the losses of open_clip, parts that are computed again under DDP and FSDP2, sharded optimisers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from percept.core.io import load_tensors
from tests.losses.oracle import SCALES, check, reference
from tests.losses.workers import NAMES
from tests.ports import free_port
from tests.train.runs import metrics

ROOT = Path(__file__).parents[2]


def run(processes: int, **works: Path) -> None:
    """Run functions of `workers` with the environment that torchrun gives its processes."""
    plain = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    plain |= {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-m", "tests.losses.workers", *(f"{name}={folder}" for name, folder in works.items())]
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=plain | ({} if processes == 1 else {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        outputs = [process.communicate(timeout=230)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert [process.returncode for process in started] == [0] * processes, "\n".join(outputs)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    run(1, optimisers=folder / "one")
    run(2, losses=folder / "two", parts=folder / "two", sharded=folder / "two")
    return folder


@pytest.mark.parametrize("form", ["dense", "tiled", "sigmoid"])
@pytest.mark.parametrize("rank", [0, 1])
def test_losses_of_two_processes_are_those_of_open_clip(runs: Path, form: str, rank: int) -> None:
    found = load_tensors(runs / "two" / f"losses-{rank}.safetensors")
    for scale in SCALES:
        start = f"{form} {scale} "
        ours = {key.removeprefix(start): value for key, value in found.items() if key.startswith(start)}
        check(ours, reference(form, scale, 2, rank))


@pytest.mark.parametrize("rank", [0, 1])
def test_under_ddp_gradients_of_parts_computed_again_are_the_same(runs: Path, rank: int) -> None:
    plain, again = (load_tensors(runs / "two" / f"ddp-{name}-{rank}.safetensors") for name in ("plain", "recompute"))
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, atol=1e-7, rtol=1e-5)


def same(ours: Path, theirs: Path, *, losses: float, weights: float) -> None:
    rows, expected = metrics(ours), metrics(theirs)
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in expected], rel=losses)
    found, wanted = (load_tensors(folder / "model.safetensors") for folder in (ours, theirs))
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        if name.endswith("qkv.bias"):  # that of keys has no effect, and its gradient is rounding noise
            continue
        difference = (value.float() - wanted[name].float()).abs()
        assert float(difference.max()) < 20 * weights, name
        assert float(difference.mean()) < weights, name


def test_with_shards_a_run_whose_parts_are_computed_again_is_the_same(runs: Path) -> None:
    same(runs / "two" / "fsdp-recompute", runs / "two" / "fsdp-plain", losses=1e-5, weights=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_with_shards_train_the_model_of_one_and_resume(runs: Path, name: str) -> None:
    same(runs / "two" / f"sharded-{name}", runs / "one" / name, losses=1e-3, weights=2e-5)
