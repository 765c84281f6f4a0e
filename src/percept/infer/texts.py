"""Vectors of texts, computed once and kept until what computes them changes."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

import torch
from jaxtyping import Float
from torch import Tensor

from percept.nn.watch import WatchedModule

MOST = 8192
"""Text vectors kept, least recently used dropped first."""


class TextCache:
    """The vectors [d] of texts, of one tokenizer and one state of a text tower; threads may share it.

    A copy by `copy.deepcopy` or `pickle` begins empty.

    Args:
        most: vectors kept between calls.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._vectors: OrderedDict[str, Tensor] = OrderedDict()
        self._made_by: tuple[object, WatchedModule] | None = None
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._vectors)

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return TextCache, (self._most,)

    def copy(self) -> "TextCache":
        """Return a cache with the same vectors, which goes its own way from here on."""
        other = TextCache(self._most)
        with self._lock:
            other._vectors, other._made_by = OrderedDict(self._vectors), self._made_by
        return other

    def vectors(
        self,
        texts: Sequence[str],
        compute: Callable[[list[str]], Float[Tensor, "n d"]],
        *,
        tokenizer: object,
        tower: torch.nn.Module,
    ) -> Float[Tensor, "n d"]:
        """Return one vector per text; `compute` is asked once for those that are not known yet.

        All are dropped first when the tokenizer or a part of the tower is another one, or weights have changed, as far as
        `percept.nn.watch` can tell. Of a tower in which hooks run, or whose weights were made in `inference_mode`, nothing is kept.
        """
        with self._lock:
            kept = self._forget_unless(tokenizer, tower)
            missing = [text for text in dict.fromkeys(texts) if text not in self._vectors]
            if missing:
                self._vectors.update(zip(missing, compute(missing), strict=True))
            vectors = torch.stack([self._vectors[text] for text in texts])
            for text in texts:
                self._vectors.move_to_end(text)
            while len(self._vectors) > (self._most if kept else 0):
                self._vectors.popitem(last=False)
        return vectors

    def _forget_unless(self, tokenizer: object, tower: torch.nn.Module) -> bool:
        """Drop all vectors that something else made, and tell whether the new ones may be kept."""
        can = WatchedModule.can(tower)
        made_by = self._made_by
        if made_by is None or not can or made_by[0] is not tokenizer or not made_by[1].same(tower):
            self._vectors.clear()
            self._made_by = (tokenizer, WatchedModule(tower)) if can else None
        return can
