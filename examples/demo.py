"""Label, index and search a folder of pictures; leaves demo/index.html and demo/sheet.png. Run it with: make demo."""

import time
from dataclasses import replace
from pathlib import Path

import tyro

import percept
from percept.core.report import out, table
from percept.data.sources import find_images
from percept.data.world.objects import CATEGORIES
from percept.infer.labels import class_vectors, rank
from percept.search.build import Report, build
from percept.search.index import Index
from percept.search.page import Labelled, Page, write_page
from percept.search.query import Answer, ask
from percept.search.sheet import write_sheet

PICTURES = Path(__file__).parent / "pictures"
TEXTS = (
    "a grey tree to the left of a red dog",
    "two white frogs",
    "an orange car and a red train at night",
    "a green car above a red sheep",
    "a sign with the word right",
    "a boat on the sea",
)
LIKE = ("cyan-spider-43.gif", "red-helicopter-9.jpg")
TITLE = "What nano sees"
INTRODUCTION = (
    "Picture files of many sizes and formats, drawn so that none of their compositions was in training. "
    "Searched by six texts, by two pictures, and labelled without any training for the labels."
)


def main(pictures: Path = PICTURES, folder: Path = Path("demo"), model: str = "nano") -> None:
    """Label, index and search the pictures in a folder."""
    start, encoder = time.perf_counter(), percept.load(model)
    with Index.open_or_create(folder / f"index-{encoder.identity.fingerprint[:8]}", encoder) as index:
        report = build(index, encoder, find_images(pictures))
        labelled = label(index, encoder)
        answers = [ask(index, encoder, text=text) for text in TEXTS]
        like = [one.path for one in labelled if one.path.name in LIKE] or [labelled[0].path, labelled[-1].path]
        answers += [ask(index, encoder, image=path) for path in like]
    show(report, answers, labelled)
    facts = (
        ("Model", str(encoder.identity)),
        ("Pictures", f"{len(labelled)}, {len(report.bad)} left out"),
        ("Indexed", f"{report.added} now, {report.unchanged} before, in {report.seconds:.1f} s"),
        ("Everything", f"{(seconds := time.perf_counter() - start):.1f} s"),
    )
    page = Page(title=TITLE, introduction=INTRODUCTION, facts=facts, answers=tuple(answers), labelled=tuple(labelled))
    write_page(folder / "index.html", replace(page, labels_asked=len(CATEGORIES), bad=tuple(report.bad)))
    write_sheet(folder / "sheet.png", answers, title=TITLE)
    out.print(f"\n{seconds:.1f} s. Look at [bold]{folder / 'index.html'}[/] and [bold]{folder / 'sheet.png'}[/]")


def label(index: Index, encoder: percept.Encoder) -> list[Labelled]:
    """Compare the vectors in the index with those of all category names."""
    scores = index.matrix().vectors @ class_vectors(encoder, list(CATEGORIES)).T
    guesses = [rank(list(CATEGORIES), row, encoder.scale)[:3] for row in scores]
    return [
        Labelled(path=entry.paths[0], guesses=tuple((guess.label, guess.probability) for guess in best))
        for entry, best in zip(index.entries(), guesses, strict=True)
    ]


def show(report: Report, answers: list[Answer], labelled: list[Labelled]) -> None:
    """Print what the page shows."""
    rows = [(one.path.name, ", ".join(f"{name} {share:.0%}" for name, share in one.guesses)) for one in labelled]
    table("Labels", ("picture", "most probable labels"), rows)
    for answer in answers:
        table(str(answer), ("rank", "score", "picture"), [(hit.rank, hit.score, hit.path.name) for hit in answer.hits])
    if report.bad:
        table("Left out", ("picture", "reason"), [(file.path.name, file.reason) for file in report.bad])


if __name__ == "__main__":
    tyro.cli(main)
