"""Counts over all rows, kept as plain numbers: about 200 bytes a row, whatever the rows hold."""

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

from percept.data.check.row import Seen, caption_of
from percept.data.check.similar import MINIMA, Groups, equal, near_looks, near_texts
from percept.data.sources.bad import Bad
from percept.data.sources.captions import CaptionChoice
from percept.data.sources.sample import BadSample, Rows

EXAMPLES = 20
"""Bad rows of each reason, and groups of duplicates of each kind, that a report lists."""
GROUP = 4
"""Rows of a group of duplicates that a report lists."""
CAPTION = 200
"""Characters of a caption that a report lists."""
BINS = 20
"""Bars of a histogram."""
CLASSES = 30
"""Classes that a report lists: those with most rows and those with fewest."""
TYPES = {"q": np.int64, "Q": np.uint64, "d": np.float64}


class Column:
    """Numbers of some rows, with the rows they belong to."""

    def __init__(self, kind: str) -> None:
        self.values, self.rows = array(kind), array("q")

    def add(self, row: int, value: Any) -> None:
        """Add a number; None is left out."""
        if value is not None:
            self.values.append(value)
            self.rows.append(row)

    def __len__(self) -> int:
        return len(self.rows)

    def array(self) -> Shaped[np.ndarray, " n"]:
        """Return the numbers."""
        return np.array(self.values, TYPES[self.values.typecode])


class Tally:
    """What was found in rows so far."""

    def __init__(self, context: int | None) -> None:
        self.context = context
        """Tokens that a model takes at most."""
        self.checked = self.blank = 0
        self.reasons: Counter[str] = Counter()
        self.bad: dict[str, list[dict[str, str]]] = {}
        self.labels: Counter[str] = Counter()
        self.remarks: Counter[str] = Counter()
        self.remarked: dict[str, list[int]] = {}
        self.width, self.height = Column("q"), Column("q")
        self.seconds, self.frames = Column("d"), Column("q")
        self.content, self.look, self.text = Column("Q"), Column("Q"), Column("Q")
        self.tokens, self.turns = Column("q"), Column("q")
        self.minima = bytearray()

    def add(self, row: Seen | Bad) -> None:
        """Count one row."""
        self.checked += 1
        if isinstance(row, Bad):
            self.reasons[row.reason] += 1
            listed = self.bad.setdefault(row.reason, [])
            if len(listed) < EXAMPLES:
                listed.append({"key": row.key, "detail": row.detail})
            return
        for width, height in row.sizes:
            self.width.add(row.row, width)
            self.height.add(row.row, height)
        for name in ("seconds", "frames", "content", "look", "text", "tokens", "turns"):
            getattr(self, name).add(row.row, getattr(row, name))
        if row.minima is not None:
            self.minima += row.minima.tobytes()
        if row.label is not None:
            self.labels[row.label] += 1
        self.blank += row.blank
        for remark in row.remarks:
            self.remarks[remark] += 1
            listed = self.remarked.setdefault(remark, [])
            if len(listed) < EXAMPLES:
                listed.append(row.row)

    def report(self, rows: Rows, captions: CaptionChoice) -> dict[str, Any]:
        """Return all counts as plain data; sections that do not apply are left out. Captions that repeat are read again."""
        sections = {
            "media": self._media(),
            "videos": self._videos(),
            "captions": self._captions(),
            "conversations": self._conversations(rows),
            "classes": _classes(self.labels) if self.labels else {},
            "duplicates": self._duplicates(rows, captions),
        }
        bad = self.reasons.total()
        return {
            "source": rows.name,
            "rows": len(rows),
            "checked": self.checked,
            "bad": bad,
            "share bad": round(bad / max(1, self.checked), 6),
            "reasons": {
                reason: {"count": count, "examples": self.bad[reason]} for reason, count in self.reasons.most_common()
            },
            **{name: section for name, section in sections.items() if section},
        }

    def _media(self) -> dict[str, Any]:
        if not self.width:
            return {}
        width, height = self.width.array(), self.height.array()
        return {
            "count": len(width),
            "width in pixels": summary(width),
            "height in pixels": summary(height),
            "shorter side in pixels": summary(np.minimum(width, height)),
            "width / height": summary(width / height, ratio=True),
            "blank": self.blank,
        }

    def _videos(self) -> dict[str, Any]:
        if not self.frames:
            return {}
        frames, seconds = self.frames.array(), self.seconds.array()
        rate = frames / np.maximum(seconds, 1e-9)
        return {
            "count": len(frames),
            "seconds": summary(seconds),
            "frames": summary(frames),
            "frames per second": summary(rate),
        }

    def _captions(self) -> dict[str, Any]:
        if not self.text:
            return {}
        section: dict[str, Any] = {"count": len(self.text)}
        if self.tokens:
            tokens = self.tokens.array()
            section |= {
                "tokens": summary(tokens),
                "context": self.context,
                "longer than the context": int((tokens > (self.context or math.inf)).sum()),
            }
        return section

    def _conversations(self, rows: Rows) -> dict[str, Any]:
        if not self.turns:
            return {}
        remarks = {
            remark: {"count": count, "examples": [rows.key(row) for row in self.remarked[remark]]}
            for remark, count in self.remarks.most_common()
        }
        return {"count": len(self.turns), "turns": summary(self.turns.array()), "remarks": remarks}

    def _duplicates(self, rows: Rows, captions: CaptionChoice) -> dict[str, Any]:
        """Return groups of equal and of nearly equal images and captions; near duplicates do not count equal ones again."""
        section = {}
        if self.content:
            content = equal(self.content.array())
            section["equal images or videos"] = _repeated(content, self.content, rows)
        if self.look:
            section["nearly equal images or videos"] = self._near_looks(rows)
        if self.text:
            same = equal(self.text.array())
            section["equal captions"] = _repeated(same, self.text, rows)
            single = np.flatnonzero(same == np.arange(len(same)))
            minima = np.frombuffer(bytes(self.minima), np.uint32).reshape(-1, MINIMA)[single]
            section["nearly equal captions"] = _repeated(near_texts(minima), self.text, rows, single)
            for name in ("equal captions", "nearly equal captions"):
                for group in section[name]["examples"]:
                    group["captions"] = [_caption(row, rows, captions) for row in group["rows"]]
        return section

    def _near_looks(self, rows: Rows) -> dict[str, Any]:
        """Group images by what they look like, one of each group of equal files."""
        groups = equal(self.content.array()).tolist()
        first = {row for place, row in enumerate(self.content.rows) if groups[place] == place}
        single = np.array([place for place, row in enumerate(self.look.rows) if row in first], dtype=np.int64)
        return _repeated(near_looks(self.look.array()[single]), self.look, rows, single)


def _caption(row: int, rows: Rows, captions: CaptionChoice) -> str:
    try:
        return caption_of(rows.read(row), captions).strip()[:CAPTION]
    except BadSample:  # the file has changed since
        return ""


def summary(values: Shaped[np.ndarray, " n"], *, ratio: bool = False) -> dict[str, Any]:
    """Return quantiles and a histogram of numbers; its bars are equally wide, or in ratio where numbers differ much.

    >>> summary(np.array([1, 2, 3]))["median"]
    2.0
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        edges = np.array([low, high])
        counts = np.array([len(values)])
    else:
        wide = ratio or (low > 0 and high / low > 20)
        edges = np.geomspace(low, high, BINS + 1) if wide else np.linspace(low, high, BINS + 1)
        if not wide and high - low < BINS and np.all(values == np.round(values)):
            edges = np.arange(low, high + 2)  # one bar for each whole number
        counts, edges = np.histogram(values, edges)
    quantiles = np.quantile(values, [0.05, 0.5, 0.95])
    names = ("5 %", "median", "95 %")
    return {
        "least": round(low, 4),
        **{name: round(float(value), 4) for name, value in zip(names, quantiles, strict=True)},
        "largest": round(high, 4),
        "histogram": {"edges": [round(float(edge), 4) for edge in edges], "counts": counts.tolist()},
    }


def _classes(labels: Counter[str]) -> dict[str, Any]:
    ranked = sorted(labels.items(), key=lambda item: (-item[1], item[0]))
    shares = np.array([count for _, count in ranked]) / labels.total()
    shown = ranked if len(ranked) <= 2 * CLASSES else ranked[:CLASSES] + ranked[-CLASSES:]
    return {
        "count": len(ranked),
        "largest / smallest": round(ranked[0][1] / ranked[-1][1], 3),
        "equally large classes with the same entropy": round(float(np.exp(-(shares * np.log(shares)).sum())), 2),
        "rows": dict(shown),
        "left out": len(ranked) - len(shown),
    }


def _repeated(groups: Groups, column: Column, rows: Rows, places: Sequence[int] | Any = None) -> dict[str, Any]:
    """Describe groups of more than one item; `places` are those of the items in the column."""
    members, sizes = np.unique(groups, return_counts=True)
    large = members[sizes > 1][np.argsort(-sizes[sizes > 1], kind="stable")]
    numbers = np.arange(len(column)) if places is None else np.asarray(places)
    examples = []
    for group in large[:EXAMPLES].tolist():
        items = numbers[np.flatnonzero(groups == group)]
        listed = [column.rows[place] for place in items[:GROUP].tolist()]
        examples.append({"size": len(items), "rows": listed, "keys": [rows.key(row) for row in listed]})
    return {"groups": len(large), "rows after the first": int((sizes - 1).sum()), "examples": examples}
