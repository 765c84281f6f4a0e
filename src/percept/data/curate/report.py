"""What a curation did: counts per step and reason, examples of removed and kept rows, as json and as a self-contained page."""

import base64
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.io import replacing
from percept.core.report import printable
from percept.data.curate.output import kept_examples
from percept.data.curate.readers import EXAMPLES, BadRows
from percept.data.curate.step import Step
from percept.data.curate.store import REASON, Parts, Store, load_arrays, read_table
from percept.data.curate.tables import IMAGE, KEY, TEXTS

SHOWN, SIDE = 12, 160
"""Kept rows on the page, and the longer side of their thumbnails in pixels."""
LONGEST = 200
"""Letters of a caption that a report shows."""


def make_report(
    store: Store, steps: Mapping[str, Step], parts: Callable[[int, str], Parts], bad: BadRows
) -> dict[str, Any]:
    """Return counts and examples of every step as plain data; the same for equal input."""
    read = sum(len(read_table(store.chunk_file(number))) for number in range(store.count()))
    described = []
    for number, (name, step) in enumerate(steps.items()):
        last = len(step.passes()) - 1
        state = load_arrays(store.state_file(number, last)) if last >= 0 else {}
        measured = parts(number, f"measured-{last}") if last >= 0 else Parts(())
        facts = step.describe(measured, Decided(store, number), state)
        described.append({"step": name, "settings": to_dict(step), **_counts(store, number), **facts})
    left = described[-1]["rows after"]
    return {
        "rows in the source": read + sum(bad.counts.values()),
        "rows read": read,
        "rows kept": left,
        "rows whose image is missing": bad.missing,
        "could not be read": {"counts": dict(sorted(bad.counts.items())), "examples": bad.examples},
        "steps": described,
        "kept": [_short(row) for row in kept_examples(store, len(steps), EXAMPLES, (KEY, TEXTS))],
    }


def rows_around(store: Store, step: int) -> tuple[int, int]:
    """Return the number of rows before and after a step."""
    before = after = 0
    for number in range(store.count()):
        reasons = store.decided(step, number)[REASON]
        before, after = before + len(reasons), after + reasons.null_count
    return before, after


class Decided(Sequence[Any]):
    """The decision tables of a step, read when asked for."""

    def __init__(self, store: Store, step: int) -> None:
        self.store, self.step = store, step

    def __len__(self) -> int:
        return self.store.count()

    def __getitem__(self, number: Any) -> Any:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self.store.decided(self.step, number)


def _counts(store: Store, step: int) -> dict[str, Any]:
    before, captions, reasons = 0, [0, 0], Counter[str]()
    examples: dict[str, list[dict[str, Any]]] = {}
    for number in range(store.count()):
        decided = store.decided(step, number)
        chunk_reasons = decided[REASON].to_pylist()
        before += len(chunk_reasons)
        reasons.update(reason for reason in chunk_reasons if reason is not None)
        wanted = [row for row, reason in enumerate(chunk_reasons) if _wants(examples, reason)]
        if wanted:
            chunk = store.chunk(number, step)
            for row in wanted:
                listed = examples.setdefault(chunk_reasons[row], [])
                if len(listed) < EXAMPLES:
                    listed.append(_short({KEY: chunk.keys[row], TEXTS: chunk.texts[row]}))
        if TEXTS in decided.column_names:
            lengths = [
                len(texts)
                for texts, reason in zip(decided[TEXTS].to_pylist(), chunk_reasons, strict=True)
                if not reason
            ]
            captions[1] += sum(lengths)
    removed = dict(sorted(reasons.items()))
    counts = {"rows before": before, "rows after": before - sum(removed.values()), "removed": removed}
    return counts | ({"captions after": captions[1]} if captions[1] else {}) | {"removed examples": examples}


def _wants(examples: Mapping[str, Sequence[Any]], reason: str | None) -> bool:
    return reason is not None and len(examples.get(reason, ())) < EXAMPLES


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    texts = [text if len(text) <= LONGEST else text[: LONGEST - 1] + "…" for text in row[TEXTS][:3]]
    return {KEY: row[KEY], TEXTS: texts}


STYLE = """
:root { --paper: #faf9f6; --card: #fff; --ink: #1f1f1d; --soft: #6d6a63; --line: #e2dfd7; --accent: #1f6f78; --second: #c98a3c; }
@media (prefers-color-scheme: dark) { :root { --paper: #151618; --card: #1d1f22; --ink: #e9e7e2; --soft: #9c9a94; --line: #303237;
  --accent: #6cc1c9; --second: #d9a861; } }
* { box-sizing: border-box; margin: 0; } body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 40px 24px 80px; } h1 { font-size: 30px; } h2 { font-size: 20px; margin: 40px 0 10px; }
p, summary { color: var(--soft); } table { border-collapse: collapse; width: 100%; margin: 12px 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; } td.n, th.n { text-align: right; } svg { width: 100%; height: auto; margin: 8px 0; }
ul { list-style: none; padding: 0; display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px; font-size: 13px; overflow-wrap: anywhere; }
li img { display: block; max-width: 100%; margin-bottom: 6px; } code { font-size: 12px; color: var(--soft); }
"""


def write_page(file: Path, report: Mapping[str, Any], store: Store, steps: int, root: Path) -> None:
    """Write the report as one page without scripts or other files."""
    rows = kept_examples(store, steps, SHOWN, (KEY, TEXTS, IMAGE))
    kept, total = report["rows kept"], report["rows in the source"]
    body = [
        f"<h1>Curation</h1><p>{kept:,} of {total:,} rows remain ({kept / max(1, total):.1%}).</p>",
        _overview(report),
        *(_step(step) for step in report["steps"]),
        "<h2>Rows that remain</h2><ul>" + "".join(_card(row, root) for row in rows) + "</ul>",
    ]
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Curation</title><style>{STYLE}</style></head>'
    with replacing(file) as temporary:
        temporary.write_text(f"{head}<body><main>{''.join(body)}</main></body></html>\n", encoding="utf-8")


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table; numbers are right-aligned, every text is escaped."""

    def cell(value: object, tag: str) -> str:
        number = isinstance(value, int | float)
        text = (
            f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else printable(value)
        )
        return f"<{tag}{' class=n' if number else ''}>{escape(text)}</{tag}>"

    head = "".join(cell(column, "th") for column in columns)
    lines = "".join("<tr>" + "".join(cell(value, "td") for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>"


def _overview(report: Mapping[str, Any]) -> str:
    unread = report["could not be read"]["counts"]
    rows: list[Sequence[object]] = [("read", report["rows in the source"], report["rows read"], _listed(unread))]
    rows += [(one["step"], one["rows before"], one["rows after"], _listed(one["removed"])) for one in report["steps"]]
    return _table(("step", "rows before", "rows after", "removed"), rows)


def _listed(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{reason}: {count:,}" for reason, count in counts.items()) or "nothing"


def _step(step: Mapping[str, Any]) -> str:
    """Return the section of one step: settings, facts, examples."""
    shown = {"step", "settings", "rows before", "rows after", "removed", "removed examples", "histogram"}
    facts = [
        (name, value if isinstance(value, int | float | str) else json.dumps(value, ensure_ascii=False))
        for name, value in step.items()
        if name not in shown
    ]
    parts = [f"<h2>{escape(step['step'])}</h2><code>{escape(json.dumps(step['settings'], ensure_ascii=False))}</code>"]
    if facts:
        parts.append(_table(("fact", "value"), facts))
    if "histogram" in step:
        parts.append(_histogram(step["histogram"]))
    examples = [
        (reason, row[KEY], " | ".join(row[TEXTS])) for reason, rows in step["removed examples"].items() for row in rows
    ]
    if examples:
        parts.append(
            f"<details><summary>Removed rows</summary>{_table(('reason', 'key', 'captions'), examples)}</details>"
        )
    return "".join(parts)


def _histogram(histogram: Mapping[str, Any]) -> str:
    """Return bars for the numbers before and after, in pairs."""
    names, before, after = histogram["bins"], histogram["before"], histogram["after"]
    most, wide = max([1, *before, *after]), 900 / max(1, len(names))

    def bars() -> Iterator[str]:
        for number, name in enumerate(names):
            for shift, (value, colour) in enumerate(((before[number], "second"), (after[number], "accent"))):
                high = 160 * value / most
                x = number * wide + shift * wide * 0.4 + wide * 0.1
                yield f'<rect x="{x:.1f}" y="{165 - high:.1f}" width="{wide * 0.38:.1f}" height="{high:.1f}" fill="var(--{colour})"/>'
            yield f'<text x="{number * wide + wide / 2:.1f}" y="182" font-size="11" text-anchor="middle" fill="var(--soft)">{escape(str(name))}</text>'

    caption = f"<p>{escape(histogram['title'])}: before (ochre) and after (teal).</p>"
    return f'{caption}<svg viewBox="0 0 900 190" role="img">{"".join(bars())}</svg>'


def _card(row: Mapping[str, Any], root: Path) -> str:
    image = _thumbnail(row.get(IMAGE), root)
    picture = f'<img alt="" src="{image}">' if image else ""
    texts = "<br>".join(escape(printable(text)) for text in _short(row)[TEXTS])
    return f"<li>{picture}{texts}<br><code>{escape(printable(row[KEY]))}</code></li>"


def _thumbnail(image: str | bytes | None, root: Path) -> str | None:
    """Return a small JPEG as a data address; None if there is no image that can be read."""
    from percept.data.images import read_image

    if not image:
        return None
    try:
        opened = read_image(str(root / image) if isinstance(image, str) else image, at_least=SIDE)
    except PerceptError:
        return None
    opened.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    opened.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
