"""Rows as files: the same rows and names in every format, whole or not at all."""

import csv
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from percept.cli.output import ENDINGS, check_rows_output, write_rows
from percept.core.errors import PerceptError

FIELDS = {"path": str, "score": float, "rank": int, "missing": bool, "copies": list[str], "spans": object}
ROWS = [
    {"path": Path("a b/猫.png"), "score": 0.25, "rank": 1, "missing": False, "copies": (Path("x"), "y"),
     "spans": [{"start": 0.0, "stop": 1.5}]},
    {"path": os.fsdecode(b"gr\xfcn, \"1\".png"), "score": math.nan, "rank": np.int64(2), "missing": True, "copies": ()},
]  # fmt: skip
WANTED = [
    {"path": "a b/猫.png", "score": 0.25, "rank": 1, "missing": False, "copies": ["x", "y"],
     "spans": [{"start": 0.0, "stop": 1.5}]},
    {"path": "gr�n, \"1\".png", "score": None, "rank": 2, "missing": True, "copies": [], "spans": None},
]  # fmt: skip


def read(file: Path) -> list[dict]:
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    if file.suffix == ".json":
        return json.loads(file.read_text(encoding="utf-8"))["rows"]
    if file.suffix == ".csv":
        with file.open(encoding="utf-8", newline="") as stream:
            return [
                {
                    "path": row["path"], "score": float(row["score"]) if row["score"] else None, "rank": int(row["rank"]),
                    "missing": row["missing"] == "True", "copies": json.loads(row["copies"]),
                    "spans": json.loads(row["spans"] or "null"),
                }
                for row in csv.DictReader(stream)
            ]  # fmt: skip
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(file).to_pylist()
    return [{**row, "spans": json.loads(row["spans"] or "null")} for row in rows]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_holds_the_same_rows(ending: str, tmp_path: Path) -> None:
    file = tmp_path / "new" / f"rows{ending}"
    check_rows_output(file)
    assert write_rows(file, iter(ROWS), FIELDS, facts={"model": "nano"}) == 2
    rows = read(file)
    assert [list(row) for row in rows] == [list(FIELDS)] * 2
    assert rows == WANTED
    assert list(file.parent.iterdir()) == [file]


def test_facts_are_kept_where_there_is_room(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.json", ROWS, FIELDS, facts={"model": "nano"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["about"] == {"model": "nano"}
    parquet = pytest.importorskip("pyarrow.parquet")
    write_rows(tmp_path / "a.parquet", [], FIELDS, facts={"model": "nano"})
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.num_rows == 0
    assert json.loads(table.schema.metadata[b"percept"]) == {"model": "nano"}


def test_standard_output_is_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    long = {"path": "x" * 500, "score": 1.0, "rank": 1}
    check_rows_output(Path("-"))
    assert write_rows(Path("-"), [long], FIELDS) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["path"] == "x" * 500


def test_an_interrupted_file_does_not_appear(tmp_path: Path) -> None:
    def rows():
        yield ROWS[0]
        raise KeyboardInterrupt

    for ending in ENDINGS:
        with pytest.raises(KeyboardInterrupt):
            write_rows(tmp_path / f"a{ending}", rows(), FIELDS)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match=r"ends in .txt, but the format written is .csv or .json"):
        check_rows_output(tmp_path / "a.txt")
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(PerceptError, match="is a folder"):
        check_rows_output(tmp_path / "b.csv")
    check_rows_output(None)
