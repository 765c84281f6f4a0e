"""Shared by `percept ask` and `percept caption`: answers about many files, in a table or in a file that can be continued."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from percept.cli.options import AnswerOptions, AssistantOptions
from percept.cli.output import STDOUT, check_rows_output, write_rows
from percept.cli.show import bad_files, common_folder, count, count_files, say, within, writing
from percept.core.errors import PerceptError
from percept.core.report import table, track

if TYPE_CHECKING:
    from percept.data.files import BadFile

FIELDS = {"path": str, "question": str, "answer": str, "sample": int, "model": str, "options": object}
"""Columns of a file of answers. sample: number of the answer where several were asked for; options: those that differ from their defaults."""
APPENDED = (".jsonl", ".csv")
"""Formats to which answers are added as they come; the others are written when all are there, from lines in a file next to them."""
Record = dict[str, Any]


def answer_files(
    questions: Mapping[Path, str], out: str | None, show: int, model: AssistantOptions, answer: AnswerOptions
) -> int:
    """Ask about each file its question; print a table, or write to a file what it does not hold yet.

    Raises:
        PerceptError: an option is wrong, the file holds something else, or no image or video can be read.
    """
    if show < 1:
        raise PerceptError(f"the number of answers shown must be at least 1, got {show}.")
    options = answer.chosen()
    facts = {"model": model.model, "options": dict(options)}
    store = None if out in (None, STDOUT) else Store(Path(str(out)))
    left = dict(questions) if store is None else store.left(questions, facts)
    if len(left) < len(questions):
        say(f"{count(len(questions) - len(left), 'file')} answered before, {len(left):,} left")
    if not left:
        if store is not None:
            store.finish()
        return 0
    assistant = model.open()
    say(f"{assistant} reads {count_files(list(left))}")
    results = track(assistant.files(left, list(left.values()), **options), "files", total=len(left))
    records, bad = _written(results, left, facts, out, store, keep=show if out is None else 0)
    if out is None and records:
        _show(records, show, len(left) - len(bad))
    if out == STDOUT:
        for file in bad:
            say(f"left out: {file.path} {file.reason}")
    else:
        bad_files(bad)
    if len(bad) == len(questions):
        raise PerceptError("none of the files could be read, so nothing was answered")
    if store is not None:
        store.finish()
        say(f"wrote answers about {count(len(left) - len(bad), 'file')} to {out}")
    return 0


def _written(
    results: "Iterable[tuple[Path, Any]]",
    questions: Mapping[Path, str],
    facts: Mapping[str, Any],
    out: str | None,
    store: "Store | None",
    *,
    keep: int,
) -> "tuple[list[Record], list[BadFile]]":
    """Write each answer as it comes; return the first `keep` of them, and the files that could not be read."""
    from percept.data.files import BadFile

    records: list[Record] = []
    bad: list[BadFile] = []
    for path, result in results:
        if isinstance(result, BadFile):
            bad.append(result)
            continue
        new = list(_records(path, result, {"question": questions[path], **facts}))
        records += new[: max(0, keep - len(records))]
        if store is not None:
            store.add(new)
        elif out == STDOUT:
            sys.stdout.write(as_text(new, ".jsonl"))
            sys.stdout.flush()
    return records, bad


def _records(path: Path, result: "str | list[str]", facts: Mapping[str, Any]) -> Iterator[Record]:
    from percept.data.files import as_text as name_as_text

    several = isinstance(result, list)
    for number, text in enumerate(result if several else [result]):
        yield {"path": name_as_text(path), "answer": text, **({"sample": number} if several else {}), **facts}


def _show(records: Sequence[Record], show: int, answered: int) -> None:
    paths = [Path(record["path"]) for record in records]
    folder = common_folder(paths)
    rows = [(within(path, folder), record["answer"]) for path, record in zip(paths, records, strict=True)]
    more = "" if len(rows) < show else f", the first {count(len(rows), 'answer')}"
    asked = " / ".join(dict.fromkeys(record["question"] for record in records))
    table(f"{asked} ({count(answered, 'file')}{more})", ("file", "answer"), rows)


class Store:
    """A file to which answers are added.

    Raises:
        PerceptError: another ending, or a file that holds something else or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        check_rows_output(path)
        self.path = path
        self.appended = path.suffix.lower() in APPENDED
        self.lines = path if self.appended else path.with_name(f"{path.name}.part.jsonl")
        """File to which answers are added."""
        self.kind = self.lines.suffix.lower()
        self.records = self._read_all()

    def finish(self) -> None:
        """Write a file whose format does not grow, from the lines next to it."""
        if not self.appended and self.lines.exists():
            write_rows(self.path, self._read_all(), FIELDS)
            self.lines.unlink()

    def left(self, questions: Mapping[Path, str], facts: Mapping[str, Any]) -> dict[Path, str]:
        """Return the files without an answer to their question by this model with these options, with their questions."""
        from percept.data.files import as_text as name_as_text

        done = {(record["path"], _comparable(record)) for record in self.records}
        wanted = {question: _comparable({"question": question, **facts}) for question in set(questions.values())}
        return {path: text for path, text in questions.items() if (name_as_text(path), wanted[text]) not in done}

    def add(self, records: Sequence[Record]) -> None:
        """Append records, in one write."""
        with writing(self.lines):
            text = as_text(records, self.kind)
            if self.kind == ".csv" and not (self.lines.exists() and self.lines.stat().st_size):
                text = f"{','.join(FIELDS)}\n{text}"
            with self.lines.open("a", encoding="utf-8", newline="") as file:
                file.write(text)

    def _read_all(self) -> list[Record]:
        whole = self._read_whole() if not self.appended and self.path.exists() else []
        return whole + (self._read() if self.lines.exists() else [])

    def _read_whole(self) -> list[Record]:
        """Return the records of a finished .json or .parquet file."""
        try:
            if self.path.suffix.lower() == ".json":
                records = json.loads(self.path.read_text(encoding="utf-8"))["rows"]
            else:
                import pyarrow.parquet as parquet

                records = parquet.read_table(self.path).to_pylist()
                records = [{**record, "options": json.loads(record["options"])} for record in records]
            if any(FIELDS.keys() != record.keys() for record in records):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise PerceptError(f"{self.path} holds no answers of percept. Give a new name, or remove it.") from None
        return records

    def _read(self) -> list[Record]:
        """Return the records, and cut off what was not written to its end: a record, or samples without the others of their file."""
        with writing(self.lines):
            text = self.lines.read_bytes().decode("utf-8", "surrogateescape")
        try:
            records, whole = _lines(text) if self.kind == ".jsonl" else _rows(text)
            part = _unfinished(records)
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error):
            raise PerceptError(f"{self.lines} holds no answers of percept. Give a new name, or remove it.") from None
        tail = as_text(records[len(records) - part :], self.kind)
        if part and text[:whole].endswith(tail):
            records, whole = records[:-part], whole - len(tail)
        if whole < len(text):
            with writing(self.lines), self.lines.open("r+b") as file:
                file.truncate(len(text[:whole].encode("utf-8", "surrogateescape")))
        return records


def as_text(records: Sequence[Record], kind: str) -> str:
    """Return records as lines of json or csv."""
    if kind == ".jsonl":
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    file = io.StringIO()
    for record in records:
        row = {**record, "options": json.dumps(record["options"], ensure_ascii=False)}
        returns = any("\r" in str(value) for value in row.values())
        quoting = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL  # Python 3.11 cannot read a lone \r without quotes
        csv.DictWriter(file, list[str](FIELDS), restval="", lineterminator="\n", quoting=quoting).writerow(row)
    return file.getvalue()


def _lines(text: str) -> tuple[list[Record], int]:
    """Return the records of a text, and how much of it is complete."""
    whole = text.rfind("\n") + 1
    records = [json.loads(line) for line in text[:whole].split("\n") if line.strip()]
    if any(not {"path", "question", "answer", "model", "options"} <= record.keys() for record in records):
        raise ValueError
    return records, whole


def _rows(text: str) -> tuple[list[Record], int]:
    whole = _complete(text)
    reader: TextIO = io.StringIO(text[:whole], newline="")
    rows = list(csv.DictReader(reader))
    if whole and text[:whole].split("\n", 1)[0].rstrip("\r") != ",".join(FIELDS):
        raise ValueError
    return [{**row, "options": json.loads(row["options"])} for row in rows], whole


def _unfinished(records: Sequence[Record]) -> int:
    """Return how many records at the end are samples about a file that has not all of them."""
    if not records:
        return 0
    last = records[-1]
    same = takewhile(
        lambda one: (one["path"], _comparable(one)) == (last["path"], _comparable(last)), reversed(records)
    )
    return sum(1 for _ in same) % (last["options"].get("samples") or 1)


def _complete(text: str) -> int:
    """Return the length of a csv text up to its last line break outside quotes."""
    place = len(text)
    while (place := text.rfind("\n", 0, place)) >= 0:
        if text.count('"', 0, place) % 2 == 0:
            return place + 1
    return 0


def _comparable(facts: Mapping[str, Any]) -> str:
    return json.dumps([facts["question"], facts["model"], facts["options"]], sort_keys=True, ensure_ascii=False)
