"""Bad rows of a run: counted by reason, logged with their keys, and the limit above which the run stops."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from percept.core.errors import PerceptError
from percept.core.io import append_json_line
from percept.core.report import notice
from percept.data.files import PathLike

SHOWN = 3
"""Bad rows of each reason that are shown when they are met; all are counted."""
ENOUGH = 1000
"""Rows that are read before a share of bad ones is judged, or all rows of a smaller source."""


_ADVICE = {
    "missing file": "Paths in a table start from its own folder; name a different one with root=.",
    "too long": "Raise the limit of tokens if memory allows.",
}
"""What helps against a reason, where the source need not be repaired."""


@dataclass(frozen=True)
class Bad:
    """A row that was left out."""

    row: tuple[int, int]
    """Part of the mixture and number of the row."""
    reason: str
    key: str
    detail: str = ""


def advice(reason: str, usual: str) -> str:
    """Return what to do about rows that are bad for a reason: what helps against it, or the usual sentence."""
    return _ADVICE.get(reason, usual)


class BadRows:
    """Counts the bad rows that one process meets, each row once."""

    def __init__(self, limit: float | int, rows: int, log: PathLike | None = None) -> None:
        """Set the limit.

        Args:
            limit: a share of the rows (float) or a number of rows (int).
            rows: rows of the whole source.
            log: json lines are appended to this file, one for each bad row.

        Raises:
            PerceptError: the limit is negative or a share above 1, or the log cannot be written.
        """
        if not 0 <= limit < float("inf") or (isinstance(limit, float) and limit > 1):
            raise PerceptError(f"max_bad must be a share from 0.0 to 1.0 or a number of rows from 0 on, got {limit}.")
        self.limit, self.rows, self.log = limit, rows, log
        self.counts: Counter[str] = Counter()
        """Bad rows by reason."""
        self.read = 0
        """Rows read so far, repeated ones included."""
        self._seen: set[tuple[int, int]] = set()
        if log is not None:
            try:
                Path(log).parent.mkdir(parents=True, exist_ok=True)
                Path(log).open("a").close()
            except OSError as error:
                raise PerceptError(f"log {log} cannot be written: {error.strerror}. Give a different file.") from None

    def add(self, events: Iterable[Bad], read: int) -> None:
        """Count `read` rows and the bad ones among them.

        Raises:
            PerceptError: there are now more than the limit allows; the message is a summary.
        """
        self.read += read
        for event in events:
            if event.row not in self._seen:
                self._seen.add(event.row)
                self._note(event)
        if self._too_many():
            todo = advice(self.counts.most_common(1)[0][0], "Repair or remove these rows, or raise max_bad.")
            raise PerceptError(f"{self.summary()}; max_bad={self.limit} allows fewer. {todo}")

    def summary(self) -> str:
        """Return how many rows were bad, by reason.

        >>> BadRows(0.1, 50).summary()
        '0 of 0 rows read are bad'
        """
        reasons = ", ".join(f"{number} {reason}" for reason, number in self.counts.most_common())
        seen = min(self.read, self.rows)
        return f"{self.counts.total()} of {seen} rows read are bad" + (f": {reasons}" if reasons else "")

    def _note(self, event: Bad) -> None:
        self.counts[event.reason] += 1
        if (total := self.counts.total()) >= 10 and total == 10 ** (len(str(total)) - 1):
            notice(self.summary())
        if self.log is not None:
            append_json_line(Path(self.log), {"key": event.key, "reason": event.reason, "detail": event.detail})
        if self.counts[event.reason] <= SHOWN:
            more = "" if self.counts[event.reason] < SHOWN else "; further ones are counted only"
            notice(f"left out {event.key}: {event.reason}{f' ({event.detail})' if event.detail else ''}{more}")

    def _too_many(self) -> bool:
        if not isinstance(self.limit, float):
            return self.counts.total() > self.limit
        return self.counts.total() > self.limit * min(max(self.read, ENOUGH), self.rows)
