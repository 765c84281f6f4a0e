"""`percept ask`: ask a question about images and videos."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from percept.cli.answers import answer_files
from percept.cli.options import ANSWER, ASSISTANT, DEFAULT_ASSISTANT, Answering, Assisting
from percept.cli.show import say
from percept.core.errors import PerceptError
from percept.core.report import printable_lines


def ask(
    words: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH... QUESTION")],
    out: str | None = None,
    region: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    together: bool = False,
    show: int = 40,
    model: Assisting = ASSISTANT,
    answer: Answering = ANSWER,
) -> int:
    """Ask a question about each image and video in folders or files. About one file, the answer is printed as it is generated.

    Args:
        words: Folders (searched with their subfolders), image and video files, then the question. Without any file the
            question is asked alone.
        out: File to write answers to, ending in .csv, .json, .jsonl or .parquet; - for json lines on standard output. Files that it answers already
            are skipped, so an interrupted run can be continued.
        region: Box x0,y0,x1,y1 in pixels of the only image, drawn on it. <|bbox0|> in the question is replaced
            by the text of the first, and so on.
        together: Ask about all images together, in the order given.
        show: Number of answers shown in the table.
    """
    from percept.data.files import find_media

    paths, question = _split(words)
    files = find_media(paths) if paths else []
    boxes = [_box(text) for text in region]
    if out is None and (together or len(files) < 2):
        return _answer(files, question, boxes, model, answer)
    if boxes or together:
        raise PerceptError(
            "--region and --together print one answer. Give one image or --together, and leave out --out."
        )
    if not files:
        raise PerceptError("--out was given, but no images. Name at least one folder or file before the question.")
    return answer_files(dict.fromkeys(files, question), out, show, model, answer)


def _split(words: Sequence[str]) -> tuple[list[Path], str]:
    """Return the paths and the question, which comes last."""
    if not words:
        raise PerceptError('no question was given. Write for example: percept ask cat.jpg "what is it?"')
    *paths, question = words
    for path in paths:
        if any(letter.isspace() for letter in path) and not path.startswith("@") and not os.path.lexists(path):
            raise PerceptError(
                f"there is no file or folder {path!r}. Only the last argument is the question: ask one question per command."
            )
    if os.path.lexists(question):
        raise PerceptError(
            f"the last argument has to be the question, but {question} is a file or folder. Add the question in quotes."
        )
    if not paths and not any(letter.isspace() for letter in question) and Path(question).suffix.lower() in _endings():
        raise PerceptError(
            f"there is no file {question}, and no question follows it. Give a file, then the question in quotes."
        )
    return [Path(path) for path in paths], question


def _endings() -> frozenset[str]:
    from percept.data.files import VIDEO_SUFFIXES, image_suffixes

    return image_suffixes() | VIDEO_SUFFIXES


def _box(text: str) -> list[float]:
    try:
        box = [float(number) for number in text.split(",")]
    except ValueError:
        box = []
    if len(box) != 4:
        raise PerceptError(f"--region {text} is not a box. Give x0,y0,x1,y1 in pixels, for example 10,20,110,90.")
    return box


def _warn(files: Sequence[Path], question: str, boxes: list[list[float]]) -> None:
    """Say what the packaged model was not trained for."""
    if not files:
        say(
            f"{DEFAULT_ASSISTANT} was trained on questions about images and clips; without one its answers have no meaning."
        )
    elif boxes and "<|bbox" not in question:
        say(
            f"{DEFAULT_ASSISTANT} was not trained on images with drawn boxes. Name the region in the question instead: "
            '"What is in the region <|bbox0|>?"'
        )


def _answer(files: Sequence[Path], question: str, boxes: list[list[float]], model: Assisting, answer: Answering) -> int:
    """Print one answer piece by piece, or several samples."""
    options: Any = answer.chosen()
    images = None if not files else files[0] if len(files) == 1 else list(files)
    assistant = model.open()
    if model.model == DEFAULT_ASSISTANT:
        _warn(files, question, boxes)
    if answer.samples is not None:
        for text in assistant.ask(images, question, regions=boxes, **options):
            print(printable_lines(text))
        return 0
    for piece in assistant.ask(images, question, regions=boxes, stream=True, **options):
        print(printable_lines(piece), end="", flush=True)
    print()
    return 0


COMMAND = ask
