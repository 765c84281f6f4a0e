"""Reading the samples of a step: the part of a source that runs in its worker processes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.guard import quiet
from percept.data.sources.bad import Bad, advice
from percept.data.sources.order import Drawn, Draws
from percept.data.sources.sample import BadSample, Rows, Sample

Prepare: TypeAlias = Callable[[Sample, int], Any]
"""Makes an item of a batch from a sample and the seed of its random choices; raises a PerceptError for a bad sample."""

TRIES = 100
"""Bad rows in a row after which a sample is not replaced any more."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows of one kind, and what is made of each."""

    rows: Rows
    prepare: Prepare
    name: str = ""
    """Put before the keys, where a source has several parts."""

    def key(self, row: int) -> str:
        """Return the key of a row, unique within the source."""
        return f"{self.name}:{self.rows.key(row)}" if self.name else self.rows.key(row)


@dataclass
class Read:
    """What was read for some slots of a batch."""

    items: list[Any] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    read: int = 0
    """Rows read, bad ones included."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads slots of global batches. The slots of step s are the draws from s · batch on."""

    parts: Sequence[Part]
    draws: Draws
    batch: int
    """Samples of a global batch."""

    def drawn(self, step: int, slots: range) -> Drawn:
        """Return the rows of some slots of a step."""
        return self.draws.at(step * self.batch + np.arange(slots.start, slots.stop))

    def read(self, step: int, slots: range) -> Read:
        """Read some slots of a step.

        A bad sample is replaced by the one that the same slot has in the next step, or the step after, and so on: the result
        does not depend on other slots, and the replacement is not in the same batch already.

        Raises:
            PerceptError: TRIES samples in a row are bad, or all rows of a small source.
        """
        result = Read()
        columns = (values.tolist() for values in self.drawn(step, slots))
        with quiet():
            for slot, *first in zip(slots, *columns, strict=True):
                if not self._take(result, *first):
                    self._replace(result, step, slot)
        return result

    def _replace(self, result: Read, step: int, slot: int) -> None:
        """Read the sample of the same slot in the next step that has a good one."""
        for later in range(step + 1, step + TRIES):
            if self._take(result, *(int(values[0]) for values in self.drawn(later, range(slot, slot + 1)))):
                return
        last, rows = result.bad[-1], {bad.row for bad in result.bad}
        count = sum(self.draws.counts)
        found = f"{count} of {count} rows are bad" if len(rows) == count else f"{TRIES} samples in a row cannot be used"
        todo = advice(last.reason, "Check the source and what is asked of it.")
        raise PerceptError(
            f"{found}, the last one because: {last.reason} ({': '.join(filter(None, (last.key, last.detail)))}). {todo}"
        )

    def _take(self, result: Read, number: int, row: int, epoch: int) -> bool:
        """Read and prepare one row; False if it is bad."""
        part = self.parts[number]
        result.read += 1
        try:
            sample = part.rows.read(row)
            result.items.append(part.prepare(sample, derive(self.draws.seed, "sample", epoch, part.key(row))))
        except BadSample as error:
            result.bad.append(Bad((number, row), error.reason, part.key(row), error.detail))
        except PerceptError as error:
            result.bad.append(Bad((number, row), "cannot be prepared", part.key(row), str(error)))
        except Exception as error:
            error.add_note(f"while reading {part.key(row)} of {part.rows.name}")
            raise
        else:
            return True
        return False
