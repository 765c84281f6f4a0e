"""A cache of ragged rows: the same as no cache, whatever is appended, cut, copied or left out."""

import pytest
import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.nn.cache import KVCache
from percept.nn.context import Cache


def cache(batch: int = 3, capacity: int = 8, layers: int = 2) -> KVCache:
    return KVCache(layers=layers, batch=batch, heads=2, head_dim=4, capacity=capacity)


def fill(kept: KVCache, new: Tensor, counts: list[int] | None = None) -> list[tuple[Tensor, Tensor]]:
    kept.begin(new.shape[2], counts)
    stored = [layer.append(new + index, -new) for index, layer in enumerate(kept.layers)]
    kept.finish()
    return stored


def row(number: int, length: int) -> Tensor:
    """Keys of one row, told apart by row and position."""
    return (100.0 * number + torch.arange(length))[None, :, None].expand(2, -1, 4)


def test_every_layer_is_a_cache() -> None:
    assert all(isinstance(layer, Cache) for layer in cache().layers)


def test_ragged_rows_stand_where_their_positions_are() -> None:
    kept, counts = cache(), [3, 1, 2]
    fill(kept, torch.stack([row(number, 3) for number in range(3)]), counts)
    assert kept.lengths == (3, 1, 2)
    step = kept.begin(2, [2, 2, 0])
    assert step.positions.tolist() == [[3, 4], [1, 2], [2, 3]]
    more = torch.stack([row(number, 8)[:, length : length + 2] for number, length in enumerate(counts)])
    keys, _ = kept.layers[0].append(more, more)
    assert kept.layers[1].append(more, more)[0].shape == keys.shape
    kept.finish()
    assert kept.lengths == (5, 3, 2)
    for number, length in enumerate(kept.lengths):
        assert torch.equal(keys[number, :, :length], row(number, length))
    assert step.bias is not None
    visible = (step.bias[:, 0] == 0).sum(dim=-1)
    assert visible.tolist() == [[4, 5], [2, 3], [3, 4]]


def test_rows_of_one_length_need_no_mask() -> None:
    kept = cache()
    fill(kept, torch.randn(3, 2, 4, 4), [4, 2, 3])
    assert kept.begin(1, [1, 1, 1]).bias is not None
    kept.truncate(2)
    assert kept.lengths == (2, 2, 2)
    assert kept.begin(3).bias is None


def test_padding_may_reach_beyond_the_capacity_but_tokens_may_not() -> None:
    kept = cache(batch=2, capacity=6)
    fill(kept, torch.stack([row(0, 5), row(1, 5)]), [5, 1])
    more = torch.stack([row(0, 9)[:, 5:9], row(1, 9)[:, 1:5]])
    keys, _ = fill(kept, more, [1, 4])[0]
    assert kept.lengths == (6, 5)
    assert torch.equal(keys[0], row(0, 6))
    assert torch.equal(keys[1, :, :5], row(1, 5))
    with pytest.raises(PerceptError, match="7 tokens do not fit a cache for 6"):
        kept.begin(1)
    assert kept.lengths == (6, 5)


def test_copies_are_independent_and_rows_can_be_repeated_and_dropped() -> None:
    kept = cache(batch=2)
    fill(kept, torch.stack([row(0, 3), row(1, 3)]), [3, 2])
    copy = kept.take([1, 1, 0], capacity=20)
    assert (copy.lengths, copy.capacity, copy.batch) == ((2, 2, 3), 20, 3)
    kept.keys[0].zero_()
    assert torch.equal(copy.keys[0][1, :, :2], row(1, 2))
    assert torch.equal(copy.keys[1][2, :, :3], row(0, 3) + 1)
    again = copy.clone()
    again.truncate([1, 2, 9])
    assert (again.lengths, copy.lengths) == ((1, 2, 3), (2, 2, 3))


def test_the_memory_is_that_of_the_request() -> None:
    assert cache(batch=3, capacity=8, layers=2).nbytes == 2 * 2 * 3 * 2 * (8 + 1) * 4 * 4


def test_a_cache_made_in_inference_mode_is_usable_outside() -> None:
    with torch.inference_mode():
        kept = cache()
    fill(kept, torch.zeros(3, 2, 2, 4))
    assert kept.lengths == (2, 2, 2)


def test_beginnings_of_rows_of_several_caches_make_a_new_one() -> None:
    first, second = cache(), cache(batch=2, capacity=6)
    fill(first, torch.stack([row(number, 4) for number in range(3)]), [4, 2, 3])
    fill(second, torch.stack([row(number, 5) for number in (7, 8)]))
    new = KVCache.joined([(second, 1, 5), (first, 0, 2), (first, 2, 3), (first, 1, 0)], capacity=7)
    assert (new.lengths, new.capacity) == ((5, 2, 3, 0), 7)
    for place, (number, length) in enumerate([(8, 5), (0, 2), (2, 3)]):
        for index in range(2):
            assert torch.equal(new.keys[index][place, :, :length], row(number, length) + index)
            assert torch.equal(new.values[index][place, :, :length], -row(number, length))
    fill(new, torch.stack([row(9, 1)] * 4))
    assert torch.equal(second.keys[0][1, :, :5], row(8, 5))
