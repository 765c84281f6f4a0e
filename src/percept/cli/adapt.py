"""`percept adapt`: adapt an encoder to class folders of your own by a published method, or compare such methods."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from percept.cli.output import check_rows_output, is_stdout, save_rows
from percept.cli.show import bad_files, check_output, count, say, writing
from percept.core.errors import PerceptError
from percept.core.report import notice, table

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder
    from percept.methods.adaptation.bench import Arm, Case, Run
    from percept.methods.adaptation.few import Seen
    from percept.methods.adaptation.own import Own

FIELDS = {
    "method": str, "split": str, "score": str, "n": int, "value": float, "low": float, "high": float, "shots": int, "seed": int, "steps": int,
    "seconds": float, "trainable": int,
}  # fmt: skip
"""Of a row of --out: shares from 0 to 1 with 95 % intervals."""


def adapt(
    method: tyro.conf.Positional[str] = "",
    *,
    data: Path,
    init: str = "nano",
    test: Path | None = None,
    shots: int = 16,
    compare: str = "",
    out: Path | None = None,
    page: Path | None = None,
    save: Path | None = None,
    template: str = "a photo of a {}.",
    epochs: int | None = None,
    seed: int = 1,
    device: str = "auto",
) -> int:
    """Adapt an encoder to class folders by a few images of each class, and measure it on images that were not drawn.

    With four classes or more, the method is also trained on the first half of the classes (base) and measured on the other half (new), whose
    names and images it never saw. What is saved is trained on all classes.

    Args:
        method: Method, such as coop, kgcoop, maple or tip-adapter. docs/adapting.md has all of them.
        data: Folder with one subfolder of images for each class; its name, with spaces for _, is the class name.
        init: Encoder with a text tower: name, folder or weight file.
        test: Folder with the same subfolders to measure on. Default: the images of --data that are not drawn.
        shots: Training images of each class, drawn at random.
        compare: Methods to compare, such as coop,kgcoop, or all. Nothing is saved.
        out: File for the scores, ending in .csv, .json, .jsonl or .parquet; - for json lines on standard output.
        page: HTML page with the scores, the confusion matrix and the images on which a method is most confidently wrong.
        save: New folder for the adapted model; percept.load opens it.
        template: Text of a class for methods that start from one, with {} for its name.
        epochs: Passes over the training images. Default: as in the paper of the method.
        seed: Seed of the draw and of the training.
        device: auto, cpu, cuda, cuda:1 or mps.
    """
    arms = _arms(method, compare, epochs)
    _check(arms, out, save, compare, shots, epochs)
    check_rows_output(out)
    check_output(page, ".html", ".htm")
    from percept.infer.load import load
    from percept.methods.adaptation.own import open_own
    from percept.methods.adaptation.texts import base_of

    encoder = load(init, device=device, dtype="float32")
    base_of(encoder)  # refuses a model without texts before any work
    own = open_own(data, test, template=template)
    _show_found(own, on_stderr=is_stdout(out))
    runs = _runs(arms, encoder, own, shots=shots, seed=seed)
    if not is_stdout(out):
        _show(runs, own)
    facts = {"command": "percept adapt", "data": str(data), "init": init, "classes": list(own.data.classes)}
    save_rows(out, _rows(runs), FIELDS, facts=facts)
    if save is not None:
        _save(save, runs[-1], init)
    if page is not None:
        _write_page(page, runs, own, init)
    return 0


def _arms(method: str, compare: str, epochs: int | None) -> "list[Arm]":
    """Return the methods that run; zero-shot is always measured with them."""
    from percept.methods.adaptation.bench import Arm, adaptation_class

    names = ["zero-shot", *_names(method, compare)]
    trains = {name: adaptation_class(name).recipe(1).epochs > 0 for name in names}
    return [
        Arm(method=name, training={"epochs": epochs} if trained and epochs is not None else {})
        for name, trained in trains.items()
    ]


def _names(method: str, compare: str) -> list[str]:
    from percept.methods.adaptation import ADAPTATIONS

    if bool(method) == bool(compare):
        raise PerceptError(f"give one method, or several with --compare. The methods are {', '.join(ADAPTATIONS)}.")
    if compare == "all":
        return list(ADAPTATIONS)
    return [name.strip() for name in compare.split(",") if name.strip()] if compare else [method]


def _check(
    arms: "list[Arm]", out: Path | None, save: Path | None, compare: str, shots: int, epochs: int | None
) -> None:
    from percept.methods import INDEX

    if shots < 1:
        raise PerceptError(f"--shots must be at least 1, got {shots}.")
    if epochs is not None and epochs < 0:
        raise PerceptError(f"--epochs must be at least 0, got {epochs}.")
    if out is not None and not out.suffix and not is_stdout(out):
        raise PerceptError(f"--out {out} has no ending such as .csv. For the folder of the model use --save {out}.")
    if save is None:
        return
    if compare:
        raise PerceptError("--compare saves nothing, so --save has no effect. Leave one of them out.")
    if arms[-1].method not in INDEX:
        raise PerceptError(f"{arms[-1].method} trains nothing, so there is nothing to save. Leave --save out.")
    if save.exists() and (not save.is_dir() or any(save.iterdir())):
        raise PerceptError(f"{save} exists and is not empty. Give --save a new folder.")


def _runs(arms: "list[Arm]", encoder: "Encoder", own: "Own", *, shots: int, seed: int) -> "list[Run]":
    """Draw the shots and train every method on every split; a class with too few images is an error before any encoding."""
    from percept.core.report import track
    from percept.methods.adaptation.bench import Case
    from percept.methods.adaptation.few import see

    drawn = own.data.drawn(shots, seed)
    for split in own.splits:
        for part in ("base", "new") if split == "base" else ("all",):
            own.data.tested(drawn, part)
    seen = see(encoder, own.data, progress=lambda parts: track(parts, "encoding images", len(parts)))
    return [_run(arm, seen, Case(split=split, shots=shots, seed=seed)) for split in own.splits for arm in arms]


def _run(arm: "Arm", seen: "Seen", case: "Case") -> "Run":
    from percept.core.report import track
    from percept.methods.adaptation.bench import run

    return run(
        arm, seen, case, smaller=False, progress=lambda epochs: track(epochs, f"{arm.name}, {case.split}", len(epochs))
    )


def _show_found(own: "Own", *, on_stderr: bool) -> None:
    bad_files(own.bad, on_stderr=on_stderr)
    tell = notice if on_stderr else say
    tell(
        f"{count(sum(own.counts.values()), 'different image')} to train on in {count(len(own.counts), 'class', 'classes')}: "
        f"{own.per_class}; {count(own.copies, 'copy', 'copies')} left out; {own.similar:,} look nearly like a different one"
    )
    for remark in own.remarks:
        tell(remark)


def _show(runs: "list[Run]", own: "Own") -> None:
    """Print one line for each method, and what the last of two methods confuses most."""
    from percept.methods.adaptation.own import COLUMNS, confusions

    labels = list(dict.fromkeys(run.record["label"] for run in runs))
    columns = [column for column in COLUMNS if column[0] in own.splits]
    rows = []
    for label in labels:
        by_split = {run.record["split"]: run for run in runs if run.record["label"] == label}
        cells = [_cell(by_split[split], score) for split, score, _ in columns]
        last = by_split["all"].record
        rows.append((label, *cells, f"{last['trainable']:,}" if last["trainable"] else "-", f"{last['seconds']:.1f}"))
    title = f"{own.data.name}, {count(runs[0].record['shots'], 'image')} of each class: % right (95 % interval)"
    table(title, ("method", *(name for *_, name in columns), "values", "seconds"), rows)
    if len(own.splits) > 1:
        say("base, new, harmonic mean: trained on the first half of the classes; all: trained on all classes")
    if len(labels) == 2 and (worst := confusions(own.data, runs[-1].measured.answers["all"])[:5]):
        shown = [(each.truth, each.guess, f"{each.count} of {each.of}") for each in worst]
        table(f"Most confused by {labels[-1]}", ("class", "taken for", "images"), shown)


def _cell(run: "Run", score: str) -> str:
    """Return a score in percent with its interval; - where the method knows no such classes."""
    found = run.measured.scores.get(score)
    return "-" if found is None else f"{100 * found.value:.1f} ({100 * found.low:.0f}–{100 * found.high:.0f})"


def _rows(runs: "list[Run]") -> list[dict[str, Any]]:
    shared = ("shots", "seed", "steps", "seconds", "trainable", "split")
    return [
        {
            "method": run.record["label"],
            "score": name,
            "n": score.n,
            "value": score.value,
            "low": score.low,
            "high": score.high,
        }
        | {field: run.record[field] for field in shared}
        for run in runs
        for name, score in run.measured.scores.items()
    ]


def _save(folder: Path, run: "Run", init: str) -> None:
    from percept.methods.saved import save_method

    run.method.fold()
    with writing(folder):
        save_method(folder, run.method, base=init)
    say(f"wrote {folder}; open it with: percept.load({str(folder)!r})")


def _write_page(page: Path, runs: "list[Run]", own: "Own", init: str) -> None:
    from percept.methods.adaptation.own_page import write_page

    with writing(page):
        write_page(page, runs, own, init=init)
    say(f"wrote {page}")


COMMAND = adapt
