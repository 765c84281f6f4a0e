"""What an assistant remembers between calls: visual tokens of images, and keys and values of the beginnings of prompts.

Both are bounded in bytes, and the entries used least recently are dropped first. They are forgotten when a parameter of the model
changes.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from threading import Lock
from typing import Generic, TypeVar

from torch import Tensor, nn

from percept.nn.cache import KVCache

VISUAL_BYTES = 256 << 20
"""Most bytes of visual tokens."""
PREFIX_BYTES = 1 << 30
"""Most bytes of keys and values."""
PREFIXES = 64
"""Most prompts whose keys and values are kept, as all of them are compared with every new prompt."""
Value = TypeVar("Value", Tensor, KVCache)
Signature = tuple[Hashable, ...]
"""Identity of each token of a prompt: its id, or for a visual token that of its image and its number."""


class Bounded(Generic[Value]):
    """Values by key, of at most `most` bytes together; what was used least recently goes first.

    Args:
        count: most values.
    """

    def __init__(self, most: int, *, count: int | None = None) -> None:
        self.most = most
        self.count = count
        self.nbytes = 0
        """Bytes of all values."""
        self._entries: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> Value | None:
        """Return the value of a key, which counts as used now; None if there is none."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: Hashable, value: Value) -> None:
        """Store a value, unless it is larger than the limit."""
        with self._lock:
            if key in self._entries:
                self.nbytes -= self._entries.pop(key).nbytes
            if value.nbytes <= self.most:
                self._entries[key] = value
                self.nbytes += value.nbytes
            while self.nbytes > self.most or (self.count is not None and len(self._entries) > self.count):
                self.nbytes -= self._entries.popitem(last=False)[1].nbytes

    def recent(self) -> list[Hashable]:
        """Return all keys, the one used last at the end."""
        with self._lock:
            return list(self._entries)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self.nbytes = 0


class Memory:
    """Visual tokens by image, and caches of one row by the signature of their tokens."""

    def __init__(self, model: nn.Module, *, visual_bytes: int = VISUAL_BYTES, prefix_bytes: int = PREFIX_BYTES) -> None:
        self.model = model
        self.visual: Bounded[Tensor] = Bounded(visual_bytes)
        self.prefixes: Bounded[KVCache] = Bounded(prefix_bytes, count=PREFIXES)
        self._state = _state(model)

    def refresh(self) -> None:
        """Forget everything if a parameter was changed or replaced since the last call."""
        state = _state(self.model)
        if state != self._state:
            self._state = state
            self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.visual.clear()
        self.prefixes.clear()

    def longest(self, signature: Signature) -> tuple[KVCache, int, int] | None:
        """Return (cache, row 0, tokens in common) of the stored prompt that shares most tokens with this one; None if none does."""
        best: tuple[KVCache, int, int] | None = None
        for key in self.prefixes.recent():
            assert isinstance(key, tuple)
            length = common(key, signature)
            if length > (best[2] if best else 0) and (cache := self.prefixes.get(key)) is not None:
                best = cache, 0, length
        return best


def common(first: Signature, second: Signature) -> int:
    """Return how many tokens two signatures share at their beginnings.

    >>> common((1, 2, 3), (1, 2, 4, 5)), common((), (1,)), common((1, 2), (1, 2, 3))
    (2, 0, 2)
    """
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _state(model: nn.Module) -> list[tuple[int, int]]:
    parameters: Iterable[nn.Parameter] = model.parameters()
    return [(id(parameter), parameter._version) for parameter in parameters]
