"""Faster twins of the layers in `nn`: the only room with private torch APIs and choices per processor."""

from percept.fast.adopt import adopt, packed_bytes
from percept.fast.compile import compiled_call

__all__ = ["adopt", "compiled_call", "packed_bytes"]
