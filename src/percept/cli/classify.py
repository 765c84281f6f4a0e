"""`percept classify`: rank labels for images and videos, zero-shot or taught; sort the files by label."""

import os
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from percept.cli.filtering import ANY, FilesWhere, FilterOptions
from percept.cli.options import MODEL, VIDEO, Model, ModelOptions, Video
from percept.cli.output import check_rows_output
from percept.cli.placing import PlaceOptions
from percept.cli.ranking import MANY, Doubts, Outputs, Ranked
from percept.cli.show import check_apart, check_output, count, count_files, say, split_labels
from percept.core.errors import PerceptError

if TYPE_CHECKING:
    from percept.infer.classifying import Span
    from percept.infer.encoder import Encoder, FileVectors
    from percept.infer.labeller import Labeller, NoneBelow
    from percept.infer.labels import Guess
    from percept.infer.taught import Taught


@dataclass(frozen=True, kw_only=True)
class SortOptions(PlaceOptions):
    """Where the files go by their labels."""

    sort: Path | None = None
    """Folder in which the files are sorted into one folder per label, none included; names that are taken get a number."""


SORT = SortOptions()


def classify(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    labels: str,
    index: Path | None = None,
    template: tuple[str, ...] = (),
    top: int = 3,
    show: int = 40,
    none_below: str | None = None,
    every: float | None = None,
    out: Path | None = None,
    sheet: Path | None = None,
    sort: Annotated[SortOptions, tyro.conf.arg(name="")] = SORT,
    where: FilesWhere = ANY,
    model: Model = MODEL,
    video: Video = VIDEO,
) -> int:
    """Rank labels for the images and videos in folders or files, or in an index.

    Args:
        paths: Folders (searched with their subfolders), image and video files; only the first frame of a GIF is used.
        labels: Labels to choose from: cat,dog or @FILE with one label per line; @- reads standard input; or a folder that percept
            teach wrote.
        index: Folder of an index, in place of paths: its vectors are ranked, and no file is read. Videos get labels for each span.
        template: Texts with {} in place of the label; several are averaged. Default: "a picture of a {}", "a photo of a
            {}" and "a {}".
        top: Number of labels shown and written per file.
        show: Number of files shown in the table; --out holds all of them.
        none_below: Call a file none if the probability of its best label is below this number from 0 to 1; auto for the threshold
            that percept teach fitted, and for texts to let other nouns compete with the labels.
        every: Label videos every so many seconds.
        out: File for the rows, ending in .csv, .json, .jsonl or .parquet; - for json lines on standard output.
        sheet: PNG with the images by label.
    """
    if top < 1 or show < 0:
        raise PerceptError(f"--top must be at least 1 and --show at least 0, got --top {top} --show {show}.")
    if every is not None and not every > 0:
        raise PerceptError(f"--every must be a number of seconds above 0, got {every:g}.")
    where.check_index(index, paths)
    names, threshold = read_labels(labels), _threshold(none_below)
    files = _files(paths) if index is None else []
    check_rows_output(out)
    check_output(sheet, ".png")
    check_apart([sheet], files)
    outputs = Outputs(top=top, show=show, out=out, sheet=sheet, placing=sort.ready(sort.sort, "--sort"))
    asked = Asked(labels=names, templates=template or None, none_below=threshold)
    if index is None:
        return _files_in(files, asked, every, outputs, model, video)
    if every is not None or video != VIDEO:
        raise PerceptError(
            "--every, --frames and --frame-choice have no effect on an index, whose videos are cut already. Leave them out."
        )
    return _index_in(index, where, asked, outputs, model)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The labels, and how they are used."""

    labels: "list[str] | Taught"
    templates: tuple[str, ...] | None
    none_below: "NoneBelow"

    @property
    def doubtful(self) -> bool:
        """True where labels are texts of which one is always chosen."""
        return isinstance(self.labels, list) and self.none_below is None


def _files(paths: tuple[Path, ...]) -> list[Path]:
    from percept.data.files import find_media

    return find_media(paths)


def _files_in(
    files: list[Path], asked: Asked, every: float | None, outputs: Outputs, model: ModelOptions, video: Video
) -> int:
    """Rank labels for files, which are encoded."""
    from percept.core.config import to_dict
    from percept.infer.labeller import labeller

    sampling = video.sampling()
    encoder = open_for(model, asked.labels)
    say(f"{encoder} reads {count_files(files)}")
    ranker = labeller(encoder, asked.labels, asked.templates, asked.none_below)
    read = encoder.files(files, sampling=sampling)
    spans = {} if every is None else _spans(encoder, read.paths, ranker, every, outputs.top)
    doubts = Doubts(encoder, ranker) if asked.doubtful and len(read.paths) >= MANY else None
    if doubts is not None:
        doubts.see(read.vectors)
    items = zip(read.paths, ranked(ranker, read, outputs.top), strict=True)
    facts = {
        "model": to_dict(encoder.identity), "preprocess": to_dict(encoder.preprocess), "sampling": to_dict(sampling),
        "labels": list(ranker.names), "bad": [{"path": bad.path, "reason": bad.reason} for bad in read.bad],
    }  # fmt: skip
    return outputs.take(
        (Ranked(path=path, guesses=guesses, spans=spans.get(path, ())) for path, guesses in items),
        labels=len(ranker.names), facts=facts, bad=read.bad, doubts=doubts,
    )  # fmt: skip


def _index_in(index: Path, where: FilterOptions, asked: Asked, outputs: Outputs, model: ModelOptions) -> int:
    """Rank labels for the vectors of an index."""
    from percept.cli.index import load_for
    from percept.core.config import to_dict
    from percept.search.labelling import labelled, labeller_for, nothing_passes
    from percept.search.store import Store

    condition = where.chosen()
    with Store(index) as store:
        if outputs.sheet is not None and store.known([Path(os.path.abspath(outputs.sheet))]):
            raise PerceptError(
                f"{outputs.sheet} is in the index, and would be overwritten. Give --sheet a different name."
            )
        load = cache(lambda: load_for(store.stamp, model)[0])
        if model != MODEL:
            store.check(load())
        ranker = labeller_for(store, load, asked.labels, asked.templates, asked.none_below)
        doubts = Doubts(load(), ranker) if asked.doubtful and len(store) >= MANY else None
        see = None if doubts is None else doubts.see
        files = labelled(store, ranker, top=outputs.top, where=condition, seen=see)
        first = next(files, None)
        if first is None:
            raise nothing_passes(store, condition)
        say(f"{count(len(store), 'file')} in {index}, with vectors of {store.stamp}")
        items = (
            Ranked(path=file.path, guesses=file.guesses, spans=file.spans, content=file.content)
            for file in chain([first], files)
        )
        facts = {"model": to_dict(store.stamp), "index": str(store.folder), "labels": list(ranker.names)}
        return outputs.take(items, labels=len(ranker.names), facts=facts, doubts=doubts, thumbnail=store.thumbnail)


def read_labels(text: str) -> "list[str] | Taught":
    """Return labels that were taught if the text is the folder of such, else the labels of `split_labels`.

    Raises:
        PerceptError: the text is a path, but not of a folder of labels, or as `split_labels`.
    """
    from percept.infer.taught import is_labels, open_labels

    if text.startswith("@"):
        return split_labels(text)
    if is_labels(text) or ("," not in text and os.sep in text):
        return open_labels(text)
    return split_labels(text)


def open_for(model: ModelOptions, labels: "list[str] | Taught") -> "Encoder":
    """Open the model; that of taught labels if none is named."""
    if isinstance(labels, list) or model.model is not None:
        return model.open()
    default = ModelOptions()
    options = {name: value for name, value in labels.options.items() if getattr(model, name) == getattr(default, name)}
    return model.load(labels.model, **options)


def _threshold(text: str | None) -> "NoneBelow":
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    try:
        return float(text)
    except ValueError:
        raise PerceptError(f"--none-below must be a number from 0 to 1, or auto, got {text!r}.") from None


def ranked(ranker: "Labeller", read: "FileVectors", top: int) -> "list[list[Guess]]":
    """Return the `top` best labels of every file; thousands of labels for thousands of images would fill the memory."""
    from percept.infer.classifying import ranked_in_parts

    return list(ranked_in_parts(ranker, read.vectors, top))


def _spans(
    encoder: "Encoder", paths: list[Path], ranker: "Labeller", every: float, top: int
) -> "dict[Path, list[Span]]":
    from percept.data.files import is_video
    from percept.infer.classifying import spans_of

    return {path: spans_of(encoder, path, ranker, every, top=top) for path in paths if is_video(path)}


COMMAND = classify
