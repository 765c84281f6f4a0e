"""Two processes on CPUs: the same losses and weights as one, one decision, one checkpoint."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from percept.core.io import load_tensors
from percept.methods.pretraining import nano
from percept.train import shards
from tests.ports import free_port
from tests.train import workers
from tests.train.runs import RandomPairs, metrics

ROOT = Path(__file__).parents[2]


def run(processes: int, **works: Path) -> None:
    """Run functions of `workers` in several processes, with the environment that torchrun gives them."""
    plain = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    plain |= {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.train.workers", *(f"{name}={folder}" for name, folder in works.items())],
            cwd=ROOT,
            env=plain | ({} if processes == 1 else {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        outputs = [process.communicate(timeout=170)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert [process.returncode for process in started] == [0] * processes, "\n".join(outputs)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs: of one process in "one", of two in "two"; what one of them stops, the other resumes."""
    folder = tmp_path_factory.mktemp("runs")
    one, two = folder / "one", folder / "two"
    run(1, whole=one, stop=one)
    run(
        2, communication=two, whole=two, sharded=two, interrupted=two, spoiled=two, refused=two, full=two, stop=two,
        go_on=one,
    )  # fmt: skip
    run(1, go_on=two)
    return folder


def same(folder: Path, other: Path, *, losses: float = 1e-4, weights: float = 1e-5) -> None:
    """Compare what was logged, and the mean and the largest difference of every weight."""
    ours, theirs = metrics(folder), metrics(other)
    assert [row["step"] for row in ours] == [row["step"] for row in theirs] == list(range(1, 9))
    exact = losses < 0.05  # in bfloat16 the nearest of two texts may depend on rounding
    for name in (
        "loss",
        "gradient_norm",
        "samples",
        *(("batch_accuracy",) if exact and "batch_accuracy" in ours[0] else ()),
    ):
        assert [row[name] for row in ours] == pytest.approx([row[name] for row in theirs], rel=losses)
    tensors, wanted = (load_tensors(each / "model.safetensors") for each in (folder, other))
    assert tensors.keys() == wanted.keys()
    for name, value in tensors.items():
        if name.endswith("qkv.bias"):  # that of keys has no effect; Adam scales up the rounding noise of its gradient
            continue
        difference = (value.float() - wanted[name].float()).abs()
        assert float(difference.max()) < 20 * weights, name
        assert float(difference.mean()) < weights, name


@pytest.mark.parametrize(
    ("name", "losses", "weights"),
    [
        ("sgd", 1e-4, 1e-6),
        ("adamw", 1e-3, 2e-5),
        ("frozen", 1e-3, 2e-5),
        ("muon", 1e-2, 2e-4),
        ("bf16", 0.05, 1e-3),
        ("plm", 1e-3, 2e-5),
        ("parts", 1e-4, 2e-5),
    ],
)
def test_two_processes_train_the_model_of_one(runs: Path, name: str, losses: float, weights: float) -> None:
    same(runs / "two" / name, runs / "one" / name, losses=losses, weights=weights)
    assert len(list((runs / "two" / name).glob("*checkpoint*"))) == 1


@pytest.mark.parametrize(
    ("name", "losses", "weights"),
    [("adamw", 1e-3, 2e-5), ("frozen", 1e-3, 2e-5), ("muon", 1e-2, 2e-4), ("plm", 1e-3, 2e-5)],
)
def test_two_processes_with_shards_train_the_model_of_one_and_resume(
    runs: Path, name: str, losses: float, weights: float
) -> None:
    same(runs / "two" / "sharded" / name, runs / "one" / name, losses=losses, weights=weights)


def test_a_part_of_a_sharded_task_is_evaluated_before_and_while_it_trains(runs: Path) -> None:
    folder = runs / "two" / "sharded" / "watched"
    same(folder, runs / "one" / "adamw", losses=1e-3, weights=2e-5)
    model = workers.made().model
    model.load_state_dict(load_tensors(folder / "model.safetensors"))
    vectors = [load_tensors(folder / f"vectors-{step}.safetensors")["image"] for step in (0, 4, 8)]
    with torch.no_grad():
        torch.testing.assert_close(vectors[2], model.clip.embed_image(workers.IMAGES), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            vectors[0], workers.made().model.clip.embed_image(workers.IMAGES), atol=1e-5, rtol=1e-5
        )
    assert not torch.allclose(vectors[1], vectors[2], atol=1e-3)


@pytest.mark.parametrize("kind", ["run", "run_sharded"])
@pytest.mark.parametrize("begun_by", ["one", "two"])
def test_a_run_resumes_with_another_number_of_processes(runs: Path, begun_by: str, kind: str) -> None:
    same(runs / begun_by / kind, runs / "one" / "adamw", losses=1e-3, weights=2e-5)


def test_a_signal_on_any_rank_stops_all_of_them_with_one_checkpoint(runs: Path) -> None:
    assert [(runs / "two" / f"stopped-{rank}").read_text() for rank in range(2)] == ["3 15", "3 15"]
    assert (runs / "two" / "left-0").read_text() == "checkpoint.safetensors metrics.jsonl run.json"
    same(runs / "two" / "interrupted", runs / "one" / "adamw", losses=1e-3, weights=2e-5)


def test_a_loss_that_is_not_finite_on_one_rank_leaves_the_step_out_on_all(runs: Path) -> None:
    assert [(runs / "two" / f"skipped-{rank}").read_text() for rank in range(2)] == ["1", "1"]
    assert [row["step"] for row in metrics(runs / "two" / "spoiled")] == [1, 2, 4, 5, 6, 7, 8]


def test_sharded_checkpoints_are_kept_as_asked_and_an_earlier_one_resumes(runs: Path, tmp_path: Path) -> None:
    folder = runs / "two" / "sharded" / "several"
    for ending in ("", ".json"):
        assert sorted(shards.by_step(folder, ending)) == [3, 6, 7, 8]
    shutil.copytree(folder, tmp_path / "earlier")
    shutil.copy(folder / "checkpoint-6.json", tmp_path / "earlier" / shards.INDEX)
    assert json.loads(shards.texts(tmp_path / "earlier")["progress"])["step"] == 6


def test_a_full_disk_of_one_rank_is_reported_by_all_and_the_last_checkpoint_stands(runs: Path) -> None:
    for rank in range(2):
        text = (runs / "two" / f"full-{rank}").read_text()
        assert "checkpoint-3 cannot be written" in text
        assert "the last checkpoint, step 2, stands" in text
    same(runs / "two" / "full", runs / "one" / "adamw", losses=1e-3, weights=2e-5)


@pytest.mark.slow
def test_two_nodes_train_the_model_of_one_process(runs: Path, tmp_path: Path) -> None:
    """Each node has its own launcher, as on a cluster; they meet at one address."""
    meeting = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", meeting, "--rdzv-id", "test"]
    command += ["-m", "tests.train.workers", f"nodes={tmp_path}"]
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    environment |= {"OMP_NUM_THREADS": "1"}
    launchers = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        outputs = [launcher.communicate(timeout=200)[1] for launcher in launchers]
    finally:
        for launcher in launchers:
            launcher.kill()
            launcher.communicate()
    assert [launcher.returncode for launcher in launchers] == [0, 0], "\n".join(outputs)
    facts = [json.loads((tmp_path / f"node-{node}.json").read_text()) for node in range(2)]
    assert [(each["LOCAL_RANK"], each["WORLD_SIZE"]) for each in facts] == [("0", "2")] * 2
    for name in ("copies", "shards"):
        same(tmp_path / name, runs / "one" / "adamw", losses=1e-3, weights=2e-5)


def test_mistakes_are_raised_on_all_ranks(runs: Path) -> None:
    texts = [(runs / "two" / f"error-{rank}").read_text() for rank in range(2)]
    assert texts[0] == texts[1]
    assert "7 samples does not divide into 2 equal shares" in texts[0]
    assert "cannot be made" in texts[0]


def facts_of(runs: Path) -> list[dict[str, Any]]:
    return [json.loads((runs / "two" / f"facts-{rank}.json").read_text()) for rank in range(2)]


def gradient_norm(task: torch.nn.Module) -> float:
    return workers.norm_of([each.grad for each in task.parameters() if each.grad is not None])


def test_rows_are_gathered_with_their_gradients(runs: Path) -> None:
    for rank, facts in enumerate(facts_of(runs)):
        assert facts["gathered"] == [1, 1, 2, 2]
        assert facts["gradient"] == [3.0 * (2 * rank), 3.0 * (2 * rank + 1)]  # 1 from rank 0 and 2 from rank 1
        assert facts["flags"] == [True, True, False]
        assert facts["named"] == [True, True, False, True]


def test_pytorch_s_own_ddp_around_a_task_gives_the_gradient_of_the_global_loss(runs: Path) -> None:
    trial = workers.made()
    trial.model(RandomPairs(workers.SIZE).batch(0))["loss"].backward()
    assert facts_of(runs)[0]["ddp"] == pytest.approx(gradient_norm(trial.model), rel=1e-4)


def test_the_task_of_nano_in_two_shares_is_that_of_the_whole_batch(runs: Path) -> None:
    torch.manual_seed(0)
    task, batch = nano.Pretraining.tiny()
    values = task(batch)
    values["loss"].backward()
    facts = facts_of(runs)[0]
    assert facts["nano"] == pytest.approx(float(values["loss"].detach()), rel=1e-5)
    assert facts["nano gradient"] == pytest.approx(gradient_norm(task), rel=1e-4)


def test_torchrun_trains_the_tiny_recipe(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "percept"]
    command += [
        "train",
        "pe/nano",
        "--tiny",
        "--settings.steps",
        "4",
        "--settings.device",
        "cpu",
        "--out",
        str(tmp_path / "run"),
    ]
    environment = os.environ | {"PERCEPT_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished") == 1
    assert "in 2 processes" in " ".join(done.stderr.split())
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()
