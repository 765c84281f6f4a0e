"""Keep the runs of a benchmark in one small json, so that a table can be computed in parts, on machines that keep no files.

    python benchmarks/adaptation/cells.py unpack benchmarks/adaptation/cells/family_small-0.json runs/family.jsonl
    python benchmarks/adaptation/cells.py pack benchmarks/adaptation/cells/family_small-0.json runs/family.jsonl

A file holds the runs of one benchmark with one foundation. pack writes it from files of --runs, and adds to what it holds; unpack writes it back as a
file of --runs, with which the benchmark goes on. --report --runs takes both kinds of files. Runs are kept without what no report reads: accuracies of
single classes, losses, memory, and intervals of single scores. A foundation that was trained anew can have other weights, and a report refuses two of one
name; pack with --name then, after which the runs count as those of a foundation of its own.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.core.io import append_json_line, read_json, replacing
from percept.core.report import out
from percept.methods.adaptation.bench import read_records

Record = dict[str, Any]
DROPPED = ("per class", "peak MB", "loss", "leaks")
"""Fields that no report reads."""
WHOLE = ("bits",)
"""Scores whose intervals a report reads."""
NAMES, WEIGHTS = ("foundation", "model", "policy"), ("vectors", "weights")
"""Fields with the name of a foundation, and with the hash of its weights; the first that a run has counts."""


def field_of(record: Record, fields: Sequence[str]) -> str:
    """Return the first of some fields that a run has."""
    return next(field for field in fields if field in record)


def slim(record: Record, name: str = "") -> Record:
    """Return a run without what no report reads, and with a different name of its foundation if one is given."""
    kept = {field: value for field, value in record.items() if field not in DROPPED}
    scores = kept.get("scores", {})
    if scores:
        kept["scores"] = {key: value[:1] if isinstance(value, list) and key not in WHOLE else value for key, value in scores.items()}  # fmt: skip
    return kept | ({field_of(record, NAMES): name} if name else {})


def packed(records: Iterable[Record]) -> str:
    """Return runs as json text, one run a line; what all runs of the same fields share is written once."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record), []).append(record)
    parts = []
    for fields, some in groups.items():
        same = {field: some[0][field] for field in fields if all(each[field] == some[0][field] for each in some)}
        own = [field for field in fields if field not in same]
        rows = ",\n".join(_short([each[field] for field in own]) for each in some)
        parts.append(
            f'{{"order": {_short(fields)}, "same": {_short(same)}, "own": {_short(own)}, "rows": [\n{rows}\n]}}'
        )
    return "[" + ",\n".join(parts) + "]\n"


def _short(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def unpacked(groups: Iterable[dict[str, Any]]) -> list[Record]:
    """Return the runs of a file, with the fields in their order."""
    found = []
    for group in groups:
        for row in group["rows"]:
            record = group["same"] | dict(zip(group["own"], row, strict=True))
            found.append({field: record[field] for field in group["order"]})
    return found


def runs_in(file: Path) -> list[Record]:
    """Return the runs of a file of either kind; none if there is no file."""
    return unpacked(read_json(file)) if file.suffix == ".json" and file.is_file() else read_records(file)


def pack(place: Path, files: Sequence[Path], name: str = "") -> int:
    """Write the runs of files to `place`, after those that it holds, each run once; return how many it holds then.

    Raises:
        PerceptError: there is no such file of runs, or the runs are of several foundations or weights.
    """
    if absent := [str(file) for file in files if not file.is_file()]:
        raise PerceptError(f"there is no file {', '.join(absent)}.")
    runs = [*runs_in(place), *(slim(record, name) for file in files for record in runs_in(file))]
    found = sorted({f"{record[field_of(record, NAMES)]} ({record[field_of(record, WEIGHTS)]})" for record in runs})
    if len(found) > 1:
        raise PerceptError(
            f"the runs are of {', '.join(found)}. A file of cells has runs of one foundation with the same weights."
        )
    once = {_short(record): record for record in runs}
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as part:
        part.write_text(packed(once.values()), encoding="utf-8")
    return len(once)


def unpack(place: Path, file: Path) -> int:
    """Write the runs of `place` to a new file of runs, and return how many there are.

    Raises:
        PerceptError: the file exists.
    """
    if file.exists():
        raise PerceptError(f"{file} exists. Give a new file.")
    file.parent.mkdir(parents=True, exist_ok=True)
    runs = runs_in(place)
    for record in runs:
        append_json_line(file, record)
    return len(runs)


def main() -> None:
    """Pack or unpack, and print the number of runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("pack", "unpack"))
    parser.add_argument("cells", type=Path, help="json in the repository")
    parser.add_argument("runs", type=Path, nargs="+", help="json-lines files of runs; one to unpack to")
    parser.add_argument("--name", default="", help="of the foundation, in place of its own; to pack")
    options = parser.parse_args()
    if options.action == "unpack" and (len(options.runs) > 1 or options.name):
        parser.error("unpack writes one file, without --name")
    count = pack(options.cells, options.runs, options.name) if options.action == "pack" else unpack(options.cells, *options.runs)  # fmt: skip
    out.print(f"{options.cells}: {count} runs", soft_wrap=True)


if __name__ == "__main__":
    main()
