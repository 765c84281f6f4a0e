"""Dense captions against dense captions: SODA, which assigns events in order (RDCap)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from percept.eval.vlm.item import Version
from percept.eval.vlm.spans import Span, overlap

_SEGMENT = re.compile(r"\[\s*(\d+)\s*,\s*(\d+)\s*\]([^\[]*)")
Table = Float[np.ndarray, "g p"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """A described span of frames."""

    span: Span
    text: str


def parse_events(text: str) -> list[Event]:
    """Return the events of lines `[start, end]: text`. A text ends at the next bracket. Colons, a comma
    at its end, and the word Frame before a bracket are removed.

    >>> parse_events("[0, 5]: it moves left, [7, 15]: it stops")
    [Event(span=(0, 5), text='it moves left'), Event(span=(7, 15), text='it stops')]
    """
    return [Event(span=(int(start), int(end)), text=_caption(said)) for start, end, said in _SEGMENT.findall(text)]


def _caption(said: str) -> str:
    said = " ".join(said.replace(":", " ").replace("\nFrame ", " ").split())
    return said.removesuffix(",").strip()


def assign(values: Table) -> float:
    """Return the largest sum of values of pairs (g, p) in which both numbers rise from pair to pair.

    Fujita et al. 2020, "SODA: Story Oriented Dense Video Captioning Evaluation Framework", section 3.1. As a loop over all choices::

        best(g, p) = max(best(g - 1, p), best(g, p - 1), best(g - 1, p - 1) + values[g, p])

    >>> assign(np.array([[0.5, 0.9], [0.8, 0.2]]))
    0.9
    """
    best = np.zeros(values.shape[1] + 1)
    for row in values:
        paired = best[:-1] + row
        best[1:] = np.maximum.accumulate(np.maximum(best[1:], paired))
    return float(best[-1])


def overlaps(gold: Sequence[Event], predicted: Sequence[Event], version: Version = "fixed") -> Table:
    """Return the IoU of each pair of events."""
    return table([overlap(one.span, other.span, version) for one in gold for other in predicted], gold, predicted)


def table(values: Sequence[float], gold: Sequence[Event], predicted: Sequence[Event]) -> Table:
    """Return values of all pairs, those of the first correct event first, as a table.

    >>> table([0.1, 0.2], parse_events("[0, 1] a"), parse_events("[0, 1] a [2, 3] b")).tolist()
    [[0.1, 0.2]]
    """
    return np.array(values, dtype=np.float64).reshape(len(gold), len(predicted))


def soda(ious: Table, similarity: Table) -> float:
    """Return the F-measure of the best assignment in order of predicted events to correct ones; 0 without predictions.

    Args:
        ious: IoU of each correct event with each predicted one.
        similarity: similarity of their texts, from 0 to 1.
    """
    gold, predicted = ious.shape
    if not gold or not predicted:
        return 0.0
    best = assign(ious * similarity)
    precision, recall = best / predicted, best / gold
    return 2 * precision * recall / (precision + recall) if best > 0 else 0.0
