"""Vectors of texts, computed once and kept until what computes them changes."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from percept.nn.linear import stamp

MOST = 8192
"""Text vectors kept, least recently used dropped first."""


class TextCache:
    """The vectors [d] of texts, of one tokenizer and one state of a text tower's weights.

    Args:
        most: vectors kept between calls.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._vectors: OrderedDict[str, Tensor] = OrderedDict()
        self._made_by: tuple[object, object] | None = None

    def __len__(self) -> int:
        return len(self._vectors)

    def copy(self) -> "TextCache":
        """Return a cache with the same vectors, which goes its own way from here on."""
        other = TextCache(self._most)
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

        All are dropped first when the tokenizer is another one, or the weights of the tower have changed.
        """
        self._forget_unless(tokenizer, stamp(tower))
        missing = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if missing:
            self._vectors.update(zip(missing, compute(missing), strict=True))
        vectors = torch.stack([self._vectors[text] for text in texts])
        for text in texts:
            self._vectors.move_to_end(text)
        while len(self._vectors) > self._most:
            self._vectors.popitem(last=False)
        return vectors

    def _forget_unless(self, tokenizer: object, weights: object) -> None:
        if self._made_by is None or self._made_by[0] is not tokenizer or self._made_by[1] != weights:
            self._vectors.clear()
            self._made_by = tokenizer, weights
