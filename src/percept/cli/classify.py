"""`percept classify`: rank labels for images and videos, zero-shot or taught; sort the files by label."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from percept.cli.options import MODEL, VIDEO, Model, ModelOptions, Video
from percept.cli.output import check_rows_output, is_stdout, write_rows
from percept.cli.placing import PlaceOptions
from percept.cli.show import bad_files, check_output, common_folder, count_files, say, split_labels, within, writing
from percept.core.errors import PerceptError
from percept.core.report import notice, table

if TYPE_CHECKING:
    from percept.infer.classifying import Span
    from percept.infer.encoder import Encoder, FileVectors
    from percept.infer.labeller import Labeller, NoneBelow
    from percept.infer.labels import Guess
    from percept.infer.taught import Taught

PLACES = ("best", "second", "third")
MANY, DOUBTED = 20, 0.3
"""Files from which it is checked whether labels that are texts fit, and share of files from which a doubt is printed."""
FIELDS = {
    "path": str, "start": float, "stop": float, "label": str, "probability": float, "score": float, "guesses": object,
}  # fmt: skip
"""Of a row of --out: start and stop in seconds with --every, else null; guesses are the best labels with the same numbers."""


@dataclass(frozen=True, kw_only=True)
class SortOptions(PlaceOptions):
    """Where the files go by their labels."""

    sort: Path | None = None
    """Folder in which the files are sorted into one folder per label, none included; names that are taken get a number."""


SORT = SortOptions()


def classify(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    labels: str,
    template: tuple[str, ...] = (),
    top: int = 3,
    show: int = 40,
    none_below: str | None = None,
    every: float | None = None,
    out: Path | None = None,
    sheet: Path | None = None,
    sort: Annotated[SortOptions, tyro.conf.arg(name="")] = SORT,
    model: Model = MODEL,
    video: Video = VIDEO,
) -> int:
    """Rank labels for the images and videos in folders or files.

    Args:
        paths: Folders (searched with their subfolders), image and video files; only the first frame of a GIF is used.
        labels: Labels to choose from: cat,dog or @FILE with one label per line; @- reads standard input; or a folder that percept
            teach wrote.
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
    from percept.data.files import find_media

    if top < 1 or show < 0:
        raise PerceptError(f"--top must be at least 1 and --show at least 0, got --top {top} --show {show}.")
    if every is not None and not every > 0:
        raise PerceptError(f"--every must be a number of seconds above 0, got {every:g}.")
    names, threshold = read_labels(labels), _threshold(none_below)
    files = find_media(paths)
    check_rows_output(out)
    check_output(sheet, ".png")
    placing = sort.ready(sort.sort, "--sort")
    from percept.infer.labeller import labeller

    sampling = video.sampling()
    encoder = open_for(model, names)
    say(f"{encoder} reads {count_files(files)}")
    ranker = labeller(encoder, names, template or None, threshold)
    read = encoder.files(files, sampling=sampling)
    found = Found(read=read, ranked=ranked(ranker, read, top))
    if every is not None:
        found.spans = _spans(encoder, read.paths, ranker, every, top)
    if out is not None:
        _write(out, encoder, found, list(ranker.names), sampling)
    _show(found, top=min(top, len(ranker.names)), show=show, aside=is_stdout(out))
    if isinstance(names, list) and threshold is None and len(read.paths) >= MANY:
        _doubt(encoder, ranker, read)
    if sheet is not None and read.paths:
        _draw(sheet, found)
    if not read.paths:
        raise PerceptError("none of the files could be read, so nothing was ranked")
    best = [guesses[0].label for guesses in found.ranked]
    failed = 0 if placing is None else placing.by_folder(read.paths, best, aside=is_stdout(out))
    return 2 if failed else 0


@dataclass(kw_only=True)
class Found:
    """Files with their ranked labels, and videos with spans."""

    read: "FileVectors"
    ranked: "list[list[Guess]]"
    spans: "dict[Path, list[Span]]" = field(default_factory=dict)


def read_labels(text: str) -> "list[str] | Taught":
    """Return labels that were taught if the text is the folder of such, else the labels of `split_labels`."""
    from percept.infer.taught import is_labels, open_labels

    return open_labels(text) if not text.startswith("@") and is_labels(text) else split_labels(text)


def open_for(model: ModelOptions, labels: "list[str] | Taught") -> "Encoder":
    """Open the model; that of taught labels if none is named."""
    if isinstance(labels, list) or model.model is not None:
        return model.open()
    default = ModelOptions()
    options = {name: value for name, value in labels.options.items() if getattr(model, name) == getattr(default, name)}
    return model.load(labels.model, **options)


def _draw(sheet: Path, found: Found) -> None:
    from percept.infer.sheet import write_sheet

    with writing(sheet):
        write_sheet(sheet, found.read.paths, [guesses[0] for guesses in found.ranked])
        say(f"wrote {sheet}")


def _doubt(encoder: "Encoder", ranker: "Labeller", read: "FileVectors") -> None:
    """Print a notice if other words fit many files better than the labels do."""
    from dataclasses import replace

    from percept.infer.labeller import other_texts

    shares = replace(ranker, others=other_texts(encoder, ranker)).probabilities(read.vectors).sum(dim=1)
    doubted = int((shares < 0.5).sum())
    if doubted > DOUBTED * len(read.paths):
        notice(
            f"other words fit {doubted:,} of {count_files(read.paths)} better than any of these labels do, so many labels may be wrong. "
            "percept classify --none-below auto leaves these out; percept teach learns labels from a few images of each."
        )


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


def _show(found: Found, *, top: int, show: int, aside: bool) -> None:
    from percept.data.files import is_video

    read, rankings = found.read, found.ranked
    bad_files(read.bad, aside=aside)
    if aside:
        return
    folder, videos = common_folder(read.paths), any(map(is_video, read.paths))
    shown = zip(read.paths[:show], rankings[:show], strict=True)
    rows = [(within(path, folder), *_cells(guesses, top)) for path, guesses in shown]
    places = (*PLACES, *(f"{place}th" for place in range(len(PLACES) + 1, top + 1)))
    if rows:
        table(_title(len(rows), read.paths, folder), ("file" if videos else "image", *places[:top]), rows)
    for path, spans in list(found.spans.items())[:show]:
        _show_spans(within(path, folder), spans, top, places)
    tally = Counter(guesses[0].label for guesses in rankings)
    if tally:
        things = "files" if videos else "images"
        table(f"{things.capitalize()} by best label", ("label", things), tally.most_common())


def _cells(guesses: "list[Guess]", top: int) -> list[str]:
    """Return the guesses as cells, as many as there are columns."""
    return [str(guess) for guess in guesses][:top]


def _show_spans(name: str, spans: "list[Span]", top: int, places: tuple[str, ...]) -> None:
    from percept.infer.classifying import joined

    rows = [(f"{span.start:.1f} - {span.stop:.1f}", *_cells(list(span.guesses), top)) for span in joined(spans)]
    table(f"{name}, neighbouring parts of one label joined", ("seconds", *places[:top]), rows)


def _title(shown: int, paths: list[Path], folder: Path) -> str:
    files = f"{count_files(paths)} in {folder}"
    return files if shown == len(paths) else f"The first {shown} of {files}"


def _write(out: Path, encoder: "Encoder", found: Found, labels: list[str], sampling: Any) -> None:
    from percept.core.config import to_dict

    facts = {
        "model": to_dict(encoder.identity),
        "preprocess": to_dict(encoder.preprocess),
        "sampling": to_dict(sampling),
        "labels": labels,
        "bad": [{"path": bad.path, "reason": bad.reason} for bad in found.read.bad],
    }
    write_rows(out, _rows(found), FIELDS, facts=facts)
    if not is_stdout(out):
        say(f"wrote {out}")


def _rows(found: Found) -> Iterator[dict[str, Any]]:
    for path, guesses in zip(found.read.paths, found.ranked, strict=True):
        if path in found.spans:
            for span in found.spans[path]:
                yield {"path": path, "start": span.start, "stop": span.stop, **_values(list(span.guesses))}
        else:
            yield {"path": path, **_values(guesses)}


def _values(guesses: "list[Guess]") -> dict[str, Any]:
    from percept.core.config import to_dict

    return {**to_dict(guesses[0]), "guesses": [to_dict(guess) for guess in guesses]}


COMMAND = classify
