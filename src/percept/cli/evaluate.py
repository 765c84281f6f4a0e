"""`percept eval`: measure a model on the labelled world and on handwritten digits."""

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from percept.cli.show import check_output, say

if TYPE_CHECKING:
    from percept.eval.card import Card
    from percept.eval.suites import Result
    from percept.infer.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every evaluation takes."""

    model: str = "nano"
    """nano, an official name, or a model folder."""
    weights: Path | None = None
    """Local weight file for an official name."""
    tokenizer: Path | None = None
    """tokenizer.json for a model that comes without one."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    count: int = 3000
    """Pictures of the main set; retrieval and every style take a third of it."""
    seed: int = 0
    """Of the pictures; published numbers have 0."""
    split: Literal["evaluation", "validation", "train"] = "evaluation"
    """Whose compositions: validation to choose between models, evaluation to report. New pictures in any case."""
    out: Path | None = None
    """Json file for the report card; a markdown page is written beside it."""


SUMMARIES = {
    "zeroshot": "Category and colour of single things.",
    "retrieval": "Find the picture of a caption, and the caption of a picture.",
    "robustness": "Category in six styles, and the loss against plain pictures.",
    "binding": "Right captions against ones with colours, or left and right, exchanged.",
    "digits": "Real handwritten digits; needs scikit-learn.",
}


def evaluate(suites: Sequence[str], options: Options) -> int:
    """Run evaluations, show their scores and write the report card."""
    from percept.eval.suites import SUITES, Plan
    from percept.infer.load import load

    check_output(options.out)
    encoder = load(options.model, weights=options.weights, tokenizer=options.tokenizer, device=options.device)
    plan = Plan(count=options.count, seed=options.seed, split=options.split)
    results: dict[str, Result] = {}
    seconds: dict[str, float] = {}
    for suite in suites:
        say(f"{suite}: {SUMMARIES[suite]}")
        start = time.perf_counter()
        results[suite] = SUITES[suite](encoder, plan)
        seconds[suite] = round(time.perf_counter() - start, 1)
    card = _card(encoder, suites, options, results, seconds)
    card.show()
    if options.out is not None:
        say(f"wrote {' and '.join(map(str, card.save(options.out)))}")
    return 0


def _typed(suites: Sequence[str], options: Options) -> str:
    """Return the command line that makes this measurement, without what is the default anyway."""
    words = ["percept", "eval", suites[0] if len(suites) == 1 else "all"]
    for field in fields(options):
        value = getattr(options, field.name)
        if value != field.default:
            words += [f"--{field.name}", str(value)]
    return shlex.join(words)


def _card(
    encoder: "Encoder", suites: Sequence[str], options: Options, results: "dict[str, Result]", seconds: dict[str, float]
) -> "Card":
    import torch

    import percept
    from percept.core.config import to_dict
    from percept.eval.card import Card

    return Card(
        model=to_dict(encoder.identity),
        command=_typed(suites, options),
        seed=options.seed,
        split=options.split,
        seconds=seconds,
        scores={suite: result.scores for suite, result in results.items()},
        confusions=[one for result in results.values() for one in result.confusions],
        facts={
            "device": f"{encoder.setting.device}, {str(encoder.setting.dtype).removeprefix('torch.')}",
            "versions": f"percept {percept.__version__}, torch {torch.__version__}",
        },
    )


def _command(suites: Sequence[str], summary: str) -> Callable[[Options], int]:
    def run(options: Annotated[Options, tyro.conf.arg(name="")]) -> int:
        return evaluate(suites, options)

    run.__doc__ = summary
    return run


COMMANDS = {
    **{suite: _command((suite,), summary) for suite, summary in SUMMARIES.items()},
    "all": _command(tuple(SUMMARIES), "All of these, as one report card."),
}
