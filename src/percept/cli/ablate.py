"""`percept ablate`: compare the points of an ablation over several seeds."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.show import say
from percept.core.errors import PerceptError, unknown_name
from percept.core.report import table

if TYPE_CHECKING:
    from percept.train.ablation import Ablation


def ablate(
    name: tyro.conf.Positional[str] = "",
    seeds: int = 3,
    out: Path | None = None,
    minutes: float | None = None,
    tiny: bool = False,
) -> int:
    """Train every point of an ablation with several seeds, measure the models, and compare them.

    Interrupt at any time: the same command resumes where it stopped. The folder holds results.json, results.md and plot.svg,
    which are written anew after every run, and the runs. Without a name, the ablations are listed.

    Args:
        name: The ablation.
        seeds: Runs of each point; more can be added later by the same command with a larger number.
        out: Folder of the results and of the runs. Default: runs/ablation-NAME.
        minutes: Stop after this time with a checkpoint; the same command resumes later.
        tiny: Train and measure for seconds instead, to try the ablation; the results mean nothing.
    """
    from percept.recipes import ABLATIONS

    if not name:
        table("Ablations", ("ablation", "where"), ABLATIONS.items())
        return 0
    if name not in ABLATIONS:
        raise unknown_name("ablation", name, ABLATIONS)
    if seeds < 1:
        raise PerceptError(f"--seeds must be at least 1, got {seeds}. An interval needs at least 2.")
    if minutes is not None and not minutes > 0:
        raise PerceptError(f"--minutes must be above 0, got {minutes}. Leave it out to run to the end.")
    usual = Path("runs", f"ablation-{name.replace('/', '-')}{'-tiny' if tiny else ''}")
    return _run(name, seeds, out or usual, minutes, tiny=tiny)


def _opened(name: str, *, tiny: bool) -> "Ablation":
    from importlib import import_module

    from percept.cli.train import tiny_of
    from percept.recipes import ABLATIONS

    module, function = ABLATIONS[name].split(":")
    build = tiny_of(ABLATIONS[name]) if tiny else getattr(import_module(module), function)
    if build is None:
        raise PerceptError(f"{name} has no tiny form. Leave out --tiny.")
    return build()


def _run(name: str, seeds: int, out: Path, minutes: float | None, *, tiny: bool) -> int:
    from percept.core.dist import launched_rank
    from percept.eval import ablation as results
    from percept.train.ablation import Run, run_ablation

    ablation = _opened(name, tiny=tiny)
    command = shlex.join(["percept", "ablate", name, "--seeds", str(seeds), *(["--tiny"] if tiny else [])])
    planned = seeds * len(ablation.points)

    def write(runs: tuple[Run, ...]) -> None:
        results.write(out, results.summarise(name, runs, planned=planned, command=command))

    outcome = run_ablation(ablation, out, seeds=seeds, minutes=minutes, after=write)
    if launched_rank() == 0:
        if outcome.runs:
            results.show(results.summarise(name, outcome.runs, planned=planned, command=command))
        state = "finished" if outcome.finished else "stopped; the same command resumes"
        say(f"{len(outcome.runs)} of {planned} runs, {state}. Results: {out}")
    return 128 + outcome.signal if outcome.signal else 0


COMMAND = ablate
