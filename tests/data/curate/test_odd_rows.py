"""Rows as people have them: broken letters, empty objects, columns that come and go, two runs into one folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from percept.core.errors import PerceptError
from percept.core.io import locked
from percept.data.curate.pipeline import LOCK, WORK, Curation
from percept.data.curate.step import make_steps
from tests.data.curate.making import write_lines

pytest.importorskip("pyarrow")
CUP, CAR = "a red cup on a table", "a blue car in the snow"


def run(source: Path, out: Path) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the rows that remain after the step texts, and the bad ones by reason."""
    from pyarrow import parquet

    report = Curation(source=source, out=out, steps=make_steps(["texts"], {}), workers=1).run()
    rows = [row for file in sorted(out.glob("rows-*.parquet")) for row in parquet.read_table(file).to_pylist()]
    return rows, report["could not be read"]["counts"]


def captions(source: Path, out: Path) -> list[str]:
    return [row["caption"] for row in run(source, out)[0]]


def test_halves_of_surrogate_pairs_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        '{"id": "\\udc00", "caption": "a red \\ud83d cup", "n": ["\\ud83d"]}\n{"caption": "a \\ud83d\\ude00 face"}\n'
    )
    rows, _ = run(tmp_path / "rows.jsonl", tmp_path / "out")
    assert [row["caption"] for row in rows] == ["a red \ufffd cup", "a 😀 face"]
    assert (rows[0]["key"], rows[0]["n"]) == ("\ufffd", ["\ufffd"])


def test_empty_objects_become_json(tmp_path: Path) -> None:
    rows = [{"caption": CUP, "meta": {}, "tags": [{}]}, {"caption": CAR, "meta": {}, "tags": []}]
    kept, _ = run(write_lines(tmp_path / "rows.jsonl", rows), tmp_path / "out")
    assert [json.loads(row["meta"]) for row in kept] == [{}, {}]
    assert json.loads(kept[0]["tags"]) == [{}]


def test_columns_of_json_lines_may_differ_from_row_to_row(tmp_path: Path) -> None:
    rows = [{"url": "a"}, {"text": CAR}, {"caption": CUP, "image": "a.png"}]
    kept, bad = run(write_lines(tmp_path / "rows.jsonl", rows), tmp_path / "out")
    assert [(row["caption"], row["image"]) for row in kept] == [(CAR, None), (CUP, "../a.png")]
    assert bad == {"there is no caption": 1}


def test_an_unused_column_does_not_hide_the_first_caption(tmp_path: Path) -> None:
    rows = [{"caption": "not curated", "captions": [CUP, CAR]}] * 2
    kept, _ = run(write_lines(tmp_path / "rows.jsonl", rows), tmp_path / "out")
    assert kept[0] == {
        "key": "000000000", "captions": [CUP, CAR], "caption": CUP, "image": None, "source_caption": "not curated",
    }  # fmt: skip


def test_tables_are_read_as_in_training(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f'\ufeffimage;caption\na.png;"{CUP}"\nb.png;a 5" nail in wood\nc.png;"open\n')
    (tmp_path / "b.tsv").write_text(f'image\tcaption\na.png\t"{CAR}\nb.png\t{CUP}\n')
    assert captions(tmp_path / "a.csv", tmp_path / "out-a") == [CUP, 'a 5" nail in wood']
    assert captions(tmp_path / "b.tsv", tmp_path / "out-b") == [CAR, CUP]
    (tmp_path / "latin.csv").write_bytes(f"caption\n{CUP}\nune tasse cassée\n".encode("latin-1"))
    assert run(tmp_path / "latin.csv", tmp_path / "out-c")[1] == {"the row cannot be read: not UTF-8": 1}


def test_hidden_files_and_folders_of_a_source_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "in" / "old.csv").mkdir(parents=True)
    (tmp_path / "in" / "._rows.csv").write_bytes(b"\0\5\x16")
    write_lines(tmp_path / "in" / "rows.jsonl", [{"caption": CUP}])
    assert captions(tmp_path / "in", tmp_path / "out") == [CUP]


def test_values_that_cannot_be_decoded_and_damaged_files(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    times = pa.array([0, 2**62], pa.timestamp("us"))
    parquet.write_table(pa.table({"caption": [CUP, CAR], "time": times}), tmp_path / "rows.parquet")
    kept, bad = run(tmp_path / "rows.parquet", tmp_path / "out")
    assert ([row["caption"] for row in kept], bad) == ([CUP], {"the row cannot be decoded": 1})
    data = bytearray((tmp_path / "rows.parquet").read_bytes())
    data[10:120] = bytes(110)
    (tmp_path / "damaged.parquet").write_bytes(data)
    with pytest.raises(PerceptError, match=r"damaged.parquet cannot be read"):
        run(tmp_path / "damaged.parquet", tmp_path / "none")


def test_two_runs_into_one_folder(tmp_path: Path) -> None:
    source, out = write_lines(tmp_path / "rows.jsonl", [{"caption": CUP}]), tmp_path / "out"
    (out / WORK).mkdir(parents=True)  # as a run leaves it that is killed at once
    with locked(out / WORK / LOCK, ""), pytest.raises(PerceptError, match="another process is writing"):
        run(source, out)
    assert captions(source, out) == [CUP]
