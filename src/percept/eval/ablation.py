"""Results of an ablation: mean and 95 % interval over seeds, paired differences, cost; json, table, markdown and plot."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from percept.core.io import replacing, write_json
from percept.core.report import table
from percept.eval.ablation_plot import draw
from percept.eval.statistics import with_unit, without_unit
from percept.train.ablation import Run

JSON, MARKDOWN, PLOT = "results.json", "results.md", "plot.svg"


def mean_interval(values: Sequence[float]) -> dict[str, float | int | None]:
    """Return mean, n, and the 95 % interval of the mean by Student's t; no interval for a single value.

    >>> found = mean_interval([1.0, 2.0, 3.0])
    >>> found["mean"], found["n"], round(found["low"], 3), round(found["high"], 3)
    (2.0, 3, -0.484, 4.484)
    """
    array = np.asarray(values, dtype=np.float64)
    mean, n = float(array.mean()), len(array)
    if n < 2:
        return {"mean": mean, "n": n, "low": None, "high": None}
    half = t_quantile(n - 1) * float(array.std(ddof=1)) / math.sqrt(n)
    return {"mean": mean, "n": n, "low": mean - half, "high": mean + half}


def t_quantile(freedom: int, share: float = 0.95) -> float:
    """Return t such that a Student variable lies between -t and t with probability `share`.

    >>> [round(t_quantile(freedom), 3) for freedom in (1, 2, 9)]
    [12.706, 4.303, 2.262]
    """
    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < share else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """Return P(|T| < t) for a whole number of degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine2, odd = math.cos(angle) ** 2, freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for step in range(1 + odd, freedom, 2):
        total += term
        term *= cosine2 * step / (step + 1)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def summarise(name: str, runs: Sequence[Run], *, planned: int, command: str) -> dict[str, Any]:
    """Return what the finished runs show, as plain data.

    Per point: its cost, and per score the values by seed, mean and interval, and the differences to the first point and to
    the point before, paired by seed.
    """
    points = list(dict.fromkeys(run.point for run in runs))
    scores = {each: dict(facts) for run in runs[:1] for each, facts in run.scores.items()}
    return {
        "ablation": name,
        "command": command,
        "runs": len(runs),
        "planned": planned,
        "scores": {each: {"unit": facts["unit"], "better": facts["better"]} for each, facts in scores.items()},
        "points": {
            point: {
                "cost": _cost([run for run in runs if run.point == point]),
                "scores": {each: _compare(runs, points, place, each) for each in scores},
            }
            for place, point in enumerate(points)
        },
    }


def _cost(runs: Sequence[Run]) -> dict[str, float]:
    """Return the mean cost of a run."""
    return {name: float(np.mean([run.cost[name] for run in runs])) for name in runs[0].cost}


def _values(runs: Sequence[Run], point: str, score: str) -> dict[int, float]:
    """Return a score by seed."""
    return {run.seed: run.scores[score]["value"] for run in runs if run.point == point and score in run.scores}


def _compare(runs: Sequence[Run], points: Sequence[str], place: int, score: str) -> dict[str, Any]:
    own = _values(runs, points[place], score)
    found: dict[str, Any] = {"values": {str(seed): value for seed, value in own.items()}}
    found |= mean_interval(list(own.values())) if own else {}
    for key, other in (("to_first", 0), ("to_previous", place - 1)):
        theirs = _values(runs, points[other], score) if place else {}
        if pairs := [own[seed] - theirs[seed] for seed in own.keys() & theirs.keys()]:
            found[key] = mean_interval(pairs)
    return found


def write(folder: Path, results: Mapping[str, Any]) -> None:
    """Write results.json, results.md and plot.svg."""
    write_json(folder / JSON, results)
    for file, text in ((MARKDOWN, markdown(results)), (PLOT, draw(results))):
        with replacing(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8")


def rows_of(results: Mapping[str, Any], score: str) -> list[tuple[str, ...]]:
    """Return the table of a score: point, mean, interval, difference to the first point and to the one before, n."""
    unit = results["scores"][score]["unit"]
    rows = []
    for point, facts in results["points"].items():
        found = facts["scores"][score]
        if "mean" not in found:
            continue
        differences = [_difference(found.get(key), unit) for key in ("to_first", "to_previous")]
        rows.append((point, with_unit(found["mean"], unit), _interval(found, unit), *differences, str(found["n"])))
    return rows


def _interval(found: Mapping[str, Any], unit: Any) -> str:
    if found["low"] is None:
        return "–"
    return " – ".join(without_unit(found[end], unit) for end in ("low", "high"))


def _difference(found: Mapping[str, Any] | None, unit: Any) -> str:
    if found is None:
        return ""
    sign = "+" if found["mean"] >= 0 else ""
    return f"{sign}{without_unit(found['mean'], unit)} [{_interval(found, unit)}]"


COLUMNS = ("point", "mean", "95 % interval", "to the first", "to the one before", "seeds")
COST = ("point", "steps", "samples", "floating-point operations", "seconds")


def cost_rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the mean cost of a run of each point."""
    return [
        (
            point,
            f"{cost['steps']:,.0f}",
            f"{cost['samples']:,.0f}",
            f"{cost['operations']:.3g}",
            f"{cost['seconds']:,.1f}",
        )
        for point, facts in results["points"].items()
        for cost in (facts["cost"],)
    ]


def markdown(results: Mapping[str, Any]) -> str:
    """Return the results as a markdown page that shows the plot."""
    lines = [
        f"# Ablation {results['ablation']}",
        "",
        f"`{results['command']}`: {results['runs']} of {results['planned']} runs are finished. Intervals are 95 % intervals of "
        "the mean over seeds (Student's t); differences are paired by seed.",
        "",
        f"![{results['ablation']}]({PLOT})",
    ]
    tables = [(score, COLUMNS, rows_of(results, score)) for score in results["scores"]]
    for title, columns, rows in [*tables, ("Cost of a run", COST, cost_rows(results))]:
        lines += ["", f"## {title}", "", _line(columns), _line(["---", *["---:"] * (len(columns) - 1)])]
        lines += [_line(row) for row in rows]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def show(results: Mapping[str, Any]) -> None:
    """Print the tables."""
    for score in results["scores"]:
        table(score, COLUMNS, rows_of(results, score))
    table("Cost of a run", COST, cost_rows(results))
