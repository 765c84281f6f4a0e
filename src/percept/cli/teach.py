"""`percept teach`: learn labels from folders of classes, for `percept classify --labels`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from percept.cli.options import DEFAULT_MODEL, MODEL, VIDEO, Model, ModelOptions, Video
from percept.cli.show import bad_files, count, say, within, writing
from percept.core.errors import PerceptError
from percept.core.report import notice, table

if TYPE_CHECKING:
    from percept.eval.teach import Leakage, Lesson

REMEMBERED = ("weights", "tokenizer", "image_size", "resize", "tokens")
"""Options that decide the vectors."""


def teach(
    folder: tyro.conf.Positional[Path],
    out: Path,
    template: tuple[str, ...] = (),
    above: float = 0.95,
    seed: int = 0,
    model: Model = MODEL,
    video: Video = VIDEO,
) -> int:
    """Learn labels from class folders, and measure them on images that were held out.

    Args:
        folder: Folder with one subfolder of images or videos for each class; its name, with spaces for _, is the label.
        out: Folder for the labels; percept classify --labels takes it.
        template: Texts with {} in place of the label, for the zero-shot classifier that the training begins from.
        above: Cosine from which two images count as nearly the same, and are held out together.
        seed: Seed of the division into parts.
    """
    from percept.infer.taught import is_labels, save_labels

    if out.exists() and not is_labels(out) and (not out.is_dir() or any(out.iterdir())):
        raise PerceptError(f"{out} exists and holds something else. Give --out a new folder.")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    from percept.eval.teach import teach as learn

    sampling = video.sampling()
    encoder = model.open()
    say(f"{encoder} learns from {folder}")
    lesson = learn(
        encoder, folder, templates=template or None, above=above, sampling=sampling, seed=seed, model=_lasting(model), options=_options(model)
    )  # fmt: skip
    with writing(out):
        save_labels(out, lesson.taught)
    _show(lesson, folder)
    say(f"wrote {out}; use it with: percept classify PATHS --labels {out}")
    return 0


def _lasting(model: ModelOptions) -> str:
    from percept.weights.locate import lasting

    return lasting(model.model or DEFAULT_MODEL)


def _options(model: ModelOptions) -> dict[str, Any]:
    """Return the options that decide the vectors, as plain data with absolute paths."""
    values = {name: getattr(model, name) for name in REMEMBERED}
    return {
        name: str(value.absolute()) if isinstance(value, Path) else value
        for name, value in values.items()
        if value is not None
    }


def _show(lesson: "Lesson", folder: Path) -> None:
    images, taught = lesson.images, lesson.taught
    _show_leakage(images.leakage, folder)
    bad_files(images.bad)
    if lesson.few:
        few = ", ".join(f"{name} ({number})" for name, number in lesson.few)
        notice(f"few images, so less certain: {few}")
    gains = {each.task: each for each in lesson.differences}
    rows = [
        (score.name, score.shown, score.interval, "" if score.name not in gains else gains[score.name].shown)
        for score in lesson.scores
    ]
    how = f"in {lesson.parts} parts" if lesson.parts > 1 else "once"
    title = (
        f"{count(len(taught.classes), 'label')} from {count(len(images), 'image')}; {lesson.held_out:,} held out {how}"
    )
    table(title, ("labels", "right", "95 % interval, %", "taught is better by, points"), rows)
    if lesson.confusions:
        table(
            "Most confused",
            ("label", "taken for", "images"),
            [(each.truth, each.guess, f"{each.count} of {each.of}") for each in lesson.confusions[:5]],
        )
    _show_none(lesson)


def _show_none(lesson: "Lesson") -> None:
    if lesson.none is None:
        say(
            f"percept classify --none-below auto calls an image none if its best label is below {lesson.taught.least:.0%}, as 5 % of the "
            "held-out images were"
        )
        return
    found, kept = lesson.none.found, lesson.none.kept
    rows = [
        ("of labels that were left out", "called none", found.shown, found.interval),
        ("held out", "keep a label", kept.shown, kept.interval),
    ]
    table("With percept classify --none-below auto", ("images", "", "share", "95 % interval, %"), rows)


def _show_leakage(leakage: "Leakage", folder: Path) -> None:
    def name(path: Path) -> str:
        return within(path, folder)

    if leakage.conflicts:
        rows = [(name(paths[0]), ", ".join(map(name, paths[1:]))) for paths in leakage.conflicts[:20]]
        files = sum(map(len, leakage.conflicts))
        table(f"{count(files, 'file')} left out: the same content has different labels", ("file", "also"), rows)
    if leakage.copies:
        rows = [(name(first), name(copy)) for first, copy in leakage.copies[:20]]
        table(f"{len(leakage.copies):,} copies count once", ("file", "copy"), rows)
    if leakage.near:
        rows = [(name(first), name(second), cosine) for first, second, cosine in leakage.near]
        table("Nearly the same, with different labels; held out together", ("file", "and", "cosine"), rows)
    if leakage.grouped:
        say(f"{count(leakage.grouped, 'image')} held out together with one that is nearly the same")


COMMAND = teach
