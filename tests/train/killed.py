"""A run that is killed again and again: python -m tests.train.killed HOW FOLDER SEED

The parent imports everything once and forks a child for each attempt, so that an attempt takes a fraction of a second.
"""

import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from percept.train import fit, meters, shards, state
from tests.train.runs import SETTINGS, Config, Trial, experiment

STEPS, IN_SHARDS, KILLS, ATTEMPTS = 24, 12, 8, 60
"""IN_SHARDS: steps of a run whose checkpoints are shards, which take longer to write."""


def made(*, shard: bool = False) -> Trial:
    """A small CLIP with dropped branches, a checkpoint after every step, and named ones."""
    settings = replace(SETTINGS, steps=STEPS, log_every=6, checkpoint_every=0.0, keep=2, keep_every=10)
    if shard:
        settings = replace(settings, steps=IN_SHARDS, keep_every=5, shard=True, dtype="float32")
    return experiment(Config(settings=settings))


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_random(attempt: int, chance: random.Random) -> None:
    """Die after a time in which some steps fit; the first three times early, so that no machine has finished by then."""
    timer = threading.Timer(chance.uniform(0.02, 0.1 if attempt < 3 else 0.6), die)
    timer.daemon = True
    timer.start()


def in_a_write(attempt: int, chance: random.Random) -> None:
    """Die in the middle of the tensors of a later checkpoint."""
    write, wanted, calls = safetensors.torch.save_file, chance.randint(1, 4), [0]

    def half(tensors: dict, file: Path, *rest: Any) -> None:
        calls[0] += 1
        write(tensors, file, *rest)
        if calls[0] == wanted:
            os.truncate(file, Path(file).stat().st_size // 2)
            die()

    setattr(safetensors.torch, "save_file", half)  # noqa: B010


def around_a_write(attempt: int, chance: random.Random) -> None:
    """Die before or after a checkpoint gets its second name, or when an old one is to be removed."""
    if attempt % 2:
        count_down(state.os, "link", chance.randint(1, 4))
    else:
        count_down(Path, "unlink", chance.randint(3, 12))


def in_shards(attempt: int, chance: random.Random) -> None:
    """Die before the shards, before the index, or before old shards are removed."""
    if attempt % 3 == 0:
        count_down(shards.state_dict_saver, "save", chance.randint(1, 3))
    elif attempt % 3 == 1:
        count_down(shards, "write_json", chance.randint(1, 6))
    else:
        count_down(shards.shutil, "rmtree", chance.randint(2, 6))


def count_down(owner: Any, name: str, calls: int) -> None:
    """Die in place of a call."""
    original, left = getattr(owner, name), [calls]

    def called(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            die()
        return original(*arguments, **options)

    setattr(owner, name, called)


HOW: dict[str, Callable[[int, random.Random], None]] = {
    "random": at_random,
    "write": in_a_write,
    "names": around_a_write,
    "shards": in_shards,
}


def attempt(how: str, folder: Path, number: int, seed: int) -> bool:
    """Run a child; True if it was killed."""
    child = os.fork()
    if child == 0:
        if number < KILLS:
            HOW[how](number, random.Random(f"{seed} {number}"))
        fit(made(shard=how == "shards"), folder)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return os.WIFSIGNALED(status)


def main(how: str, folder: Path, seed: int) -> None:
    torch.set_num_threads(1)
    setattr(meters, "matmul_peak", lambda device, dtype: 1e12)  # noqa: B010
    meters.operations(lambda: made().model)  # imports what the first step would
    kills = 0
    for number in range(ATTEMPTS):
        if not attempt(how, folder, number, seed):
            break
        kills += 1
    if how == "shards":  # the uninterrupted run; for the other ways the test has one of its own
        attempt(how, folder.with_name("whole"), KILLS, seed)
    print(kills)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
