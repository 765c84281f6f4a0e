"""`percept classify`: rank labels for images and videos, zero-shot."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.options import MODEL, VIDEO, Model, Video
from percept.cli.show import bad_files, check_output, common_folder, count_files, say, split_labels, within, writing
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.infer.clips import Sampling
    from percept.infer.encoder import Encoder, FileVectors
    from percept.infer.labels import Guess

PLACES = ("best", "second", "third")


def classify(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    labels: str,
    template: tuple[str, ...] = (),
    top: int = 3,
    show: int = 40,
    json: Path | None = None,
    model: Model = MODEL,
    video: Video = VIDEO,
) -> int:
    """Rank labels for the images and videos in folders or files.

    Args:
        paths: Folders (searched with their subfolders), image and video files; only the first frame of a GIF is used.
        labels: Labels to choose from: cat,dog or @FILE with one label per line; @- reads standard input.
        template: Texts with {} in place of the label; several are averaged. Default: "a picture of a {}", "a photo of a
            {}" and "a {}".
        top: Number of labels shown per file.
        show: Number of files shown in the table; --json holds all of them.
        json: File to write the ranking of every file to.
    """
    from percept.data.files import find_media

    if top < 1 or show < 0:
        raise PerceptError(f"--top must be at least 1 and --show at least 0, got --top {top} --show {show}.")
    names, files = split_labels(labels), find_media(paths)
    check_output(json, ".json")
    # Imported here, so that a mistyped folder is reported at once.
    from percept.infer.labels import class_vectors, rank

    sampling = video.sampling()
    encoder = model.open()
    say(f"{encoder} reads {count_files(files)}")
    texts = class_vectors(encoder, names, template or None)
    read = encoder.files(files, sampling=sampling)
    kept = top if json is None else None  # thousands of labels for thousands of images would fill the memory
    ranked = [rank(names, row, encoder.scale, top=kept) for row in read.vectors @ texts.T]
    if json is not None:
        _write(json, encoder, read, ranked, sampling)
    _show(read, ranked, top=min(top, len(names)), show=show)
    if not read.paths:
        raise PerceptError("none of the files could be read, so nothing was ranked")
    return 0


def _show(read: "FileVectors", ranked: "list[list[Guess]]", *, top: int, show: int) -> None:
    from percept.data.files import is_video

    folder, videos = common_folder(read.paths), any(map(is_video, read.paths))
    rows = [
        (within(path, folder), *(str(guess) for guess in guesses[:top]))
        for path, guesses in zip(read.paths[:show], ranked[:show], strict=True)
    ]
    places = (*PLACES, *(f"{place}th" for place in range(len(PLACES) + 1, top + 1)))
    if rows:
        table(_title(len(rows), read.paths, folder), ("file" if videos else "image", *places[:top]), rows)
    bad_files(read.bad)
    tally = Counter(guesses[0].label for guesses in ranked)
    if tally:
        things = "files" if videos else "images"
        table(f"{things.capitalize()} by best label", ("label", things), tally.most_common())


def _title(shown: int, paths: list[Path], folder: Path) -> str:
    files = f"{count_files(paths)} in {folder}"
    return files if shown == len(paths) else f"The first {shown} of {files}"


def _write(
    file: Path, encoder: "Encoder", read: "FileVectors", ranked: "list[list[Guess]]", sampling: "Sampling"
) -> None:
    from percept.core.config import to_dict
    from percept.core.io import write_json
    from percept.data.files import as_text

    rankings = [
        {"path": as_text(path), "guesses": [to_dict(guess) for guess in guesses]}
        for path, guesses in zip(read.paths, ranked, strict=True)
    ]
    facts = {
        "model": to_dict(encoder.identity),
        "preprocess": to_dict(encoder.preprocess),
        "sampling": to_dict(sampling),
    }
    bad = [{"path": as_text(bad.path), "reason": as_text(bad.reason)} for bad in read.bad]
    with writing(file):
        write_json(file, {**facts, "files": rankings, "bad": bad})
    say(f"wrote {file}")


COMMAND = classify
