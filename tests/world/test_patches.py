"""Which thing covers a patch: ids of pixels against the masks, labels against counting."""

import numpy as np
import torch

from percept.world import generate
from percept.world.patches import BACKGROUND, PRINT, UNSURE, cover_of, ids_of


def test_ids_are_those_of_the_masks_and_print_is_of_no_thing() -> None:
    printed = 0
    for seed in range(30):
        rendering = generate(seed, style="mixed")
        ids = ids_of(rendering)
        assert rendering.masks is not None
        for number, mask in enumerate(rendering.masks, 1):
            assert (ids[mask] == number)[ids[mask] != PRINT].all()
            assert mask[ids == number].all()
        printed += int((ids == PRINT).any())
        assert (ids == PRINT).any() == bool(len(rendering.word_boxes))
    assert printed > 0


def test_cover_is_what_a_count_of_pixels_says() -> None:
    ids = torch.from_numpy(np.stack([ids_of(generate(seed)) for seed in range(10)]))
    found = cover_of(ids, 8)
    assert found.shape == (10, 144)
    for sample in range(10):
        for patch in range(144):
            row, column = divmod(patch, 12)
            cell = ids[sample, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].flatten().tolist()
            best = max(range(1, 7), key=cell.count)
            if cell.count(best) >= 0.4 * 64:
                assert found[sample, patch] == best - 1
            else:
                assert found[sample, patch] == (BACKGROUND if 64 - cell.count(0) <= 6.4 else UNSURE)
    assert {BACKGROUND, UNSURE} < set(found.flatten().tolist())
