"""Drawings of known things by several artists (emoji of four vendors), and the lowest of them; needs the corpora of docs/corpora.md.

The candidates are the categories of which there is a drawing. What the artists draw is the same, so differences between them are a shift of style.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from percept.data.sources.index import cache_home
from percept.eval.robustness import robustness_of_sets
from percept.eval.sets import Request
from percept.eval.sets.domains import open_domains
from percept.eval.table import Evaluation, Plan, Result, Unsuited
from percept.eval.zeroshot import needs_text

TABLES = "kinds_*.csv"
"""One table per artist, as `benchmarks/corpora.py fetch` writes them."""


def folder() -> Path:
    """Return the folder of the tables: $PERCEPT_CACHE/corpora/emoji, or that of the user's cache folder."""
    return cache_home().with_name("corpora") / "emoji"


def needs(model: Any) -> None:
    """Check that the drawings are on this machine and that the model can embed the names of the classes.

    Raises:
        Unsuited: the drawings are missing, or as `needs_text`.
    """
    if len(list(folder().glob(TABLES))) < 2:
        raise Unsuited("the drawings are not on this machine. Fetch them with: python benchmarks/corpora.py fetch")
    needs_text(model)


def run(model: Any, plan: Plan) -> Result:
    """Classify the drawings of each artist, at most as many as the images of a style. The drawings have no splits."""
    request = Request(path=str(folder() / TABLES), limit=plan.third, seed=plan.seed)
    found = robustness_of_sets(model, open_domains(request))
    return replace(found, data=[{**each, "request": request.to_dict()} for each in found.data])


EVALUATION = Evaluation(name="artists", summary=__doc__, run=run, needs=needs)
