"""Learning-rate schedules: pure functions of the step."""

import math


def warmup_cosine(step: int, *, warmup: int, steps: int, hold: int = 0, floor: float = 0.0) -> float:
    """Return the learning-rate factor: linear warmup, `hold` steps at 1, then half a cosine down to `floor`.

    >>> [round(warmup_cosine(step, warmup=2, steps=6), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = max(0, step - warmup - hold) / max(1, steps - warmup - hold)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def constant_then_cosine(epoch: int, *, rate: float, epochs: int, warmup: int = 1, warmup_rate: float = 1e-5) -> float:
    """Return the learning rate of an epoch: `warmup` epochs at `warmup_rate`, then a cosine over `epochs` that begins at its start.

    The cosine counts from 0 after the warm-up, so the last epoch still has a positive rate, as in KaiyangZhou/Dassl.pytorch,
    optim/lr_scheduler.py.

    >>> [round(constant_then_cosine(epoch, rate=1.0, epochs=4), 5) for epoch in range(4)]
    [1e-05, 1.0, 0.85355, 0.5]
    """
    if epoch < warmup:
        return warmup_rate
    return rate * 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / epochs))
