"""Compute open_clip's own contrastive losses and their gradients, for tests; in the environment that oracles.sh creates.

    sh benchmarks/oracles.sh FOLDER
    FOLDER/bin/python benchmarks/oracle_losses.py tests/golden/losses.npz

Inputs are random unit vectors. ClipLoss and SigLipLoss run in one process and in two processes, each with half of the batch and
with gradients through the gather. Stored per process: its loss, and its gradients of its own rows, of scale and of bias, before any
averaging over processes. The script does not import percept.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from oracle import declare
from torch import distributed, multiprocessing
from torch.nn import functional as F

BATCH, WIDTH = 24, 16
SCALES = (1.0, 14.3, 100.0)
BIAS = -10.0


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Return unit vectors of images, and texts near to them."""
    generator = torch.Generator().manual_seed(0)
    image, noise = (torch.randn(BATCH, WIDTH, generator=generator) for _ in range(2))
    return F.normalize(image, dim=-1), F.normalize(image + noise, dim=-1)


def losses(rank: int, world_size: int) -> dict[str, np.ndarray]:
    """Return losses and gradients of the rows of this process."""
    kinds: Any = importlib.import_module("open_clip.loss")
    size, found = BATCH // world_size, {}
    for scale in SCALES:
        for name in ("clip", "siglip"):
            image, text = (each[rank * size :][:size].clone().requires_grad_() for each in inputs())
            factor, bias = torch.tensor(scale, requires_grad=True), torch.tensor(BIAS, requires_grad=True)
            if name == "clip":
                loss = kinds.ClipLoss(local_loss=True, gather_with_grad=True, rank=rank, world_size=world_size)
                value = loss(image, text, factor)
            else:
                value = kinds.SigLipLoss(rank=rank, world_size=world_size)(image, text, factor, bias)
            value.backward()
            parts = {"loss": value, "image": image.grad, "text": text.grad, "scale": factor.grad}
            for part, tensor in (parts | ({"bias": bias.grad} if name == "siglip" else {})).items():
                assert tensor is not None
                found[f"{name} {scale} {world_size} {rank} {part}"] = tensor.detach().numpy().copy()
    return found


def process(rank: int, world_size: int, replies: Any) -> None:
    operators = declare()
    if world_size > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
        distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    replies.put(losses(rank, world_size))
    if world_size > 1:
        distributed.destroy_process_group()
    del operators


def main() -> None:
    context = multiprocessing.get_context("spawn")
    replies, found = context.Queue(), {}
    for world_size in (1, 2):
        workers = [context.Process(target=process, args=(rank, world_size, replies)) for rank in range(world_size)]
        for worker in workers:
            worker.start()
        for _ in workers:
            found |= replies.get(timeout=120)
        for worker in workers:
            worker.join()
    image, text = inputs()
    np.savez_compressed(Path(sys.argv[1]), image=image.numpy(), text=text.numpy(), **found)


if __name__ == "__main__":
    main()
