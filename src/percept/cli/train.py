"""`percept train`: run a recipe; every field of its configuration is an option."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import field, make_dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import tyro

from percept.cli.show import say
from percept.core.errors import PerceptError, unknown_name
from percept.core.report import table

USAGE = """usage: percept train RECIPE [--out FOLDER] [--minutes N] [--check] [--tiny] [options of the recipe]

Train a model and write its folder. Interrupt at any time: the same command resumes where training stopped.
percept train RECIPE --help lists the options; --tiny starts from a configuration that runs in seconds.
--check takes a few steps, reports what looks wrong and how long the run will take, and saves nothing.
On several devices: torchrun --nproc-per-node N -m percept train RECIPE ...
"""

FOUND = 1
"""Exit code of --check if something looks wrong."""


def train(arguments: Sequence[str]) -> int:
    """Run the recipe named by the first argument; the other arguments change its configuration."""
    from percept.recipes import RECIPES

    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        table("Recipes", ("recipe", "where"), RECIPES.items())
        return 0
    name, rest = arguments[0], list(arguments[1:])
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    module, function = RECIPES[name].split(":")
    recipe: Callable[..., Any] = getattr(import_module(module), function)
    options = parse(name, recipe, rest, tiny=tiny_of(RECIPES[name]))
    return run(name, recipe, options, command=shlex.join(["percept", "train", *arguments]))


def tiny_of(place: str) -> Callable[[], Any] | None:
    """Return the function that makes the small form of "module:function": `tiny`, or `tiny_FUNCTION` in a module with several."""
    module, function = place.split(":")
    found = import_module(module)
    return getattr(found, f"tiny_{function}", None) or getattr(found, "tiny", None)


def parse(name: str, recipe: Callable[..., Any], rest: list[str], *, tiny: Callable[[], Any] | None) -> Any:
    """Turn arguments into out, minutes and the recipe's configuration."""
    kind = config_type(recipe)
    default = kind()
    if "--tiny" in rest:
        if tiny is None:
            raise PerceptError(f"{name} has no tiny configuration. Leave out --tiny and change single options.")
        rest.remove("--tiny")
        default = tiny()
    options = make_dataclass(
        "Options",
        [
            ("out", Path, Path("runs", name.replace("/", "-"))),
            ("minutes", float | None, None),
            ("replan", bool, False),
            ("check", bool, False),
            ("config", Annotated[kind, tyro.conf.arg(name="")], field(default_factory=lambda: default)),
        ],
        frozen=True,
    )
    options.__doc__ = f"""{(recipe.__doc__ or name).splitlines()[0]}

    With --tiny the options start from a configuration that runs in seconds.

    Args:
        out: Folder of the run and of the finished model.
        minutes: Stop after this time with a checkpoint; the same command resumes later.
        replan: Resume from a checkpoint in `out` even if the options have changed; both are recorded with the model.
        check: Take a few steps, report what looks wrong and how long the run will take, and save nothing. The exit code is
            1 if something looks wrong.
    """
    return tyro.cli(options, prog=f"percept train {name}", args=rest)


def config_type(recipe: Callable[..., Any]) -> type:
    """Return the dataclass that a recipe's first parameter takes."""
    hint = next(iter(get_type_hints(recipe).values()))
    return next((one for one in get_args(hint) if one is not type(None)), hint)


def run(name: str, recipe: Callable[..., Any], options: Any, *, command: str) -> int:
    """Train and print a summary of the run."""
    from percept.core.dist import launched_rank
    from percept.train.chain import Chain, fit_chain
    from percept.train.loop import fit

    if options.minutes is not None and not options.minutes > 0:
        raise PerceptError(
            f"--minutes {options.minutes} is not possible. Give a number above 0, or leave it out to train to the end."
        )
    planned, folder = recipe(options.config, command=command), options.out
    if options.check:
        return _check(planned)
    limits = {"minutes": options.minutes, "replan": options.replan}
    if isinstance(planned, Chain):
        folder, progress, finished = fit_chain(planned, folder, **limits)
    else:
        progress = fit(planned, folder, **limits)
        finished = progress.step == planned.settings.steps
    if not launched_rank():
        _summarise(name, folder, progress, finished=finished)
    return 128 + progress.signal if progress.signal and not finished else 0


def _summarise(name: str, folder: Path, progress: Any, *, finished: bool) -> None:
    rows = [
        ("folder", str(folder)),
        ("steps", f"{progress.step:,}"),
        ("samples", f"{progress.samples:,}"),
        ("steps left out", str(progress.skipped)),
        ("seconds", f"{progress.seconds:,.0f}"),
        ("floating-point operations", f"{progress.operations:.3g}"),
        ("state", "finished" if finished else "stopped; the same command resumes"),
    ]
    table(name, ("what", "value"), rows)
    if finished:
        _next_steps(folder)


def _check(planned: Any) -> int:
    """Rehearse a run, or the first part of a chain, and print the report."""
    from percept.core.dist import launched_rank
    from percept.train.chain import Chain
    from percept.train.check import rehearse
    from percept.train.doctor import KINDS

    if isinstance(planned, Chain):
        name, build = planned.parts[0]
        say(f"checking the first part, {name}; later parts begin with its result")
        planned = build(None)
    found = rehearse(planned)
    if launched_rank() == 0:
        remarks = {remark.kind: remark.message for remark in found.remarks}
        checked = [
            (kind, remarks.get(kind, "nothing found" if kind in found.checked else "not checked")) for kind in KINDS
        ]
        table(f"Check of {planned.name}", ("check", "result"), checked)
        table(f"{found.steps} steps", ("what", "value"), [(name, value) for name, value in found.figures()])
    return FOUND if found.remarks or found.skipped else 0


def _next_steps(folder: Path) -> None:
    """Print what can be done with a finished run: an encoder, or a method on one."""
    from percept.core.io import read_object

    facts = read_object(folder / "config.json")
    if facts.get("kind") == "vlm":
        say(f"use it: percept ask IMAGE 'What is it?' --model {shlex.quote(str(folder))}")
        return
    if "method" in facts:
        say(f"use it in Python: percept.load({str(folder)!r})")
    else:
        say(f"use it: percept classify IMAGES --labels cat,dog --model {shlex.quote(str(folder))}")
    model, card = shlex.quote(str(folder)), shlex.quote(str(folder / "card.json"))
    say(f"measure it: percept eval all --model {model} --out {card}")


ARGUMENTS = train
