"""The report of a check as one self-contained page without scripts, with light and dark colours. Every text is escaped."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape as escape_markup
from itertools import pairwise
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.core.io import replacing
from percept.core.report import printable
from percept.data.check.run import Findings
from percept.data.images import read_image
from percept.data.sources.sample import BadSample, Rows

WIDE, HIGH = 520, 150
"""Size of a plot in its own units."""
THUMBNAIL, GROUPS = 120, 6
"""Longer side in pixels of a thumbnail, and groups of duplicates of each kind that are shown with thumbnails."""
STYLE = """
:root { --paper: #faf9f6; --card: #fff; --ink: #1f1f1d; --soft: #6d6a63; --line: #e2dfd7; --accent: #1f6f78; --second: #b5722a; }
@media (prefers-color-scheme: dark) { :root { --paper: #151618; --card: #1d1f22; --ink: #e9e7e2; --soft: #9c9a94; --line: #303237;
  --accent: #6cc1c9; --second: #d9a861; } }
* { box-sizing: border-box; margin: 0; }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 48px 28px 80px; }
h1 { font-size: 32px; overflow-wrap: anywhere; } h2 { font-size: 21px; margin: 44px 0 12px; } h3 { font-size: 15px; font-weight: 600; }
p, figcaption, .soft { color: var(--soft); } .soft { font-size: 13px; }
.facts { display: flex; flex-wrap: wrap; gap: 10px 36px; margin-top: 20px; padding-top: 16px; border-top: 1px solid var(--line); }
dt { font-size: 12px; letter-spacing: .06em; text-transform: uppercase; color: var(--soft); }
dd { font-size: 22px; font-variant-numeric: tabular-nums; } dd.bad { color: var(--second); }
.plots { display: grid; gap: 18px; grid-template-columns: repeat(auto-fill, minmax(420px, 1fr)); }
figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 11px; fill: var(--soft); } svg rect { fill: var(--accent); }
svg line { stroke: var(--second); stroke-dasharray: 4 3; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
.n { text-align: right; } .group { display: flex; flex-wrap: wrap; gap: 10px; margin: 10px 0 18px; align-items: flex-end; }
.group img { display: block; border-radius: 6px; max-width: 120px; } .group span { max-width: 120px; font-size: 12px; overflow-wrap: anywhere; }
"""


def write_page(file: Path | str, findings: Findings) -> None:
    """Write the page."""
    with replacing(file) as temporary:
        temporary.write_text(render(findings.report, findings.rows), encoding="utf-8")


def render(report: Mapping[str, Any], rows: Rows) -> str:
    """Return the page; thumbnails of duplicates are read from `rows`."""
    body = [
        _head(report),
        _reasons(report),
        _plots(report),
        _classes(report.get("classes", {})),
        _remarks(report.get("conversations", {})),
        *(_duplicates(name, found, rows) for name, found in report.get("duplicates", {}).items()),
    ]
    title = f"Check of {_escape(report['source'])}"
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>{STYLE}</style></head><body><main>
{"".join(body)}
</main></body></html>
"""


def _escape(text: object) -> str:
    return escape_markup(printable(text))


def _head(report: Mapping[str, Any]) -> str:
    facts = [
        ("rows", f"{report['rows']:,}"),
        ("checked", f"{report['checked']:,}"),
        ("cannot be used", f"{report['bad']:,} ({report['share bad']:.2%})"),
    ]
    facts += [(name, f"{report[name]['count']:,}") for name in ("videos", "captions", "classes") if name in report]
    cells = "".join(
        f"<div><dt>{name}</dt><dd{' class=bad' if name.startswith('cannot') and report['bad'] else ''}>{value}</dd></div>"
        for name, value in facts
    )
    return f'<h1>{_escape(report["source"])}</h1><dl class="facts">{cells}</dl>'


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def cell(value: object, tag: str) -> str:
        number = isinstance(value, int | float)
        return f"<{tag}{' class=n' if number else ''}>{f'{value:,}' if number else _escape(value)}</{tag}>"

    lines = [
        *("".join(cell(column, "th") for column in columns),),
        *("".join(cell(value, "td") for value in row) for row in rows),
    ]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _reasons(report: Mapping[str, Any]) -> str:
    if not report["reasons"]:
        return "<h2>Rows that cannot be used</h2><p>None.</p>"
    counts = _table(("reason", "rows"), [(reason, found["count"]) for reason, found in report["reasons"].items()])
    listed = [
        (reason, each["key"], each["detail"])
        for reason, found in report["reasons"].items()
        for each in found["examples"]
    ]
    examples = _table(("reason", "key", "detail"), listed)
    return f"<h2>Rows that cannot be used</h2>{counts}<details><summary>Examples</summary>{examples}</details>"


def _plots(report: Mapping[str, Any]) -> str:
    figures = [
        _figure(f"{section}: {name}", values, report[section].get("context") if name == "tokens" else None)
        for section in ("media", "videos", "captions", "conversations")
        for name, values in report.get(section, {}).items()
        if isinstance(values, Mapping) and "histogram" in values
    ]
    return f'<h2>What the rows hold</h2><div class="plots">{"".join(figures)}</div>' if figures else ""


def _figure(name: str, values: Mapping[str, Any], limit: int | None) -> str:
    """Return a histogram, with a line at a limit."""
    edges, counts = values["histogram"]["edges"], values["histogram"]["counts"]
    wide, most = WIDE / len(counts), max(counts)
    single = edges[0] == edges[-1]
    titles = [f"{low:g}" if single else f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    bars = "".join(
        f'<rect x="{place * wide + 1:.1f}" y="{HIGH * (1 - count / most):.1f}" width="{wide - 2:.1f}" height="{HIGH * count / most:.1f}">'
        f"<title>{titles[place]}: {count:,}</title></rect>"
        for place, count in enumerate(counts)
    )
    at = _place_of(limit, edges, wide) if limit is not None else None
    line = (
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{HIGH}"><title>limit: {limit:g}</title></line>'
        if at is not None
        else ""
    )
    labels = (
        f'<text x="{WIDE / 2:g}" y="{HIGH + 16}" text-anchor="middle">{edges[0]:g}</text>'
        if single
        else f'<text x="0" y="{HIGH + 16}">{edges[0]:g}</text>'
        f'<text x="{WIDE}" y="{HIGH + 16}" text-anchor="end">{edges[-1]:g}</text>'
    )
    words = ", ".join(f"{key} {values[key]:g}" for key in ("least", "5 %", "median", "95 %", "largest"))
    return f"""<figure><h3>{_escape(name)}</h3>
<svg viewBox="0 0 {WIDE} {HIGH + 20}" role="img" aria-label="{_escape(name)}">{bars}{line}{labels}</svg>
<figcaption class="soft">{words}</figcaption></figure>"""


def _place_of(limit: int, edges: Sequence[float], wide: float) -> float | None:
    """Return where on the axis a number is; None if it is outside."""
    for place, (low, high) in enumerate(pairwise(edges)):
        if low <= limit <= high and high > low:
            return (place + (limit - low) / (high - low)) * wide
    return None


def _classes(classes: Mapping[str, Any]) -> str:
    if not classes:
        return ""
    most, high = max(classes["rows"].values()), 20
    lines = "".join(
        f'<text x="190" y="{place * high + 14}" text-anchor="end">{_escape(name)}</text>'
        f'<rect x="200" y="{place * high + 3}" width="{620 * count / most:.1f}" height="{high - 6}"></rect>'
        f'<text x="{206 + 620 * count / most:.1f}" y="{place * high + 14}">{count:,}</text>'
        for place, (name, count) in enumerate(classes["rows"].items())
    )
    left = f" {classes['left out']:,} classes in between are left out." if classes["left out"] else ""
    return f"""<h2>Classes</h2><p>{classes["count"]:,} classes; the largest has {classes["largest / smallest"]:g} times the rows of the
smallest.{left}</p><figure><svg viewBox="0 0 900 {high * len(classes["rows"]) + 4}" role="img">{lines}</svg></figure>"""


def _remarks(conversations: Mapping[str, Any]) -> str:
    found = conversations.get("remarks", {})
    if not found:
        return ""
    listed = [(remark, each["count"], ", ".join(each["examples"][:5])) for remark, each in found.items()]
    return f"<h2>Conversations to look at</h2>{_table(('remark', 'rows', 'such as'), listed)}"


def _duplicates(name: str, found: Mapping[str, Any], rows: Rows) -> str:
    again = found["rows after the first"]
    head = f"<h2>{_escape(name[0].upper() + name[1:])}</h2>"
    if not again:
        return f"{head}<p>None.</p>"
    shown = "".join(_group(group, rows, texts="captions" in name) for group in found["examples"][:GROUPS])
    return f"{head}<p>{found['groups']:,} groups; {again:,} rows repeat an earlier one. The largest groups:</p>{shown}"


def _group(group: Mapping[str, Any], rows: Rows, *, texts: bool) -> str:
    """Return the rows of a group with thumbnails; with `texts`, with the captions that the report holds."""
    captions = [f"“{_escape(text)}”<br>" for text in group["captions"]] if texts else [""] * len(group["rows"])
    items = "".join(
        f"<span>{_thumbnail(row, rows, texts=not texts)}{text}{_escape(key)}</span>"
        for row, key, text in zip(group["rows"], group["keys"], captions, strict=True)
    )
    more = group["size"] - len(group["rows"])
    return f'<div class="group">{items}{f"<span>and {more:,} more</span>" if more else ""}</div>'


def _thumbnail(row: int, rows: Rows, *, texts: bool) -> str:
    """Return a small image of a row, or with `texts` its caption; nothing if there is neither."""
    try:
        sample = rows.read(row)
        if not sample.images:
            return "".join(f"{_escape(text[:100])}<br>" for text in _texts(sample.captions) if texts)
        image = read_image(sample.images[0], at_least=THUMBNAIL)
    except (BadSample, PerceptError):
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _texts(captions: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for texts in list(captions.values())[:1]:
        yield from texts[:1]
