"""Rows of results as a file: `--out FILE|-`, shared by the verbs. The ending of the file chooses the format.

.csv has a header, and lists and objects as json text. .jsonl has one object per line. .json is one object: `about` holds the
facts of the run, `rows` the results. .parquet has typed columns, and the facts as json in the metadata of its schema under
`percept`. - writes json lines to standard output. A verb declares its fields once, as name → type, and every format uses these
names in this order. A value that is missing or not finite is null, or empty in .csv.
"""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, TypeAlias

from percept.cli.show import check_apart, check_output, say, writing
from percept.core.errors import PerceptError, missing_extra

ENDINGS = (".csv", ".json", ".jsonl", ".parquet")
STDOUT = "-"
ROWS_AT_ONCE = 1024
"""Rows of one row group of a parquet file."""

Fields: TypeAlias = Mapping[str, Any]
"""Name → str, int, float, bool, list[str], list[float] (float32 in parquet), or object for nested values."""
Row: TypeAlias = Mapping[str, Any]
Facts: TypeAlias = Mapping[str, Any]


def is_stdout(out: Path | None) -> bool:
    """True if rows go to standard output, where a verb then prints nothing else."""
    return out is not None and str(out) == STDOUT


def check_rows_output(out: Path | None) -> None:
    """Check before any work that rows can be written to `out`; None and - are always accepted.

    Raises:
        PerceptError: an ending without a format, a folder, a place that cannot be written to, or pyarrow is missing.
    """
    if out is None or is_stdout(out):
        return
    check_output(out, *ENDINGS)
    if out.suffix.lower() == ".parquet":
        _pyarrow()


def write_rows(out: Path, rows: Iterable[Row], fields: Fields, *, facts: Facts | None = None) -> int:
    """Write rows as the ending of `out` says, and return their number. A file appears when it is complete.

    Args:
        out: file, or - for json lines on standard output.
        rows: one mapping per row; they are taken one by one. A field that a row lacks is null.
        fields: names and types of the fields, in order.
        facts: about the run, such as the model; only .json and .parquet hold them.

    Raises:
        PerceptError: an ending without a format, the file cannot be written, or pyarrow is missing.
    """
    from percept.core.io import replacing

    counted = _Counted(_plain(row, fields) for row in rows)
    if is_stdout(out):
        _write_lines(sys.stdout, counted)
        return counted.number
    ending = out.suffix.lower()
    if ending not in ENDINGS:
        check_output(out, *ENDINGS)
    with writing(out), replacing(out) as temporary:
        if ending == ".parquet":
            _write_parquet(temporary, counted, fields, facts or {})
        else:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                _WRITERS[ending](file, counted, fields, facts or {})
    return counted.number


def save_rows(out: Path | None, rows: Iterable[Row], fields: Fields, *, facts: Facts | None = None) -> None:
    """Write rows where `--out` says, and print the name of the file; nothing without `--out`. Raises as `write_rows`."""
    if out is None:
        return
    write_rows(out, rows, fields, facts=facts)
    if not is_stdout(out):
        say(f"wrote {out}")


def check_own_output(out: Path | None, ending: str, *more: str) -> bool:
    """Check before any work that `out` can be written, in a format of the verb's own or as rows; return whether it is the verb's own.

    Args:
        out: file, or - for rows on standard output; None is accepted.
        ending: of the verb's own format.
        more: endings of files of the same name that are written with it.

    Raises:
        PerceptError: as `check_rows_output`.
    """
    if out is None or is_stdout(out) or out.suffix.lower() != ending:
        check_rows_output(out)
        return False
    for file in (out, *map(out.with_suffix, more)):
        check_output(file)
    return True


def split_outputs(
    out: Sequence[Path], *endings: str, most: int = 1, read: Iterable[Path] = ()
) -> tuple[tuple[Path, ...], Path | None]:
    """Check before any work that the files of `--out` can be written; return those of the verb's own formats, and that for rows.

    Args:
        out: files, of which one may be - or a file for rows.
        endings: of the verb's own formats.
        most: files of the own formats.
        read: files that must not be overwritten.

    Raises:
        PerceptError: no file, too many, one that is read, or as `check_rows_output`.
    """
    own = tuple(file for file in out if file.suffix.lower() in endings)
    rows = [file for file in out if file not in own]
    if len(own) > most or len(rows) > 1:
        raise PerceptError(
            f"--out got {len(out)} files. Give at most {most} ending in {' or '.join(endings)}, and one for the rows."
        )
    for file in own:
        check_output(file, *endings)
    check_apart(own, read)
    for file in rows:
        if not is_stdout(file):
            check_output(file, *endings, *ENDINGS)
        check_rows_output(file)
    return own, rows[0] if rows else None


class _Counted:
    """Yields rows and counts them."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self._rows, self.number = iter(rows), 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self._rows:
            self.number += 1
            yield row


def _plain(row: Row, fields: Fields) -> dict[str, Any]:
    unknown = row.keys() - fields.keys()
    assert not unknown, f"fields {sorted(unknown)} are not declared"
    return {name: _value(row.get(name)) for name in fields}


def _value(value: Any) -> Any:
    """Return a value as json has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | PurePath):
        from percept.data.files import as_text

        return as_text(value)
    if isinstance(value, Mapping):
        return {str(key): _value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_value(item) for item in value]
    if hasattr(value, "tolist"):  # an array, a tensor, or a number of one
        return _value(value.tolist())
    return value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _write_lines(file: Any, rows: Iterable[Row], *_: Any) -> None:
    for row in rows:
        file.write(_json(row) + "\n")


def _write_json(file: Any, rows: Iterable[Row], fields: Fields, facts: Facts) -> None:
    file.write(f'{{"about": {_json(_value(facts))}, "rows": [')
    for number, row in enumerate(rows):
        file.write((",\n" if number else "\n") + _json(row))
    file.write("\n]}\n")


def _write_csv(file: Any, rows: Iterable[Row], fields: Fields, facts: Facts) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(fields)
    for row in rows:
        writer.writerow([_json(cell) if isinstance(cell, list | dict) else cell for cell in row.values()])


_WRITERS: dict[str, Callable[[Any, Iterable[Row], Fields, Facts], None]] = {
    ".jsonl": _write_lines,
    ".json": _write_json,
    ".csv": _write_csv,
}


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("pyarrow", "data", "writing parquet files") from None
    return pyarrow


def _write_parquet(file: Path, rows: Iterable[Row], fields: Fields, facts: Facts) -> None:
    arrow = _pyarrow()
    types = {
        str: arrow.string(), int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_(), object: arrow.string(),
        list[str]: arrow.list_(arrow.string()), list[float]: arrow.list_(arrow.float32()),
    }  # fmt: skip
    schema = arrow.schema([(name, types[kind]) for name, kind in fields.items()])
    schema = schema.with_metadata({"percept": _json(_value(facts))})
    remaining = iter(rows)
    with arrow.parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(remaining, ROWS_AT_ONCE)):
            columns = [_column([row[name] for row in group], kind) for name, kind in fields.items()]
            writer.write_table(arrow.table(columns, schema=schema))


def _column(values: list[Any], kind: Any) -> list[Any]:
    if kind is not object:
        return values
    return [None if value is None else _json(value) for value in values]
