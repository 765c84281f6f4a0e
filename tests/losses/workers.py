"""What each process of test_parallel.py runs: python -m tests.losses.workers NAME=FOLDER ..."""

import faulthandler
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from percept.core import dist
from percept.core.io import save_tensors
from percept.losses import tiled
from percept.methods.contrast import loss_rows
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.train import fit, meters
from tests.losses.oracle import BIAS, SCALES, inputs
from tests.models.small import TEXT, VISION
from tests.train.runs import Config, Hooked, RandomPairs, trial
from tests.train.workers import kept, made

NAMES = ("lamb", "lion")
PARTS = {"plain": False, "recompute": True}


def losses(folder: Path) -> None:
    """Write losses and gradients of this process's rows."""
    dist.join(torch.device("cpu"))
    tiled.TILE = 5
    found: dict[str, Tensor] = {}
    for scale in SCALES:
        for form in ("dense", "tiled", "sigmoid"):
            size = len(inputs()[0]) // dist.world_size()
            image, text = (each[dist.rank() * size :][:size].clone().requires_grad_() for each in inputs())
            given = [torch.tensor(value, requires_grad=True) for value in (scale, BIAS)]
            loss = loss_rows(image, text, given[0], form=form, bias=given[1]).loss
            loss.backward()
            parts = {"loss": loss, "image": image.grad, "text": text.grad, "scale": given[0].grad}
            for part, value in (parts | ({"bias": given[1].grad} if form == "sigmoid" else {})).items():
                assert value is not None
                found[f"{form} {scale} {part}"] = value.detach()
    save_tensors(folder / f"losses-{dist.rank()}.safetensors", found)


def in_parts(recompute: bool, **changes: Any) -> Any:
    """A run with dropped branches, in parts of one sample."""
    settings = replace(made().settings, steps=3, **changes)
    config = Config(settings=settings, drop_path=0.3)
    torch.manual_seed(0)
    clip = CLIP(ClipConfig(vision=replace(VISION, drop_path=0.3), text=TEXT))
    method = Hooked.Config(micro_tokens=16, recompute=recompute)
    return kept(trial(Hooked(method, clip), config, RandomPairs(settings.batch)))


def parts(folder: Path) -> None:
    """Gradients under DDP, and runs with FSDP2, with and without computing the parts again."""
    dist.join(torch.device("cpu"))
    for name, recompute in PARTS.items():
        model = in_parts(recompute).model.train()
        wrapped = DistributedDataParallel(model)
        torch.manual_seed(dist.rank())
        wrapped(RandomPairs(8).batch(0, rank=dist.rank(), world_size=2))["loss"].backward()
        gradients = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
        save_tensors(folder / f"ddp-{name}-{dist.rank()}.safetensors", gradients)
        fit(in_parts(recompute, shard=True), folder / f"fsdp-{name}")


def optimisers(folder: Path) -> None:
    """Train in one process."""
    for name in NAMES:
        fit(kept(made(optimiser=name)), folder / name)


def sharded(folder: Path) -> None:
    """Train in shards, with an interruption."""
    for name in NAMES:
        fit(kept(made(optimiser=name, shard=True)), folder / f"sharded-{name}", minutes=0.0)
        fit(kept(made(optimiser=name, shard=True)), folder / f"sharded-{name}")


if __name__ == "__main__":
    faulthandler.dump_traceback_later(200)
    meters.matmul_peak = lambda device, dtype: 1e12
    torch.set_num_threads(1)
    for argument in sys.argv[1:]:
        work, where = argument.split("=")
        Path(where).mkdir(exist_ok=True)
        globals()[work](Path(where))
