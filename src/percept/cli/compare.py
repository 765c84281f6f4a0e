"""`percept compare`: the paired difference of two runs of `percept eval`, and the samples on which they disagree."""

from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.output import check_rows_output, is_stdout, save_rows
from percept.cli.show import check_output, count, say, writing
from percept.core.errors import PerceptError
from percept.core.report import notice, printable, table

if TYPE_CHECKING:
    from percept.eval.compare import Comparison, Disagreement

COLUMNS = ("task (↓: less is better)", "n", "A %", "B %", "B − A, points [95 %]", "A alone", "B alone", "p")
FIELDS = {
    "evaluation": str, "data": str, "task": str, "better": str, "n": int, "a": float, "b": float, "difference": float, "low": float,
    "high": float, "only_a": int, "only_b": int, "p": float,
}  # fmt: skip
"""Of a row of --out: means from 0 to 1, B minus A with its 95 % interval, and whether more or less is better. `about` in .json also holds the
samples on which the runs disagree, and the evaluations without samples."""


def compare(
    a: tyro.conf.Positional[Path],
    b: tyro.conf.Positional[Path],
    show: int = 20,
    out: Path | None = None,
    page: Path | None = None,
    seed: int = 0,
) -> int:
    """Compare two runs of percept eval on the same samples: B minus A with a 95 % interval, and where they disagree.

    Args:
        a: Report card of the first run, written by percept eval with --out or by percept report; its samples are next to it.
        b: Report card of the second run.
        show: Disagreements that are printed; 0 for none.
        out: File for the differences, ending in .csv, .json (with all disagreements), .jsonl or .parquet; - for json lines on standard
            output.
        page: File for a page with the images on which the runs disagree, ending in .html.
        seed: Seed of the bootstrap.

    Raises:
        PerceptError: a file is missing, or the runs did not measure the same samples.
    """
    if show < 0:
        raise PerceptError(f"--show {show} is negative. Give 0 or more.")
    check_rows_output(out)
    check_output(page, ".html", ".htm")
    from percept.eval.compare import compare as compared

    found = compared(a, b, seed=seed)
    if not is_stdout(out):
        _show(found, show)
    if out is not None:
        facts = found.to_dict()
        save_rows(out, facts.pop("differences"), FIELDS, facts=facts)
    if found.left_out:
        notice(f"in one run only, so not compared: {', '.join(found.left_out)}")
    if found.without_samples:
        notice(f"without samples, so not compared: {', '.join(found.without_samples)}")
    if page is not None:
        from percept.eval.compare_page import write_page

        with writing(page):
            write_page(page, found)
            say(f"wrote {page}")
    return 0


def _show(found: "Comparison", show: int) -> None:
    rows = [
        (
            each.place, each.n, f"{100 * each.a:.1f}", f"{100 * each.b:.1f}", each.shown,
            each.only_a, each.only_b, "" if each.p is None else f"{each.p:.3g}",
        )
        for each in found.differences
    ]  # fmt: skip
    first, second = found.names
    table(f"A: {first}, {found.a.path}; B: {second}, {found.b.path}", COLUMNS, rows)
    if show and found.disagreements:
        title = f"{count(len(found.disagreements), 'disagreement')}, {min(show, len(found.disagreements))} shown"
        table(title, ("task", "sample", "truth", "A", "B"), map(_cells, _chosen(found.disagreements, show)))


def _chosen(found: "Sequence[Disagreement]", show: int) -> "list[Disagreement]":
    """Return disagreements of all tasks in turn."""
    by_task: dict[tuple[str, str, str], list[Disagreement]] = {}
    for each in found:
        by_task.setdefault((each.evaluation, each.data, each.task), []).append(each)
    turns = chain.from_iterable(zip_longest(*by_task.values()))
    return [each for each in turns if each is not None][:show]


def _cells(each: "Disagreement") -> tuple[str, ...]:
    def text(value: object) -> str:
        return printable(", ".join(map(str, value)) if isinstance(value, list) else value)[:80]

    a, b = each.remarks
    return each.place, each.key, text(each.truth), text(each.a) + a, text(each.b) + b


COMMAND = compare
