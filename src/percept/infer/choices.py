"""Answers out of a list: a trie over token ids."""

from collections.abc import Sequence

import numpy as np

from percept.core.errors import PerceptError
from percept.data.chat.vocabulary import LanguageTokenizer
from percept.infer.generation import Allowed


class OneOf:
    """An answer that is one of several, each spelled as the tokenizer spells it; a `percept.infer.decode.Constraint`.

    Args:
        choices: texts of at least one token.
        most: tokens that an answer may have.

    Raises:
        PerceptError: the tokenizer changes a choice, or a choice has too many tokens.
    """

    start = 0

    def __init__(self, choices: Sequence[str], tokenizer: LanguageTokenizer, *, most: int) -> None:
        self._children: list[dict[int, int]] = [{}]
        self._ends: set[int] = set()
        self._depths: list[int] = [most + 1]
        """Tokens from each node to the nearest end."""
        for choice in choices:
            self._insert(spelled(choice, tokenizer, most))

    def _insert(self, ids: Sequence[int]) -> None:
        node = 0
        for place, number in enumerate(ids):
            self._depths[node] = min(self._depths[node], len(ids) - place)
            node = self._children[node].setdefault(number, len(self._children))
            if node == len(self._children):
                self._children.append({})
                self._depths.append(len(ids))
        self._depths[node] = 0
        self._ends.add(node)

    def allowed(self, state: int, left: int) -> Allowed:
        """Return the tokens that lead to a choice that can be completed with `left` tokens, these included."""
        children = self._children[state].items()
        return np.array([number for number, node in children if self._depths[node] < left], dtype=np.int64)

    def after(self, state: int, token: int) -> int:
        """Return the node that a token leads to."""
        return self._children[state][token]

    def complete(self, state: int) -> bool:
        """Return True if a choice ends at this node."""
        return state in self._ends


def spelled(choice: str, tokenizer: LanguageTokenizer, most: int | None = None) -> list[int]:
    """Return the tokens of a choice.

    Raises:
        PerceptError: the tokenizer changes the choice, or it has more than `most` tokens.
    """
    ids = tokenizer.encode(choice)
    if tokenizer.decode(ids) != choice:
        raise PerceptError(f"the tokenizer of the model changes the choice {choice!r}. Write it with other characters.")
    if most is not None and len(ids) > most:
        raise PerceptError(
            f"the choice {choice!r} has {len(ids)} tokens, but max_new_tokens={most}. Raise max_new_tokens."
        )
    return ids
