"""What each process of a test of several processes runs: python -m tests.train.workers NAME=FOLDER ..."""

import errno
import faulthandler
import json
import os
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.nn.parallel import DistributedDataParallel

from percept.core import dist
from percept.core.errors import PerceptError
from percept.core.io import save_tensors
from percept.data.chat.batch import ChatBatch
from percept.data.source import share
from percept.methods.language.plm import PLM
from percept.methods.pretraining import nano
from percept.optim.rules import Frozen
from percept.train import Every, Experiment, fit, meters
from tests.train import toy
from tests.train.runs import Config, RandomPairs, Trial, experiment

IMAGES = torch.linspace(-1, 1, 2 * 3 * 16 * 16).view(2, 3, 16, 16)
SIZE = 8
"""Samples of a global batch."""


def made(**changes: Any) -> Trial:
    """A run without random numbers inside the step, which would differ between processes."""
    settings = replace(experiment(dtype="float32", batch=SIZE).settings, **changes)
    return experiment(Config(settings=settings, drop_path=0.0))


def kept(run: Experiment) -> Experiment:
    """Keep the trained weights."""

    def save(out: Path, task: torch.nn.Module, totals: dict[str, Any]) -> None:
        save_tensors(out / "model.safetensors", task.state_dict())

    return replace(run, save=save)


class Talks:
    """Conversations of which the second half has no images."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        _, self.all = PLM.tiny()

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> ChatBatch:
        rows = [self.all.rows(slice(place, place + 1)) for place in (step % 2, 1, 2, 2)]
        whole = joined(rows)
        return whole.rows(share(len(whole), rank, world_size))


def joined(rows: list[ChatBatch]) -> ChatBatch:
    """Return one batch of single rows."""
    longest = max(row.ids.shape[1] for row in rows)
    pad = torch.nn.functional.pad
    return ChatBatch(
        ids=torch.cat([pad(row.ids, (0, longest - row.ids.shape[1])) for row in rows]),
        learned=torch.cat([pad(row.learned, (0, longest - row.learned.shape[1])) for row in rows]),
        lengths=torch.cat([row.lengths for row in rows]),
        tile_counts=torch.cat([row.tile_counts for row in rows]),
        tiles=torch.cat([row.tiles for row in rows if len(row.tiles)]),
    )


def talking(**changes: Any) -> Experiment:
    """Train a vision-language model; one of two processes gets no images."""
    settings = replace(made(**changes).settings, batch=4)
    base = replace(made(), settings=settings, config=Config(settings=settings), source=lambda place: Talks())
    return kept(replace(base, task=lambda place: PLM.tiny()[0]))


def stateless(groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
    """Plain gradient descent: unlike Adam it does not scale up rounding noise where a gradient is 0."""
    return [torch.optim.SGD(groups)]


def whole(folder: Path) -> None:
    """Train in several ways without shards."""
    for name, changes in (("adamw", {}), ("muon", {"optimiser": "muon"}), ("bf16", {"dtype": "bfloat16"})):
        fit(kept(made(**changes)), folder / name)
    fit(kept(replace(made(learning_rate=0.1), optimiser=stateless)), folder / "sgd")
    fit(kept(replace(made(), rules=(("^clip.text", Frozen()),))), folder / "frozen")
    fit(talking(), folder / "plm")
    fit(toy.recipe(toy.Config(settings=replace(toy.SETTINGS, steps=8, log_every=1, accumulate=2))), folder / "parts")


def sharded(folder: Path) -> None:
    """Train in shards, with an interruption."""
    for name, changes in (("adamw", {}), ("muon", {"optimiser": "muon"})):
        fit(kept(made(shard=True, **changes)), folder / "sharded" / name, minutes=0.0)
        fit(kept(made(shard=True, **changes)), folder / "sharded" / name)
    fit(kept(replace(made(shard=True), rules=(("^clip.text", Frozen()),))), folder / "sharded" / "frozen")
    fit(talking(shard=True), folder / "sharded" / "plm")
    fit(kept(made(shard=True, keep=2, keep_every=3, checkpoint_every=0.0)), folder / "sharded" / "several")
    watched = folder / "sharded" / "watched"
    fit(kept(replace(made(shard=True), every=[Every(steps=4, call=partial(embed, watched), preserve=True)])), watched)


@torch.no_grad()
def embed(folder: Path, task: torch.nn.Module, step: int) -> None:
    """Write the vectors of some images, computed by a part of the task."""
    vectors = task.get_submodule("clip").embed_image(IMAGES)  # type: ignore[operator]
    if dist.rank() == 0:
        save_tensors(folder / f"vectors-{step}.safetensors", {"image": vectors})


def stop(folder: Path) -> None:
    """Stop after a step."""
    fit(kept(made()), folder / "run", minutes=0.0)
    fit(kept(made(shard=True)), folder / "run_sharded", minutes=0.0)


def go_on(folder: Path) -> None:
    """Resume what `stop` left."""
    fit(kept(made()), folder / "run")
    fit(kept(made(shard=True)), folder / "run_sharded")


def interrupted(folder: Path) -> None:
    """SIGTERM reaches rank 1 only, in step 3."""
    run = made()
    rank = dist.launched_rank()
    run.model.before = lambda call: signal.raise_signal(signal.SIGTERM) if rank == 1 and call == 3 else None
    progress = fit(kept(run), folder / "interrupted")
    (folder / f"stopped-{rank}").write_text(f"{progress.step} {progress.signal}")
    names = sorted(path.name for path in (folder / "interrupted").iterdir())
    (folder / f"left-{rank}").write_text(" ".join(names))
    fit(kept(made()), folder / "interrupted")


def spoiled(folder: Path) -> None:
    """The loss of rank 1 alone is not finite in step 3: both leave the step out."""
    run, rank = made(), dist.launched_rank()
    run.model.spoil = lambda call: rank == 1 and call == 3
    progress = fit(kept(run), folder / "spoiled")
    (folder / f"skipped-{rank}").write_text(str(progress.skipped))


def refused(folder: Path) -> None:
    """Mistakes are raised in every process."""
    (folder / "file").write_text("in the way")
    for run, where in ((made(batch=7), folder / "new"), (made(), folder / "file")):
        try:
            fit(run, where)
        except PerceptError as error:
            with (folder / f"error-{dist.launched_rank()}").open("a") as file:
                file.write(f"{error}\n")


def full(folder: Path) -> None:
    """The disk of rank 1 is full when the third checkpoint is written, in shards; then there is room again."""
    rank, calls, create = dist.launched_rank(), [0], FileSystem.create_stream

    def refuse(self: FileSystem, path: Any, mode: str) -> Any:
        calls[0] += mode == "wb" and str(path).endswith(".distcp")
        if rank == 1 and calls[0] == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return create(self, path, mode)

    def run() -> Experiment:
        return kept(made(shard=True, checkpoint_every=0.0))

    FileSystem.create_stream = refuse  # type: ignore[method-assign]
    try:
        fit(run(), folder / "full")
    except PerceptError as error:
        (folder / f"full-{rank}").write_text(str(error))
    FileSystem.create_stream = create  # type: ignore[method-assign]
    fit(run(), folder / "full")


def nodes(folder: Path) -> None:
    """One of several nodes: train with copies and with shards."""
    dist.join(torch.device("cpu"))
    facts = {name: os.environ[name] for name in ("RANK", "GROUP_RANK", "LOCAL_RANK", "WORLD_SIZE")}
    (folder / f"node-{facts['GROUP_RANK']}.json").write_text(json.dumps(facts))
    fit(kept(made()), folder / "copies")
    fit(kept(made(shard=True)), folder / "shards")


def communication(folder: Path) -> None:
    """Gradients through `gather`, PyTorch's own DDP around a task, and the task of nano in shares."""
    dist.join(torch.device("cpu"))
    rank, facts = dist.rank(), {}
    rows = torch.full((2, 3), float(rank + 1), requires_grad=True)
    gathered = dist.gather(rows)
    (gathered * torch.arange(4.0)[:, None] * (rank + 1)).sum().backward()
    assert rows.grad is not None
    facts["gathered"], facts["gradient"] = gathered[:, 0].tolist(), rows.grad[:, 0].tolist()
    facts["flags"] = dist.any_true(rank == 0, rank == 1, False)
    facts["named"] = dist.gather(torch.tensor([rank == 0, True])).tolist()
    wrapped = DistributedDataParallel(made().model)
    batch = RandomPairs(SIZE).batch(0, rank=rank, world_size=2)
    wrapped(batch)["loss"].backward()
    facts["ddp"] = norm_of([each.grad for each in wrapped.parameters() if each.grad is not None])
    del wrapped
    torch.manual_seed(0)
    task, full = nano.Pretraining.tiny()
    values = task(full.rows(slice(2 * rank, 2 * rank + 2)))
    values["loss"].backward()
    gradients = [each.grad for each in task.parameters() if each.grad is not None]
    dist.average_(gradients)
    facts["nano"] = float(dist.mean(values["loss"].detach()))
    facts["nano gradient"] = norm_of(gradients)
    (folder / f"facts-{rank}.json").write_text(json.dumps(facts))


def norm_of(gradients: list[torch.Tensor]) -> float:
    return float(torch.stack([each.norm() for each in gradients]).norm())


if __name__ == "__main__":
    faulthandler.dump_traceback_later(150)
    meters.matmul_peak = lambda device, dtype: 1e12
    torch.set_num_threads(1)
    for argument in sys.argv[1:]:  # NAME=FOLDER
        started = time.monotonic()
        work, where = argument.split("=")
        Path(where).mkdir(exist_ok=True)
        globals()[work](Path(where))
        print(work, os.environ.get("RANK"), f"{time.monotonic() - started:.1f} s", file=sys.stderr)
