"""Whether weights have changed since they were last used, told without reading all of them."""

from itertools import chain

import torch
from torch import Tensor, nn

PROBES = 64
"""Values of a tensor that are compared, for changes that PyTorch does not count."""


class Watched:
    """A tensor as it was: where it lies, the version PyTorch counts, and some of its values.

    The values lie on a diagonal: of a tensor of 64 rows or more, a change of 1/64 of the rows or of the columns, side by
    side, is seen. A change of fewer values is seen where PyTorch counts it, which it does not for `weight.data`. The
    tensor's memory is kept, so that no other one can come to lie there.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._source = tensor.detach()
        self._version = tensor._version
        self._seen = _diagonal(self._source)
        self._values = self._seen.clone()

    @staticmethod
    def can(tensor: Tensor) -> bool:
        """Tell whether changes of a tensor can be seen: not of those made in `inference_mode`, which have no versions."""
        return type(tensor) in (Tensor, nn.Parameter) and not tensor.is_inference() and tensor.is_contiguous()

    def same(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is the one that was watched, unchanged."""
        source = self._source
        return (
            tensor.data_ptr() == source.data_ptr()
            and tensor.shape == source.shape
            and tensor.stride() == source.stride()
            and tensor.dtype == source.dtype
            and tensor._version == self._version
            and torch.equal(self._seen, self._values)
        )


def _diagonal(tensor: Tensor) -> Tensor:
    """Return some values of a contiguous tensor, in its own memory: a step goes down some rows and along some columns."""
    flat = tensor.view(-1)
    rows = tensor.shape[0] if tensor.ndim > 1 else 1
    width = len(flat) // max(1, rows)
    count = min(PROBES, rows) if rows > 1 else PROBES
    step = rows // count * width if rows > 1 else 0
    return flat[:: step + max(1, -(-width // count))]


class WatchedModule:
    """A module as it was: its parts, its parameters and buffers."""

    def __init__(self, module: nn.Module) -> None:
        self._parts = list(module.modules())
        self._tensors = [(tensor, Watched(tensor)) for tensor in _tensors(module)]

    @staticmethod
    def can(module: nn.Module) -> bool:
        """Tell whether changes can be seen: nobody listens to a part, which could change anything, and all tensors allow it."""
        return not any(map(listened, module.modules())) and all(map(Watched.can, _tensors(module)))

    def same(self, module: nn.Module) -> bool:
        """Tell whether a module is the one that was watched, unchanged."""
        return (
            _all_are(self._parts, list(module.modules()))
            and _all_are([tensor for tensor, _ in self._tensors], list(_tensors(module)))
            and all(watched.same(tensor) for tensor, watched in self._tensors)
        )


def _tensors(module: nn.Module) -> "chain[Tensor]":
    return chain(module.parameters(), module.buffers())


def _all_are(before: list, now: list) -> bool:
    return len(before) == len(now) and all(one is other for one, other in zip(before, now, strict=True))


def listened(module: nn.Module) -> bool:
    """Tell whether a module has hooks, which calling it runs, or a `forward` of its own instead of its class's."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(map(len, hooks)) or "forward" in module.__dict__ or bool(torch.nn.modules.module._has_any_global_hook())
