"""`percept eval`: measure a model on the labelled world and on handwritten digits."""

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from percept.cli.show import check_output, say
from percept.core.errors import PerceptError
from percept.core.report import notice, printable

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
    """File for the report card, ending in .json; a markdown page is written beside it."""


SUMMARIES = {
    "zeroshot": "Category and colour of single things.",
    "retrieval": "Find the picture of a caption, and the caption of a picture.",
    "robustness": "Category in six styles, and the loss against plain pictures.",
    "binding": "Right captions against ones with colours, or left and right, exchanged.",
    "digits": "Real handwritten digits; needs scikit-learn.",
}


def evaluate(suites: Sequence[str], options: Options) -> int:
    """Run evaluations, show their scores and write the report card; one that fails costs the others nothing.

    Raises:
        PerceptError: something that every evaluation needs is missing, or all of them failed.
    """
    encoder = _ready(suites, options)
    measured = _measure(encoder, suites, options)
    errors = list(measured.errors.values())
    if not measured.results:
        raise errors[0]
    card = _card(encoder, suites, options, measured)
    card.show()
    if options.out is not None:
        say(f"wrote {' and '.join(map(str, card.save(options.out)))}")
    for error in errors:
        if not isinstance(error, PerceptError | OSError):
            raise error  # a bug is not hidden
    return 2 if errors else 0


def _ready(suites: Sequence[str], options: Options) -> "Encoder":
    """Load the model, and find out what is missing before anything is measured."""
    from percept.eval.digits import read_digits
    from percept.infer.load import load

    if options.out is not None:
        check_output(options.out, ".json")
        check_output(options.out.with_suffix(".md"))
    if "digits" in suites:
        read_digits()
    encoder = load(options.model, weights=options.weights, tokenizer=options.tokenizer, device=options.device)
    encoder.text("a picture")
    return encoder


@dataclass(kw_only=True)
class Measured:
    """What was found, by evaluation."""

    results: "dict[str, Result]" = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    """Of those that failed."""


def _measure(encoder: "Encoder", suites: Sequence[str], options: Options) -> Measured:
    from percept.eval.suites import SUITES, Plan

    plan = Plan(count=options.count, seed=options.seed, split=options.split)
    measured = Measured()
    for suite in suites:
        say(f"{suite}: {SUMMARIES[suite]}")
        start = time.perf_counter()
        try:
            measured.results[suite] = SUITES[suite](encoder, plan)
        except Exception as error:  # one of several is told at once, and raised or counted when the others are saved
            measured.errors[suite] = error
            if len(suites) > 1:
                notice(f"{suite} failed: {_reason(error)}")
        else:
            measured.seconds[suite] = round(time.perf_counter() - start, 1)
    return measured


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, PerceptError) else f"{type(error).__name__}: {error}"


def _typed(suites: Sequence[str], options: Options) -> str:
    """Return the command line that makes this measurement, without what is the default anyway."""
    words = ["percept", "eval", suites[0] if len(suites) == 1 else "all"]
    for option in fields(options):
        value = getattr(options, option.name)
        if value != option.default:
            words += [f"--{option.name}", str(value)]
    return shlex.join(words)


def _card(encoder: "Encoder", suites: Sequence[str], options: Options, measured: Measured) -> "Card":
    import torch

    import percept
    from percept.core.config import to_dict
    from percept.eval.card import Card

    return Card(
        model={**to_dict(encoder.identity), "name": printable(encoder.identity.name)},
        command=printable(_typed(suites, options)),
        seed=options.seed,
        split=options.split,
        seconds=measured.seconds,
        scores={suite: result.scores for suite, result in measured.results.items()},
        confusions=[one for result in measured.results.values() for one in result.confusions],
        facts={
            "device": f"{encoder.setting.device}, {str(encoder.setting.dtype).removeprefix('torch.')}",
            "versions": f"percept {percept.__version__}, torch {torch.__version__}",
            **{f"{suite} failed": printable(_reason(error)) for suite, error in measured.errors.items()},
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
