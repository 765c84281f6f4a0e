"""Tag the files of an index with labels of your own: a sidecar file beside each image, or one table. No image is encoded again.

percept index PHOTOS --index photos
python examples/auto_tag.py photos @tags.txt --sidecars
python examples/auto_tag.py photos beach,mountain,city --out tags.csv --least 0.5
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro

import percept
from percept.cli.output import check_rows_output, write_rows
from percept.cli.show import split_labels
from percept.core.io import write_json
from percept.core.report import notice, table

FIELDS = {"path": str, "tags": list[str], "probabilities": list[float], "parts": object}


def main(
    index: tyro.conf.Positional[Path],
    tags: tyro.conf.Positional[str],
    out: Path | None = None,
    sidecars: bool = False,
    least: float = 0.3,
    most: int = 3,
) -> None:
    """Give each file the tags whose probability is high enough; a file that other words fit better gets none.

    Args:
        index: Folder of the index.
        tags: beach,mountain or @FILE with one tag per line.
        out: .csv, .json, .jsonl or .parquet file with a row per file.
        sidecars: Write NAME.tags.json beside each file.
        least: Least probability of a tag.
        most: Most tags of a file.
    """
    check_rows_output(out)
    with percept.Index(index) as opened:
        results = opened.classify(split_labels(tags), none_below="auto", top=most)
    rows = list(tagged(results, least, most))
    if out is not None:
        write_rows(out, rows, FIELDS)
    for row in rows if sidecars else ():
        try:
            write_json(
                Path(f"{row['path']}.tags.json"), {name: row[name] for name in ("tags", "probabilities", "parts")}
            )
        except OSError as error:
            notice(f"no sidecar of {row['path']}: {error.strerror}")
    counts = Counter(tag for row in rows for tag in row["tags"] or ["none"])
    table(f"{len(rows)} files tagged", ("tag", "files"), counts.most_common())


def tagged(results: Any, least: float, most: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each file; parts of a video have a tag each."""
    for path, guesses in zip(results.paths, results, strict=True):
        kept = [] if guesses[0].label == "none" else [each for each in guesses if each.probability >= least][:most]
        spans = results.spans.get(path, ())
        parts = [{"start": span.start, "stop": span.stop, "tag": span.guesses[0].label} for span in spans]
        probabilities = [each.probability for each in kept]
        yield {"path": path, "tags": [each.label for each in kept], "probabilities": probabilities, "parts": parts}


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except percept.PerceptError as error:
        sys.exit(f"auto_tag: {error}")
