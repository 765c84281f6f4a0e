"""Faster twins of the layers in `nn`: the only room with private torch APIs and choices per processor."""

from percept.fast.adopt import adopt, packed_bytes
from percept.fast.compile import compiled_call
from percept.fast.conditions import weights_state

__all__ = ["adopt", "compiled_call", "packed_bytes", "weights_state"]
