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
