"""What each of two processes of a test runs: python -m tests.methods.pe_workers."""

import torch
from torch import Tensor, nn

from percept.core import dist
from percept.methods.pretraining import distill, pe_finetune


def gradients(task: nn.Module) -> list[Tensor]:
    grads = [parameter.grad.clone() for parameter in task.parameters() if parameter.grad is not None]
    task.zero_grad()
    return grads


def main() -> None:
    dist.join(torch.device("cpu"))
    gather = dist.gather
    for kind in (pe_finetune.Finetuning, distill.Distillation):
        torch.manual_seed(0)
        task, batch = kind.tiny()
        half = len(batch) // 2
        loss = task(batch.rows(slice(half * dist.rank(), half * (dist.rank() + 1))))["loss"]
        loss.backward()
        shared = gradients(task)
        dist.average_(shared)
        dist.gather = lambda rows: rows  # type: ignore[assignment]
        whole = task(batch)["loss"]
        whole.backward()
        dist.gather = gather
        torch.testing.assert_close(dist.mean(loss.detach()[None])[0], whole.detach())
        for one, other in zip(shared, gradients(task), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


if __name__ == "__main__":
    main()
