"""`percept conformal`: sets of answers with guaranteed coverage, and abstention, compared on the logits of any classifier."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from percept.cli.output import check_rows_output, is_stdout, save_rows
from percept.cli.show import say
from percept.core.errors import PerceptError

if TYPE_CHECKING:
    from percept.eval.statistics import Score

TABLES = {
    "Sets": ("coverage of all items", "coverage of answered items", "abstained", "set size", "cost"),
    "Confidence": ("selective accuracy", "AUROC", "AUARC", "ECE"),
}
"""Scores of each table that is printed."""
FIELDS = {
    "method": str, "name": str, "value": float, "unit": str, "better": str, "n": int, "low": float, "high": float,
}  # fmt: skip
"""Of a row of --out: a score of a method with its 95 % interval; one of the scores is the cost."""
ORIGIN = ("model", "preprocessing")
"""Optional facts of a file of logits about their origin."""


def conformal(
    logits: tyro.conf.Positional[Path],
    alpha: float = 0.1,
    seed: int = 0,
    out: Path | None = None,
) -> int:
    """Calibrate answers on one part of the items and judge them on another: LAC, APS, confidence threshold, conformal abstention.

    Args:
        logits: A .npz file with arrays logits [items, classes] and labels [items], or a .parquet file with columns logits and label. An
            array facts, or the metadata percept of the parquet schema, may hold model and preprocessing as json.
        alpha: Share of sets that may miss the true class, between 0 and 1.
        seed: Of the split into calibration, policy and test items.
        out: File for all scores with intervals, ending in .csv, .json, .jsonl or .parquet; - for json lines on standard output.
    """
    from percept.core.report import table
    from percept.eval.abstention import Cost, Split, compared, cost_score
    from percept.eval.conformal import check_labels, judged, softmax

    check_rows_output(out)
    start = time.perf_counter()
    values, labels, origin = read_logits(logits)
    probabilities = softmax(values)
    labels = check_labels(labels, values)
    split = Split.random(len(labels), seed)
    answers = compared(probabilities, labels, split, alpha=alpha, seed=seed)
    true = labels[split.test]
    scores = {
        name: [*judged(each, true, seed=seed), cost_score(each, true, Cost(), seed=seed)]
        for name, each in answers.items()
    }
    if not is_stdout(out):
        say(f"{len(split.test):,} test items, {values.shape[1]} classes. In brackets: 95 % intervals.")
        for title, columns in TABLES.items():
            table(title, ("method", *columns), [(name, *_cells(found, columns)) for name, found in scores.items()])
    say("An abstention never counts as right or covered. Cost: lower is better, see percept.eval.abstention.Cost.")
    facts = {
        "file": str(logits), "alpha": alpha, "seed": seed, "calibration": len(split.calibration) + len(split.fresh),
        "seconds": round(time.perf_counter() - start, 1), **{name: origin.get(name) for name in ORIGIN},
    }  # fmt: skip
    lines = ({"method": name, **vars(score)} for name, found in scores.items() for score in found)
    save_rows(out, lines, FIELDS, facts=facts)
    return 0


def read_logits(file: Path) -> tuple[Any, Any, dict[str, Any]]:
    """Return the logits, the labels, and the facts that the file has about them, such as the model; an empty dictionary if it has none.

    Raises:
        PerceptError: no such file, another kind of file, or an array is missing.
    """
    from zipfile import is_zipfile

    import numpy as np

    if not file.is_file():
        raise PerceptError(f"there is no file {file}. Give a .npz or .parquet file with logits and labels.")
    try:
        if file.suffix == ".npz":
            if not is_zipfile(file):
                raise ValueError("it is not a .npz file")
            with np.load(file, allow_pickle=False) as arrays:
                facts = json.loads(str(arrays["facts"])) if "facts" in arrays else {}
                return arrays["logits"], arrays["labels"], facts
        if file.suffix == ".parquet":
            import pyarrow.parquet as parquet

            read = parquet.read_table(file, columns=["logits", "label"])
            facts = json.loads((read.schema.metadata or {}).get(b"percept", b"{}"))
            return np.array(read["logits"].to_pylist(), dtype=np.float64), read["label"].to_numpy(), facts
    except (KeyError, ValueError, OSError) as error:
        raise PerceptError(
            f"{file} cannot be used: {str(error).strip(chr(39)).splitlines()[0]}. It needs logits [items, classes] and labels [items] "
            "(.npz), or columns logits and label (.parquet)."
        ) from None
    raise PerceptError(f"{file.name} has another ending than .npz and .parquet. Save the logits as one of them.")


def _cells(scores: "list[Score]", columns: Sequence[str]) -> list[str]:
    by_name = {score.name: f"{score.shown} [{score.interval}]" for score in scores}
    return [by_name.get(name, "-") for name in columns]


COMMAND = conformal
