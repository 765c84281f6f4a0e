"""The report of models side by side as one self-contained page without scripts, with light and dark colours. Every text is escaped.

The page is a function of saved cards, so models that were measured on different days or machines can share one.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape as escape_markup
from typing import Any

from percept.core.report import printable
from percept.eval.page_cards import (
    TITLES,
    clear_best,
    counts_differ,
    evaluations_of,
    headlines,
    images_of,
    less_is_better,
    machines_of,
    rows_of,
    score_of,
    unique,
)
from percept.eval.plots import COLOURS, dots, reliability
from percept.eval.statistics import without_unit
from percept.eval.table import EVALUATIONS, summary

SUMMARIES = {"memory": "Weights, and the peak of a process that opens the model and embeds one batch of images."}
STYLE = """
:root { --paper: #faf9f6; --card: #fff; --ink: #1f1f1d; --soft: #6d6a63; --line: #e2dfd7; --good: #2f7d4f; --bad: #a8442a;
  --m0: #1f6f78; --m1: #b5722a; --m2: #6b4fa0; --m3: #2f7d4f; --m4: #a8446a; --m5: #5c6470; }
@media (prefers-color-scheme: dark) { :root { --paper: #151618; --card: #1d1f22; --ink: #e9e7e2; --soft: #9c9a94; --line: #34373c;
  --good: #79c295; --bad: #e58d72; --m0: #6cc1c9; --m1: #d9a861; --m2: #b39ddb; --m3: #79c295; --m4: #e08bab; --m5: #a3abb8; } }
* { box-sizing: border-box; margin: 0; }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 44px 26px 80px; }
h1 { font-size: 31px; line-height: 1.2; overflow-wrap: anywhere; } h2 { font-size: 21px; margin: 42px 0 4px; }
p, .soft { color: var(--soft); } h2 + p { margin-bottom: 12px; max-width: 46em; }
.models { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0 0; padding: 0; list-style: none; }
.models li { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 16px; min-width: 230px; flex: 1; }
.models b { overflow-wrap: anywhere; } .models span { display: block; font-size: 13px; color: var(--soft); overflow-wrap: anywhere; }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 50%; margin-right: 7px; }
figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; margin: 12px 0; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 12.5px; fill: var(--ink); } svg .soft { font-size: 11px; fill: var(--soft); }
svg .grid { stroke: var(--line); } svg .diagonal { stroke: var(--soft); stroke-dasharray: 4 3; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; margin: 8px 0; }
th { text-align: left; color: var(--soft); font-weight: 600; }
th, td { padding: 6px 16px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
.n { text-align: right; white-space: nowrap; } .best { font-weight: 700; }
td small { color: var(--soft); display: block; font-size: 12px; font-weight: 400; }
td small.met { color: var(--good); } td small.missed { color: var(--bad); } summary { cursor: pointer; color: var(--soft); font-size: 14px; margin-top: 6px; }
code { font-size: 13px; overflow-wrap: anywhere; } .half { max-width: 460px; }
"""


def render(cards: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of one or several cards, as `Card.to_dict` returns them."""
    names = unique([str(card["model"]["name"]) for card in cards])
    title = escape(f"Report card: {', '.join(names)}")
    body = [f"<h1>{title}</h1>", _models(cards, names), _warnings(cards), _glance(cards, names)]
    body += [_section(name, cards, names) for name in evaluations_of(cards)]
    body += [_confusions(cards, names), _how(cards, names)]
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>{STYLE}</style></head><body><main>
{"".join(body)}
</main></body></html>
"""


def escape(text: object) -> str:
    """Return a text as markup on one printable line."""
    return escape_markup(printable(text))


def _key(place: int) -> str:
    return f'<i class="key" style="background: var(--m{place % COLOURS})"></i>'


def _models(cards: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    items = []
    for place, (card, name) in enumerate(zip(cards, names, strict=True)):
        facts, model = card["facts"], card["model"]
        lines = [
            f"{model['dim']} numbers" if model.get("dim") else "no vectors",
            str(facts.get("device", "")),
            str(facts.get("machine", "")),
            f"measured in {sum(card['seconds'].values()):,.0f} s",
        ]
        spans = "".join(f"<span>{escape(line)}</span>" for line in lines if line)
        items.append(f"<li>{_key(place)}<b>{escape(name)}</b>{spans}</li>")
    return f'<ul class="models">{"".join(items)}</ul>'


def _warnings(cards: Sequence[Mapping[str, Any]]) -> str:
    """Return remarks on cards that cannot be compared in everything."""
    shown = dict.fromkeys(map(images_of, cards))
    lines = [f"Images: {escape(images)}." for images in shown]
    if len(shown) > 1 or counts_differ(cards):
        lines.append("The models were measured on different images.")
    if len(machines_of(cards)) > 1:
        lines.append(
            "The models were measured on different machines or in different number types, so speeds cannot be compared."
        )
    return f'<p style="margin-top: 14px">{" ".join(lines)} Ranges are 95 % intervals.</p>'


def _glance(cards: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    rows = []
    for evaluation, score in headlines(cards):
        found = [rows_of(card, evaluation).get(score) for card in cards]
        label = f"{escape(TITLES.get(evaluation, evaluation))}: {escape(score)}{' ↓' if less_is_better(found) else ''}"
        marked = evaluation != "speed" or len(machines_of(cards)) == 1
        rows.append(f"<tr><td>{label}</td>{''.join(_cells(found, marked=marked))}</tr>")
    heads = "".join(f'<th class="n">{_key(place)}{escape(name)}</th>' for place, name in enumerate(names))
    return (
        "<h2>At a glance</h2><p>↓: less is better."
        f"{' A best value is bold if its interval overlaps with no other of the row.' if len(cards) > 1 else ''}</p>"
        f'<div class="scroll"><table><tr><th>score</th>{heads}</tr>{"".join(rows)}</table></div>'
    )


def _cells(found: Sequence[Mapping[str, Any] | None], *, marked: bool) -> list[str]:
    """Return a row's cells: value, interval, and the target where there is one; a clearly best value is marked."""
    best = clear_best([row for row in found if row]) if marked else None
    return ['<td class="n soft">not measured</td>' if row is None else _cell(row, bold=row is best) for row in found]


def _cell(row: Mapping[str, Any], *, bold: bool) -> str:
    score = score_of(row)
    target = (
        f'<small class="{"met" if row["met"] else "missed"}">target {escape(row["target"])}</small>'
        if "target" in row
        else ""
    )
    interval = (f"<small>{escape(score.interval)}</small>" if score.low < score.high else "") + target
    return f'<td class="n{" best" if bold else ""}">{escape(score.shown)}{interval}</td>'


def _section(evaluation: str, cards: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    rows = [rows_of(card, evaluation) for card in cards]
    order = list(dict.fromkeys(name for each in rows for name in each))
    shares = [name for name in order if any(name in each and each[name]["unit"] == "share" for each in rows)]
    plot = dots(shares, [{name: score_of(each[name]) for name in each} for each in rows], names) if shares else ""
    extra = _reliability(cards, names) if evaluation == "calibration" else ""
    about = SUMMARIES.get(evaluation) or (_about(evaluation) if evaluation in EVALUATIONS else "")
    missing = [
        f"{escape(name)} {escape(card['facts'][evaluation])}"
        for card, name in zip(cards, names, strict=True)
        if evaluation in card["facts"]
    ]
    table = _scores(order, rows, names)
    complete = len(shares) == len(order)
    whole = table if not plot or not complete else f"<details><summary>All values</summary>{table}</details>"
    remarks = f"<p>{'<br>'.join(missing)}</p>" if missing else ""
    title = TITLES.get(evaluation, evaluation)
    return f"<h2>{escape(title)}</h2><p>{escape(about)}</p>{remarks}{_figure(plot)}{extra}{whole}"


def _about(evaluation: str) -> str:
    """Return the summary of an evaluation without what it does with `--data`."""
    return summary(evaluation).partition("; with --data")[0].removesuffix(".") + "."


def _figure(plot: str, kind: str = "") -> str:
    return f'<figure class="{kind}">{plot}</figure>' if plot else ""


def _scores(order: Sequence[str], rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    lines = []
    for name in order:
        for each, model in zip(rows, names, strict=True):
            if name in each:
                score = score_of(each[name])
                cells = (name, *((model,) if len(names) > 1 else ()), score.shown, score.interval, f"{score.n:,}")
                lines.append(cells)
    return _table(("score", *(("model",) if len(names) > 1 else ()), "value", "95 % interval", "n"), lines, numbers=3)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int) -> str:
    """Return a table whose last columns, `numbers` of them, hold numbers."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if place >= len(cells) - numbers else ''}>{escape(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{line(columns, "th")}</tr>{body}</table></div>'


def _reliability(cards: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    curves = [card.get("curves", {}).get("reliability", []) for card in cards]
    return _figure(reliability(curves, names), "half") if any(curves) else ""


def _confusions(cards: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    parts = []
    for card, name in zip(cards, names, strict=True):
        if card.get("confusions"):
            lines = [(f"{each.get('data', '')}: {each['truth']}".removeprefix(": "), each["guess"], f"{each['count']} of {each['of']}") for each in card["confusions"]]  # fmt: skip
            title = f"<h3>{escape(name)}</h3>" if len(cards) > 1 else ""
            parts.append(f"{title}{_table(('true class', 'predicted class', 'images'), lines, numbers=1)}")
    return (
        f"<h2>Most often confused</h2><details><summary>Pairs of classes</summary>{''.join(parts)}</details>"
        if parts
        else ""
    )


def _how(cards: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    parts = []
    for card, name in zip(cards, names, strict=True):
        seconds = ", ".join(f"{key} {without_unit(value, 'px')}" for key, value in card["seconds"].items())
        facts = {
            "command": card["command"],
            "identity of image vectors": card["model"]["image"],
            "images": images_of(card),
            "seconds": seconds,
            **card["facts"],
        }
        lines = "".join(
            f"<tr><td>{escape(key)}</td><td><code>{escape(value)}</code></td></tr>" for key, value in facts.items()
        )
        parts.append(f"<h3>{escape(name)}</h3><table>{lines}</table>")
    return f"<h2>How it was measured</h2>{''.join(parts)}"
