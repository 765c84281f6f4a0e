"""`percept eval folder`: measure several models on a person's own class folders, compared in pairs."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from percept.cli.options import DEFAULT_MODEL, LOAD, VIDEO, Load, Video
from percept.cli.output import check_rows_output, is_stdout, save_rows
from percept.cli.show import bad_files, count, say
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.eval.compare import Difference
    from percept.eval.folder_models import Outcome

NAME, SUMMARY = "folder", "class folders of your own, several models side by side, zero-shot and with a few shots"
FIELDS = {
    "model": str, "task": str, "n": int, "right": float, "low": float, "high": float, "than": str, "difference": float,
    "difference_low": float, "difference_high": float, "p": float,
}  # fmt: skip
"""Of a row of --out: shares from 0 to 1 with 95 % intervals; `difference` is to the first model, `than`, on the same images.
`about` in .json also holds each model's identity, preprocessing with its hash, and seconds."""


def folder(
    path: tyro.conf.Positional[Path],
    model: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    shots: str = "",
    template: tuple[str, ...] = (),
    seed: int = 0,
    out: Path | None = None,
    load: Load = LOAD,
    video: Video = VIDEO,
) -> int:
    """Measure models on a folder with one subfolder of images for each class, zero-shot and taught from a few images.

    Args:
        path: Folder with one subfolder of images or videos for each class; its name, with spaces for _, is the label.
        model: Model, as for percept classify; give it several times to compare models. Default: nano.
        shots: Training images of each class, such as 1,4,16; each number is measured with five random draws. Default: zero-shot
            only.
        template: Texts with {} in place of the label.
        seed: Seed of the draws and of the bootstrap.
        out: File for the rows, ending in .csv, .json, .jsonl or .parquet; - for json lines on standard output.
    """
    names = model or (DEFAULT_MODEL,)
    if len(set(names)) < len(names):
        raise PerceptError(f"a model was given twice: {', '.join(names)}. Give each once.")
    counts = _counts(shots)
    check_rows_output(out)
    load.check(names)
    from percept.eval.folder_models import compared, measure, open_task

    sampling = video.sampling()
    task = open_task(path)
    on_stderr = is_stdout(out)
    bad_files(task.bad, on_stderr=on_stderr)
    say(
        f"{count(len(task.paths), 'different image')} in {len(task.found.classes):,} classes; {task.left_out:,} copies left out"
    )
    outcomes, models = [], []
    for name in names:
        encoder, start = load.load(name), time.perf_counter()
        say(f"{encoder} reads them")
        outcomes.append(
            measure(encoder, task, shots=counts, templates=template or None, sampling=sampling, seed=seed, name=name)
        )
        models.append(_about(encoder, name, time.perf_counter() - start))
    differences = [{}, *(compared(outcomes[0], each, seed=seed) for each in outcomes[1:])]
    if not on_stderr:
        _show(path, outcomes, differences)
    facts = {
        "folder": str(path), "images": len(task.paths), "classes": list(task.found.classes), "seed": seed, "models": models,
    }  # fmt: skip
    save_rows(out, _rows(outcomes, differences), FIELDS, facts=facts)
    return 0


def _about(encoder: Any, name: str, seconds: float) -> dict[str, Any]:
    """Return what is recorded about a model: name, identity, preprocessing, seconds."""
    from percept.core.config import to_dict
    from percept.eval.report import preprocessing

    about = {"name": name, "preprocessing": preprocessing(encoder), "seconds": round(seconds, 1)}
    return to_dict(encoder.identity) | about


def _counts(text: str) -> list[int]:
    try:
        counts = sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError:
        counts = [0]
    if counts and counts[0] < 1:
        raise PerceptError(f"--shots must be numbers of images such as 1,4,16, got {text!r}.")
    return counts


def _show(path: Path, outcomes: "list[Outcome]", differences: "list[dict[str, Difference]]") -> None:
    rows = []
    for outcome, gains in zip(outcomes, differences, strict=True):
        for name, score in outcome.scores.items():
            gain = gains.get(name)
            shown = ("", "") if gain is None else (gain.shown, "" if gain.p is None else f"{gain.p:.3g}")
            rows.append((name, outcome.model, f"{score.n:,}", score.shown, score.interval, *shown))
    order = {name: place for place, name in enumerate(dict.fromkeys(row[0] for row in rows))}
    rows.sort(key=lambda row: order[row[0]])
    first = outcomes[0].model
    columns = ("labels", "model", "n", "right", "95 % interval, %", f"minus {first}, points", "p")
    table(f"{path}: each image with each draw of training images", columns, rows)


def _rows(outcomes: "list[Outcome]", differences: "list[dict[str, Difference]]") -> Iterator[dict[str, Any]]:
    for outcome, gains in zip(outcomes, differences, strict=True):
        for name, score in outcome.scores.items():
            row = {
                "model": outcome.model,
                "task": name,
                "n": score.n,
                "right": score.value,
                "low": score.low,
                "high": score.high,
            }
            if (gain := gains.get(name)) is not None:
                row |= {"than": outcomes[0].model, "difference": gain.difference, "difference_low": gain.low}
                row |= {"difference_high": gain.high, "p": gain.p}
            yield row


COMMAND = folder
