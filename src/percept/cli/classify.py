"""`percept classify`: rank labels for pictures and videos, zero-shot."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from percept.cli.show import bad_files, check_output, common_folder, count_files, say, split_labels, within
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.infer.clips import Sampling
    from percept.infer.encoder import Encoder, FileVectors
    from percept.infer.labels import Guess


def classify(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    labels: str,
    template: tuple[str, ...] = (),
    top: int = 3,
    show: int = 40,
    json: Path | None = None,
    model: str = "nano",
    weights: Path | None = None,
    tokenizer: Path | None = None,
    device: str = "auto",
    frames: int = 8,
    frame_choice: str = "pe-evaluation",
    resize: str | None = None,
    tokens: int | None = None,
) -> int:
    """Rank labels for the pictures and videos in folders or files.

    Args:
        paths: Folders (searched with their subfolders), picture and video files; of a GIF the first frame counts.
        labels: What the pictures may show: cat,dog or @FILE with one label per line.
        template: Texts with {} where a label goes; several are averaged. Default: three usual ones.
        top: Labels shown per picture.
        show: Pictures shown in the table; all of them go into --json.
        json: File to write every picture's ranking to.
        model: nano, an official name, or a model folder.
        weights: Local weight file for an official name.
        tokenizer: tokenizer.json for a model that comes without one.
        device: auto, cpu, cuda or mps.
        frames: Frames that stand for a video.
        frame_choice: Which: pe-evaluation, pe-demo, plm or time.
        resize: How pictures are brought to size: squash, crop, pad, keep or native. Default: as the model says.
        tokens: Most patches of a picture, for --resize native.
    """
    from percept.data.files import find_media

    if top < 1 or show < 0:
        raise PerceptError(f"--top {top} --show {show}: at least 1 label is shown per picture, and 0 or more pictures")
    names, files = split_labels(labels), find_media(paths)
    check_output(json, ".json")
    # Only now, so that a mistyped folder is answered at once.
    from percept.infer.clips import Sampling
    from percept.infer.labels import class_vectors, rank
    from percept.infer.load import load

    sampling = Sampling(frames=frames, choice=frame_choice).check()
    encoder = load(model, weights=weights, tokenizer=tokenizer, device=device, resize=resize, tokens=tokens)
    say(f"{encoder} reads {count_files(files)}")
    texts = class_vectors(encoder, names, template or None)
    found = encoder.files(files, sampling=sampling)
    kept = top if json is None else None  # thousands of labels for thousands of pictures would fill the memory
    ranked = [rank(names, row, encoder.scale, top=kept) for row in found.vectors @ texts.T]
    if json is not None:
        _write(json, encoder, found, ranked, sampling)
    _show(found, ranked, top=min(top, len(names)), show=show)
    if not found.paths:
        raise PerceptError("none of the files could be read, so nothing was ranked")
    return 0


def _show(found: "FileVectors", ranked: "list[list[Guess]]", *, top: int, show: int) -> None:
    from percept.data.files import is_video

    folder, videos = common_folder(found.paths), any(map(is_video, found.paths))
    rows = [
        (within(path, folder), *(str(guess) for guess in guesses[:top]))
        for path, guesses in zip(found.paths[:show], ranked[:show], strict=True)
    ]
    places = ("best", "second", "third", *(f"{place}th" for place in range(4, top + 1)))
    if rows:
        table(_title(len(rows), found.paths, folder), ("file" if videos else "picture", *places[:top]), rows)
    bad_files(found.bad)
    tally = Counter(guesses[0].label for guesses in ranked)
    if tally:
        things = "files" if videos else "pictures"
        table(f"{things.capitalize()} by best label", ("label", things), tally.most_common())


def _title(shown: int, paths: list[Path], folder: Path) -> str:
    files = f"{count_files(paths)} in {folder}"
    return files if shown == len(paths) else f"The first {shown} of {files}"


def _write(
    file: Path, encoder: "Encoder", found: "FileVectors", ranked: "list[list[Guess]]", sampling: "Sampling"
) -> None:
    from percept.core.config import to_dict
    from percept.core.io import write_json
    from percept.data.files import as_text

    pictures: list[dict[str, Any]] = [
        {"path": as_text(path), "guesses": [to_dict(guess) for guess in guesses]}
        for path, guesses in zip(found.paths, ranked, strict=True)
    ]
    bad = [{"path": as_text(one.path), "reason": as_text(one.reason)} for one in found.bad]
    facts = {
        "model": to_dict(encoder.identity),
        "preprocess": to_dict(encoder.preprocess),
        "sampling": to_dict(sampling),
    }
    write_json(file, {**facts, "pictures": pictures, "bad": bad})
    say(f"wrote {file}")


COMMAND = classify
