"""Build class folders for training from an index, with one or more queries per class.

percept index PHOTOS --index photos
python examples/training_set.py photos train-set --query "cup=a cup" --query "cup=a mug" --query "lamp=a lamp"
OUT/CLASS/ gets copies of the best images, OUT/images.csv says where each comes from; images that other words fit better are left out."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import tyro

import percept
from percept.cli.output import write_rows
from percept.core.report import table
from percept.data.moves import folder_name
from percept.search.hits import Hit
from percept.search.store import Filter

FIELDS = {"label": str, "file": str, "source": str, "score": float, "margin": float}
IMAGES = Filter(kind="image")


def main(
    index: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    query: tyro.conf.UseAppendAction[tuple[str, ...]],
    per_class: int = 100,
    margin: float = 0.01,
) -> None:
    """Copy the best images of each class to a folder. The labels are guesses: look through them.

    Args:
        index: Folder of the index.
        out: New folder for the classes.
        query: CLASS=TEXT; may be given several times, also for one class.
        per_class: Most images of a class.
        margin: Least distance of an image's score to its score in any other class.
    """
    if out.exists():
        raise percept.PerceptError(f"{out} exists already. Give a new folder.")
    texts: dict[str, list[str]] = {}
    for label, _, text in (each.partition("=") for each in query):
        texts.setdefault(folder_name(label), []).append(text or label)
    with percept.Index(index) as opened:
        hits = {label: candidates(opened, each, 4 * per_class) for label, each in texts.items()}
    write_rows(out / "images.csv", rows := list(chosen(hits, out, per_class, margin)), FIELDS)
    counts = [(label, sum(row["label"] == label for row in rows)) for label in texts]
    table(f"Training set in {out}", ("class", "images"), counts)


def candidates(index: percept.Index, texts: list[str], top: int) -> dict[Path, Hit]:
    """Return the best images for the texts of a class that no other noun fits better, without near-duplicates."""
    ranked = index.classify(texts, templates="{}", none_below="auto", top=1, where=IMAGES)
    fitting = {path for path, guesses in zip(ranked.paths, ranked, strict=True) if guesses[0].label != "none"}
    answer = index.search(texts, top=top, where=IMAGES, group="duplicate", above=0.98)
    return {hit.path: hit for hit in answer.hits if hit.path in fitting and not hit.missing}


def chosen(hits: dict[str, dict[Path, Hit]], out: Path, most: int, margin: float) -> Iterator[dict[str, object]]:
    """Copy images that clearly belong to one class, and yield a row for each."""
    for label, found in hits.items():
        kept = 0
        for path, hit in found.items():
            rivals = (each[path].score for each in hits.values() if each is not found and path in each)
            lead = hit.score - max(rivals, default=-1.0)
            if lead < margin or kept == most:
                continue
            file = out / label / f"{(kept := kept + 1):04d}{path.suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, file)
            yield {"label": label, "file": file, "source": path, "score": hit.score, "margin": lead}


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except percept.PerceptError as error:
        sys.exit(f"training_set: {error}")
