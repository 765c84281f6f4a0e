"""Few-shot samples and base/new splits of classes, as the prompt-learning literature draws them.

Zhou et al. 2022, arXiv:2203.05557, section 4.1; reference: KaiyangZhou/CoOp, datasets/oxford_pets.py.
"""

import random
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from percept.core.errors import PerceptError
from percept.core.seed import derive


def few_shot(labels: Sequence[int] | Int[np.ndarray, " n"], shots: int, seed: int) -> Int[np.ndarray, " k"]:
    """Return the numbers of `shots` samples of every class, drawn without repetition; all of a class that has fewer.

    The sample of a class depends on the labels, `shots` and `seed` only, so a split of the classes changes no sample.

    >>> few_shot([0, 1, 0, 1, 0], 2, seed=1).tolist() == few_shot([0, 1, 0, 1, 0], 2, seed=1).tolist()
    True

    Raises:
        PerceptError: `shots` is below 1.
    """
    if shots < 1:
        raise PerceptError(f"shots must be at least 1, got {shots}.")
    own = np.asarray(labels)
    chosen = []
    for label in np.unique(own):
        rows = np.flatnonzero(own == label).tolist()
        rng = random.Random(derive(seed, "few shot", shots, int(label)))
        chosen += rows if len(rows) <= shots else rng.sample(rows, shots)
    return np.array(chosen, dtype=np.int64)


def base_and_new(classes: int) -> tuple[range, range]:
    """Return the numbers of the base classes, the first half rounded up, and of the new ones.

    >>> base_and_new(5)
    (range(0, 3), range(3, 5))

    Raises:
        PerceptError: there are fewer than two classes.
    """
    if classes < 2:
        raise PerceptError(f"a base/new split needs at least 2 classes, got {classes}.")
    middle = -(-classes // 2)
    return range(middle), range(middle, classes)
