"""Label, index and search a folder of images; writes demo/index.html and demo/sheet.png. Run it with: make demo."""

import sys
import time
from pathlib import Path

import torch
import tyro

import percept
from percept.cli.show import bad_files
from percept.core.io import content_hash
from percept.core.report import out, table
from percept.infer.labels import class_vectors, rank
from percept.search.hits import Answer
from percept.search.page import Labelled, Page, write_page
from percept.search.sheet import write_sheet
from percept.world.objects import CATEGORIES

PICTURES = Path(__file__).parent / "pictures"
TEXTS = (
    "a grey dinosaur to the right of a white dog", "two pink robots", "an orange car and a red train at night",
    "a white elephant above a cyan spider", "a sign with the word danger", "a boat on the sea",
)  # fmt: skip
LIKE = ("orange-bed-43.gif", "red-helicopter-9.jpg")
INTRODUCTION = "Searched with six texts and two images, and labelled without any training for the labels."
OURS = "Generated images of many sizes and formats; none of their compositions was in the training data. "


def main(pictures: Path = PICTURES, folder: Path = Path("demo"), model: str = "nano") -> None:
    """Label, index and search the images in a folder."""
    start, encoder = time.perf_counter(), percept.load(model)
    key = content_hash(repr((pictures.resolve(), encoder.identity)).encode())[:8]
    with percept.Index.open_or_create(folder / f"index-{key}", encoder) as index:  # one per folder and model
        report = index.add(pictures)
        bad_files(report.bad)
        labelled = label(index, encoder)
        answers = [index.search(text) for text in TEXTS]
        like = [image.path for image in labelled if image.path.name in LIKE] or [labelled[0].path, labelled[-1].path]
        answers += [index.search(image=path) for path in like]
    show(answers, labelled)
    facts = (
        ("Model", str(encoder.identity)),
        ("Images", f"{len(labelled)}, {len(report.bad)} could not be read"),
        ("Indexed", f"{report.added} now, {report.unchanged} before, in {report.seconds:.1f} s"),
        ("Total time", f"{(seconds := time.perf_counter() - start):.1f} s"),
    )
    title, about = f"What {encoder.identity.name} sees", f"{OURS * (pictures == PICTURES)}{INTRODUCTION}"
    write_page(folder / "index.html", Page(title=title, introduction=about, facts=facts, answers=tuple(answers),
               labelled=tuple(labelled), num_labels=len(CATEGORIES), bad=tuple(report.bad)))  # fmt: skip
    write_sheet(folder / "sheet.png", answers, title=title)
    out.print(f"\n{seconds:.1f} s. Open [bold]{folder / 'index.html'}[/] and [bold]{folder / 'sheet.png'}[/]")


def label(index: percept.Index, encoder: percept.Encoder) -> list[Labelled]:
    """Return the most probable categories of every image in the index."""
    classes, labelled = class_vectors(encoder, list(CATEGORIES)), []
    for ids, vectors in index.store.vectors():
        for piece, row in zip(index.store.pieces(ids), torch.from_numpy(vectors) @ classes.T, strict=True):
            best = rank(list(CATEGORIES), row, encoder.scale, top=3)
            guesses = tuple((guess.label, guess.probability) for guess in best)
            labelled.append(Labelled(path=piece.paths[0], guesses=guesses))
    return labelled


def show(answers: list[Answer], labelled: list[Labelled]) -> None:
    """Print the labels and answers."""
    rows = [(image.path.name, ", ".join(f"{name} {p:.0%}" for name, p in image.guesses)) for image in labelled]
    table("Labels", ("image", "most probable labels"), rows)
    for answer in answers:
        hits = [(hit.rank, hit.score, hit.path.name) for hit in answer.hits]
        table(str(answer), ("rank", "score", "image"), hits)


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except percept.PerceptError as error:
        sys.exit(f"demo: {error}")
