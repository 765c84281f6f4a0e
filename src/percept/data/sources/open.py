"""Opening a source by its path or pattern: the kind of files is recognised."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from percept.core.errors import PerceptError, unknown_name
from percept.core.report import track
from percept.data.augment import Augment
from percept.data.files import PathLike
from percept.data.sources.arrow import ArrowRows
from percept.data.sources.captions import CaptionChoice, CaptionFields
from percept.data.sources.fields import Fields
from percept.data.sources.folder import FolderRows
from percept.data.sources.joined import JoinedRows
from percept.data.sources.jsonl import JsonRows
from percept.data.sources.places import (
    KINDS,
    UNDERSTOOD,
    check_not_compressed,
    endings,
    files_in,
    is_media,
    labelled,
    matching,
)
from percept.data.sources.prepare import (
    CaptionCollate,
    ImageCaption,
    ImageLabel,
    LabelCollate,
    VideoCaption,
    as_it_is,
    collate_samples,
)  # fmt: skip
from percept.data.sources.reader import Prepare
from percept.data.sources.sample import BadSample, Rows, Sample
from percept.data.sources.source import MAX_BAD, Collate, RowSource
from percept.data.sources.tables import TableRows
from percept.data.sources.tars import TarRows
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess

Where: TypeAlias = PathLike | Sequence[PathLike]
USED = {
    "caption": ("preprocess", "augment", "tokenizer", "frames", "captions"),
    "label": ("preprocess", "augment", "classes"),
    "row": (),
}
"""Arguments that each target takes."""
LOOK = 8
"""Rows that are read to find out what a source holds."""
USUAL_SIZE = 224
"""Side of images in pixels where no preprocessing is given."""


class UnsuitableRows(PerceptError):
    """Rows without what is asked for. `problem` is the first sentence; the remedy after it is for callers of `open_source`."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem


def open_source(
    where: Where,
    *,
    batch: int,
    seed: int = 0,
    preprocess: Preprocess | None = None,
    augment: Augment | None = None,
    tokenizer: Tokenizer | None = None,
    frames: int | None = None,
    choice: str = "pe-evaluation",
    target: str | None = None,
    captions: CaptionFields = None,
    classes: Sequence[str] | None = None,
    image: str | None = None,
    video: str | None = None,
    root: PathLike | None = None,
    prepare: Prepare | None = None,
    collate: Collate | None = None,
    workers: int = 0,
    max_bad: float | int = MAX_BAD,
    log: PathLike | None = None,
) -> RowSource:
    """Open files of any known kind as a source of batches in random order.

    Args:
        where: a file, a folder, a pattern such as `shards/{000..127}.tar` or `data/*.jsonl`, or a list of these.
        batch: samples of a global batch.
        seed: of the order and of all random choices.
        preprocess: how images become pixels; by default squashed to 224 × 224.
        augment: random crops, jitter and flips of images, or of all frames of a video alike; several views, hidden patches.
        tokenizer: turns captions into ids; batches hold texts without one.
        frames: frames that stand for a video; makes batches of videos.
        choice: which frames, a name of `percept.data.video.CHOICES`.
        target: "caption", "label" or "row"; by default rows as they are for conversations, and captions otherwise.
        captions: the field of the caption, several of which one is drawn at random, or several with weights.
        classes: names of the classes, for target "label", where the files do not say.
        image: the field of images, if it has an unusual name.
        video: the field of videos, if it has an unusual name.
        root: folder from which paths in tables start; the table's own by default.
        prepare: makes an item from a sample and a seed, instead of the above; needs `collate`.
        collate: makes a batch from items.
        workers: processes that read samples; 0 for the calling process alone. The batches are the same.
        max_bad: share (float) or number (int) of bad rows above which a process stops with a summary.
        log: json lines file that gets the key and the reason of every bad row.

    Raises:
        PerceptError: nothing there, files of unknown or different kinds, or rows without what is asked for.
    """
    _check_functions(tokenizer, prepare, collate)
    rows = open_rows(where, image=image, video=video, root=root)
    given = {
        "preprocess": preprocess, "augment": augment, "tokenizer": tokenizer, "frames": frames, "captions": captions,
        "classes": classes,
    }  # fmt: skip
    if prepare is None:
        prepare, collate = _usual(rows, target, choice, given)
    else:
        _check_used(given | {"target": target}, (), "prepare is given")
    return RowSource(rows, prepare, collate, batch=batch, seed=seed, workers=workers, max_bad=max_bad, log=log)


def _check_functions(tokenizer: Any, prepare: Any, collate: Any) -> None:
    """Check that the tokenizer is one, and that `prepare` and `collate` come together.

    Raises:
        PerceptError: they are not.
    """
    if tokenizer is not None and not isinstance(tokenizer, Tokenizer):
        raise PerceptError(
            f"tokenizer= takes a Tokenizer, got {tokenizer!r}. Give that of a model, percept.load('nano').tokenizer, or "
            "Tokenizer.load('tokenizer.json')."
        )
    if (prepare is None) != (collate is None):
        missing, given = ("collate", "prepare") if collate is None else ("prepare", "collate")
        raise PerceptError(
            f"{given}= needs {missing}= too. prepare(sample, seed) makes an item, collate(items) a batch."
        )


def open_rows(
    where: Where, *, image: str | None = None, video: str | None = None, root: PathLike | None = None
) -> Rows:
    """Open files of any known kind for random access to their rows; arguments as for `open_source`.

    Raises:
        PerceptError: nothing there, or files of unknown or different kinds.
    """
    named = [where] if isinstance(where, str | os.PathLike) else list(where)
    paths = [path for each in named for path in matching(each)]
    name = ", ".join(str(each) for each in named[:3])
    inside = {path: files_in(path) for path in paths}
    if all(not inside[path] if path.is_dir() else is_media(path) for path in paths):
        return FolderRows.open(paths, name)
    files = [file for path in paths for file in (inside[path] or [path])]
    opener = _opener(files, Fields(image=image, video=video), root)
    parts = [opener(file, label) for file, label in track(labelled(files), "opening", total=len(files))]
    return JoinedRows.of(parts, name)


def _opener(files: Sequence[Path], fields: Fields, root: PathLike | None) -> Callable[[Path, str], Rows]:
    """Return the function that opens files of this kind.

    Raises:
        PerceptError: they are of unknown or different kinds.
    """
    check_not_compressed(files)
    kinds = {KINDS.get(file.suffix.lower()) for file in files}
    if len(kinds) > 1 or None in kinds:
        raise PerceptError(f"these are not files of one known kind: {endings(files)}. A source is {UNDERSTOOD}.")
    if kinds == {"tar"}:
        return lambda file, name: TarRows.open(file, name)
    reader = {"json": JsonRows, "table": TableRows, "arrow": ArrowRows}[str(kinds.pop())]

    def opened(file: Path, name: str) -> Rows:
        start = Path(root) if root is not None else file.parent
        return reader.open(file, name, Fields(image=fields.image, video=fields.video, root=start.absolute()))

    return opened


def _check_used(given: Mapping[str, Any], used: Sequence[str], case: str) -> None:
    """Check that no argument is given that has no effect.

    Raises:
        PerceptError: there is one.
    """
    if unused := [name for name, value in given.items() if _is_given(value) and name not in used]:
        raise PerceptError(f"{unused[0]}= has no effect where {case}. Leave it out.")


def _first_samples(rows: Rows) -> list[Sample]:
    samples = []
    for index in range(min(len(rows), LOOK)):
        try:
            samples.append(rows.read(index))
        except BadSample:
            continue
    return samples


def _check_captions(name: str, samples: Sequence[Sample], choice: CaptionChoice, frames: int | None) -> None:
    """Check that at least one of the first rows has what is asked for.

    Raises:
        PerceptError: none has.
    """
    if not samples:
        return
    if frames is None and all(each.video is not None and not each.images for each in samples):
        raise UnsuitableRows(
            f"{name} holds videos.", "Give frames=, the number of frames that stand for each; 8 is usual."
        )
    if frames is not None and all(each.video is None for each in samples):
        raise UnsuitableRows(
            f"{name} holds no videos in its first rows.", "Leave out frames=, or name the field with video=."
        )
    errors = []
    for sample in samples:
        try:
            choice.of(sample, 0)
        except BadSample as error:
            errors.append(error)
    if len(errors) == len(samples) and all(error.reason in ("no caption", "wrong type") for error in errors):
        raise UnsuitableRows(
            f"{name} has no captions in its first rows: {errors[0].detail}.",
            "Name the field with captions=, or use target='label' or target='row'.",
        )


def _usual(rows: Rows, target: str | None, choice: str, given: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what makes items and batches for a target.

    Raises:
        PerceptError: an unknown target, an argument that it does not take, or rows without what is asked for.
    """
    looked = _first_samples(rows)
    if target is None:
        plain = any("conversations" in each.record for each in looked) and not any(map(_is_given, given.values()))
        target = "row" if plain else "caption"
    if target not in USED:
        raise unknown_name("target", target, USED)
    _check_used(given, USED[target], f"target is {target!r}")
    if target == "row":
        return as_it_is, collate_samples
    preprocess, augment = given["preprocess"] or Preprocess(size=USUAL_SIZE), given["augment"]
    _check_augment(augment, preprocess, one_view=target == "label" or given["frames"] is not None)
    if target == "label":
        return _for_labels(rows, preprocess, augment, given["classes"])
    frames, tokenizer, captions = given["frames"], given["tokenizer"], CaptionChoice(given["captions"])
    _check_captions(rows.name, looked, captions, frames)
    collate = CaptionCollate(
        preprocess=preprocess,
        tokenizer=tokenizer,
        video=frames is not None,
        views=1 if augment is None else augment.views,
        mask=None if augment is None else augment.mask,
    )
    shared: dict[str, Any] = {
        "preprocess": preprocess, "augment": augment, "captions": captions, "tokenizer": tokenizer,
    }  # fmt: skip
    if frames is None:
        return ImageCaption(**shared), collate
    return VideoCaption(**shared, frames=frames, choice=choice), collate


def _check_augment(augment: Augment | None, preprocess: Preprocess, *, one_view: bool) -> None:
    """Check that an augmentation suits the preprocessing and what batches are made of.

    Raises:
        PerceptError: it does not.
    """
    if augment is None:
        return
    augment.check(preprocess)
    if one_view and (augment.views > 1 or augment.mask is not None):
        raise PerceptError(
            "several views and masks are made of images with captions only. Use Augment(views=1, mask=None) for videos and labels."
        )


def _for_labels(
    rows: Rows, preprocess: Preprocess, augment: Augment | None, classes: Sequence[str] | None
) -> tuple[Any, Any]:
    names = tuple(classes or getattr(rows, "classes", ()))
    if not names:
        raise PerceptError(
            f"{rows.name} does not say which classes there are. Give classes=, the names of all of them."
        )
    items = ImageLabel(preprocess=preprocess, classes=names, augment=augment)
    return items, LabelCollate(preprocess=preprocess, classes=names)


def _is_given(value: Any) -> bool:
    return value is not None
