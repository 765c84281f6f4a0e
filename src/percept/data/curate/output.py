"""Write the rows that remain as parquet or json lines, in files of equal numbers of rows."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.core.io import file_hash, replacing
from percept.core.leftovers import remove_leftovers
from percept.data.curate.readers import arrow
from percept.data.curate.store import Store
from percept.data.curate.tables import CAPTION, TEXTS

FILE_ROWS, FILE_BYTES = 100_000, 1 << 30
"""A file ends after the chunk with which it reaches this number of rows, or of bytes in memory."""


def write_rows(store: Store, steps: int, out: Path, format: str) -> list[dict[str, Any]]:
    """Write the rows that all steps left; return name, rows and hash of each file.

    Raises:
        PerceptError: a column has bytes, and the format is jsonl.
    """
    remove_leftovers(out)
    schema, several = _schema(store, steps)
    columns = [field.name for field in schema if "binary" in str(field.type)]
    if format == "jsonl" and columns:
        raise PerceptError(f"json lines cannot hold the bytes in {', '.join(columns)}. Choose --format parquet.")
    written = []
    for number, tables in enumerate(_groups(store, steps)):
        file = out / f"rows-{number:05d}.{format}"
        with replacing(file) as temporary:
            rows = FORMATS[format](temporary, (_cast(table, schema, several) for table in tables))
        written.append({"file": file.name, "rows": rows, "hash": file_hash(file)})
    return written


def _groups(store: Store, steps: int) -> Iterator[list[Any]]:
    """Yield the tables of each output file; if no row remains, one empty table, so that there is a file with the columns."""
    group: list[Any] = []
    empty = True
    for number in range(store.count()):
        table = store.chunk(number, steps).table
        if len(table) or (empty and number == store.count() - 1):
            group.append(table)
            empty = False
        if sum(map(len, group)) >= FILE_ROWS or sum(table.nbytes for table in group) >= FILE_BYTES:
            yield group
            group = []
    if group:
        yield group


def _schema(store: Store, steps: int) -> tuple[Any, bool]:
    """Return the schema that fits the tables of all chunks, and whether a row has several captions."""
    pa = arrow()
    fields: dict[str, Any] = {}
    several = False
    for number in range(store.count()):
        table = store.chunk(number, steps).table
        lengths = pa.compute.list_value_length(table[TEXTS])
        several = several or bool(pa.compute.any(pa.compute.greater(lengths, 1)).as_py())
        for field in table.schema:
            fields[field.name] = _wider(fields.get(field.name), field.type)
    return pa.schema(list(fields.items())), several


def _wider(known: Any, kind: Any) -> Any:
    """Return a type for the values of two types; json for types without a common one."""
    pa = arrow()
    if known is None or known == kind:
        return kind
    try:
        merged = [pa.schema([("value", one)]) for one in (known, kind)]
        return pa.unify_schemas(merged, promote_options="permissive").field("value").type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()


def _cast(table: Any, schema: Any, several: bool) -> Any:
    """Bring a table to the schema, and put the first caption in a column of its own."""
    pa = arrow()
    columns: dict[str, Any] = {}
    for field in schema:
        if field.name not in table.column_names:
            columns[field.name] = pa.nulls(len(table), field.type)
            continue
        column = table[field.name]
        if column.type != field.type and field.type == pa.string() and column.type != pa.null():
            column = pa.array(
                [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()], pa.string()
            )
        columns[field.name] = column.cast(field.type)
        if field.name == TEXTS:
            columns[CAPTION] = pa.compute.list_element(columns[TEXTS], 0)
            if not several:
                del columns[TEXTS]
    return pa.table(columns)


def _parquet(file: Path, tables: Iterator[Any]) -> int:
    rows, writer = 0, None
    for table in tables:
        writer = writer or arrow().parquet.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table)
        rows += len(table)
    if writer is not None:
        writer.close()
    return rows


def _json_lines(file: Path, tables: Iterator[Any]) -> int:
    rows = 0
    with file.open("w", encoding="utf-8", errors="surrogatepass") as stream:
        for table in tables:
            for row in table.to_pylist():
                present = {name: value for name, value in row.items() if value is not None}
                stream.write(json.dumps(present, ensure_ascii=False, default=str) + "\n")
                rows += 1
        stream.flush()
        os.fsync(stream.fileno())
    return rows


FORMATS: dict[str, Callable[[Path, Iterator[Any]], int]] = {"parquet": _parquet, "jsonl": _json_lines}


def kept_examples(store: Store, steps: int, count: int, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return these columns of the first rows that remain."""
    found: list[dict[str, Any]] = []
    for number in range(store.count()):
        table = store.chunk(number, steps).table
        found += (
            table.select([name for name in names if name in table.column_names])
            .slice(0, count - len(found))
            .to_pylist()
        )
        if len(found) >= count:
            break
    return found
