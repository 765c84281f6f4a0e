"""An adaptation to a person's own folder as one self-contained page without scripts, with light and dark colours. Every text is escaped."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import Int

from percept.core.io import replacing
from percept.core.report import printable
from percept.data.check.page import STYLE
from percept.eval.statistics import Score
from percept.infer.sheet import small
from percept.methods.adaptation.bench import Run
from percept.methods.adaptation.measure import Answers
from percept.methods.adaptation.own import COLUMNS, Own, confusions

SHOWN = 24
"""Images of a method that are shown."""
MATRIX = 40
"""Classes up to which the whole confusion matrix is shown."""
ABOUT = {
    "base": "trained on the first half of the classes, measured on them among their names",
    "new": "the same model, measured on the other half among their names; it saw neither their names nor their images",
    "harmonic mean": "2 · base · new / (base + new)",
    "all": "trained on all classes, measured among all names; this is the model that can be saved",
}
MORE = """
.sheet { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); margin: 12px 0 24px; }
.sheet div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px; font-size: 13px; overflow-wrap: anywhere; }
.sheet img { display: block; width: 100%; height: 130px; object-fit: contain; border-radius: 6px; margin-bottom: 8px; }
.wrong { color: var(--second); font-weight: 600; } .scroll { overflow-x: auto; } summary { cursor: pointer; font-size: 21px; font-weight: 700; margin: 18px 0 12px; }
.matrix { width: auto; font-size: 12px; } .matrix td { width: 30px; height: 30px; min-width: 30px; padding: 2px; text-align: center; border: 1px solid var(--line); vertical-align: middle; }
.matrix th { padding: 4px 8px; border: 0; font-weight: 400; color: var(--ink); white-space: nowrap; }
.matrix th.row { text-align: right; max-width: 180px; overflow: hidden; text-overflow: ellipsis; }
.matrix th.column { vertical-align: bottom; padding: 6px 0; } .matrix th.column span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 160px; }
td small { display: block; color: var(--soft); } dl.words { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin-top: 14px; }
dl.words dt { text-transform: none; letter-spacing: 0; font-size: 13px; } dl.words dd { font-size: 13px; color: var(--soft); }
"""


def write_page(file: Path, runs: Sequence[Run], own: Own, *, init: str) -> None:
    """Write the page."""
    with replacing(file) as temporary:
        temporary.write_text(page(runs, own, init=init), encoding="utf-8")


def page(runs: Sequence[Run], own: Own, *, init: str) -> str:
    """Return the page of the runs of one or several methods, zero-shot first."""
    wholes = {run.record["label"]: run for run in runs if run.record["split"] == "all"}
    methods = list(wholes)[1:] or list(wholes)
    title = (
        f"{', '.join(methods)}: {init} adapted to {own.data.name}"
        if len(methods) < 4
        else f"{init} adapted to {own.data.name}"
    )
    body = [f"<h1>{_text(title)}</h1>", _facts(runs[0], own), _found(own), _scores(runs, own)]
    body += [_method(wholes[name], own, alone=len(methods) == 1) for name in methods]
    body.append(_classes(wholes, own))
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>{STYLE}{MORE}</style></head><body><main>
{"".join(body)}
</main></body></html>
"""


def _text(value: object) -> str:
    return escape(printable(value))


def _facts(run: Run, own: Own) -> str:
    whole = run.measured.answers.get("all")
    facts = (
        ("classes", len(own.counts)), ("different images", sum(own.counts.values())), ("drawn of each class", run.record["shots"]),
        ("tested", len(whole.rows) if whole else 0), ("copies left out", own.copies), ("unreadable files", len(own.bad)),
    )  # fmt: skip
    cells = "".join(
        f"<div><dt>{name}</dt><dd{' class=bad' if name[0] == 'u' and value else ''}>{value:,}</dd></div>"
        for name, value in facts
    )
    return f'<dl class="facts">{cells}</dl>'


def _found(own: Own) -> str:
    """Return sentences about what was found in the folder."""
    lines = (
        [
            f"{own.similar:,} images look nearly the same as a different one; those that look like a drawn image are not tested on."
        ]
        if own.similar
        else []
    )
    lines += [f"{each.path} {each.reason}" for each in own.bad[:20]]
    lines += own.remarks
    return f'<p style="margin-top: 16px">{"<br>".join(map(_text, lines))}</p>' if lines else ""


def _scores(runs: Sequence[Run], own: Own) -> str:
    columns = [column for column in COLUMNS if column[0] in own.splits]
    by_name: dict[str, dict[str, Run]] = {}
    for run in runs:
        by_name.setdefault(run.record["label"], {})[run.record["split"]] = run
    heads = "".join(f"<th class=n>{name}</th>" for *_, name in columns)
    lines = []
    for name, found in by_name.items():
        cells = "".join(
            f"<td class=n>{_cell(found[split].measured.scores.get(score))}</td>" for split, score, _ in columns
        )
        record = found["all"].record
        lines.append(
            f"<tr><td>{_text(name)}</td>{cells}<td class=n>{record['trainable']:,}</td><td class=n>{record['seconds']:.1f}</td></tr>"
        )
    words = "".join(f"<dt>{name}</dt><dd>{ABOUT[name]}</dd>" for *_, name in columns)
    return (
        f"<h2>Images classified correctly</h2><p>In %, with 95 % intervals.</p><div class=scroll><table><tr><th>method</th>{heads}"
        f"<th class=n>trained values</th><th class=n>seconds</th></tr>{''.join(lines)}</table></div><dl class=words>{words}</dl>"
    )


def _cell(score: Score | None) -> str:
    return (
        "–"
        if score is None
        else f"{100 * score.value:.1f}<small>{100 * score.low:.1f} – {100 * score.high:.1f}</small>"
    )


def _method(run: Run, own: Own, *, alone: bool) -> str:
    """Return what a method confuses, and the images on which it is most confidently wrong."""
    answers, name = run.measured.answers["all"], _text(run.record["label"])
    order = [int(place) for place in np.argsort(-answers.sure, kind="stable") if not answers.right[place]]
    inside = "" if not order else f"{_confusion(answers, own)}{_worst(answers, order, own)}"
    if not inside:
        inside = "<p>Every test image is classified correctly.</p>"
    return (
        f"<h2>Mistakes of {name}</h2>{inside}"
        if alone
        else f"<details><summary>Mistakes of {name}</summary>{inside}</details>"
    )


def _confusion(answers: Answers, own: Own) -> str:
    names = own.data.classes
    if len(names) <= MATRIX:
        return _matrix(counts_of(answers, len(names)), names)
    rows = "".join(
        f"<tr><td>{_text(each.truth)}</td><td>{_text(each.guess)}</td><td class=n>{each.count:,} of {each.of:,}</td></tr>"
        for each in confusions(own.data, answers)
    )
    return f"<p>Most often confused.</p><table><tr><th>true class</th><th>predicted class</th><th class=n>images</th></tr>{rows}</table>"


def counts_of(answers: Answers, classes: int) -> Int[np.ndarray, "c c"]:
    """Return the number of test images by true class (row) and predicted class (column)."""
    return np.bincount(answers.truth * classes + answers.guess, minlength=classes * classes).reshape(classes, classes)


def _matrix(counts: Int[np.ndarray, "c c"], names: Sequence[str]) -> str:
    heads = "".join(f'<th class="column"><span>{_text(name)}</span></th>' for name in names)
    lines = []
    for number, (name, row) in enumerate(zip(names, counts.tolist(), strict=True)):
        total = max(1, sum(row))
        cells = "".join(_square(count, count / total, right=place == number) for place, count in enumerate(row))
        lines.append(f'<tr><th class="row">{_text(name)}</th>{cells}</tr>')
    return (
        "<p>Rows are true classes, columns predicted ones; numbers are images.</p>"
        f'<div class=scroll><table class="matrix"><tr><th></th>{heads}</tr>{"".join(lines)}</table></div>'
    )


def _square(count: int, share: float, *, right: bool) -> str:
    colour = "accent" if right else "second"
    return (
        f'<td style="background: color-mix(in srgb, var(--{colour}) {60 * share:.0f}%, transparent)">{count or ""}</td>'
    )


def _worst(answers: Answers, order: Sequence[int], own: Own) -> str:
    """Return the images with the most probable wrong guesses; `order` are the numbers of wrong answers."""
    cards = "".join(_card(answers, place, own) for place in order[:SHOWN])
    more = f"{SHOWN} of {len(order):,}" if len(order) > SHOWN else f"{len(order):,}"
    return f"<h3 style='margin-top: 26px'>Most confidently wrong</h3><p>{more} images, the most probable wrong class first.</p><div class=sheet>{cards}</div>"


def _card(answers: Answers, place: int, own: Own) -> str:
    path = Path(own.data.image(int(answers.rows[place])))
    buffer = io.BytesIO()
    small(path).convert("RGB").save(buffer, "JPEG", quality=82)
    truth, guess = (own.data.classes[int(number)] for number in (answers.truth[place], answers.guess[place]))
    return (
        f'<div><img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"><b>{_text(truth)}</b><br>'
        f"<span class=wrong>{_text(guess)}, {100 * float(answers.sure[place]):.0f} %</span><br><span class=soft>{_text(path.name)}</span></div>"
    )


def _classes(wholes: dict[str, Run], own: Own) -> str:
    """Return the share of right answers by class and method."""
    heads = "".join(f"<th class=n>{_text(name)}</th>" for name in wholes)
    tested = np.bincount(
        next(iter(wholes.values())).measured.answers["all"].truth, minlength=len(own.data.classes)
    ).tolist()
    lines = []
    for number, (name, count) in enumerate(own.counts.items()):
        cells = "".join(f"<td class=n>{100 * run.record['per class']['all'][name]:.0f}</td>" for run in wholes.values())
        lines.append(
            f"<tr><td>{_text(name)}</td><td class=n>{count:,}</td><td class=n>{tested[number]:,}</td>{cells}</tr>"
        )
    return (
        "<h2>Classes</h2><p>Different images, how many were tested on, and % classified correctly among all names.</p><div class=scroll><table>"
        f"<tr><th>class</th><th class=n>images</th><th class=n>tested</th>{heads}</tr>{''.join(lines)}</table></div>"
    )
