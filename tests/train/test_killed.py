"""A run that is killed at any moment and resumed is the uninterrupted one to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from percept.core.io import load_metadata, load_tensors, same_tensors
from percept.train import fit, shards
from percept.train.state import CHECKPOINT
from tests.train import killed
from tests.train.runs import metrics

ROOT = Path(__file__).parents[2]


def run_killed(how: str, folder: Path, seed: int = 0) -> int:
    """Return how often the run was killed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.train.killed", how, str(folder), str(seed)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    fit(killed.made(), folder)
    return folder


def progress_of(texts: dict[str, str]) -> dict[str, int]:
    counts = json.loads(texts["progress"])
    return {name: counts[name] for name in ("step", "samples", "skipped")}


@pytest.mark.parametrize(
    ("how", "seed"),
    [
        ("random", 0),
        ("write", 0),
        ("names", 0),
        *(pytest.param("random", seed, marks=pytest.mark.slow) for seed in (1, 2, 3)),
    ],
)
def test_a_killed_run_is_the_uninterrupted_one(how: str, seed: int, whole: Path, tmp_path: Path) -> None:
    kills = run_killed(how, tmp_path / "run", seed)
    assert kills >= 3
    ours, theirs = tmp_path / "run" / CHECKPOINT, whole / CHECKPOINT
    assert same_tensors(load_tensors(ours), load_tensors(theirs))  # weights, masters, optimiser state, scale, buffers
    found, wanted = load_metadata(ours), load_metadata(theirs)
    assert progress_of(found) == progress_of(wanted) == {"step": 24, "samples": 96, "skipped": 0}
    assert found["optimiser"] == wanted["optimiser"]
    assert metrics(tmp_path / "run") == metrics(whole)  # losses of the same batches
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == sorted(path.name for path in whole.iterdir())


def test_a_killed_run_in_shards_is_the_uninterrupted_one(tmp_path: Path) -> None:
    assert run_killed("shards", tmp_path / "run") >= 3
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")
    found, wanted = (shards.texts(tmp_path / name) for name in ("run", "whole"))
    assert progress_of(found) == progress_of(wanted) == {"step": 12, "samples": 48, "skipped": 0}
    hashes = [json.loads((tmp_path / name / shards.INDEX).read_text())["hashes"] for name in ("run", "whole")]
    assert hashes[0].keys() == hashes[1].keys()
    files = [tmp_path / name / "checkpoint-12" / "__0_0.distcp" for name in ("run", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert sorted(shards.by_step(tmp_path / "run", "")) == [5, 10, 11, 12]
