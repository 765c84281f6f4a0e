"""Reading rows: formats, column names, bad rows, interleaved documents."""

import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from percept.core.errors import PerceptError
from percept.data.curate import tables
from percept.data.curate.readers import BadRows
from percept.data.curate.tables import Columns, identity, read_chunks, source_files
from tests.data.curate.making import picture, write_lines


def rows(source: Path, out: Path, columns: Columns | None = None) -> tuple[list[dict], BadRows]:
    bad = BadRows()
    read = read_chunks(source_files(source), columns or Columns(), out, bad)
    return [row for table in read for row in table.to_pylist()], bad


def test_all_formats_give_the_same_rows(tmp_path: Path) -> None:
    data = [
        {"id": f"r{n}", "caption": f'a "red" cup, {n}', "image": f"images/{n}.png", "artist": "x"} for n in range(3)
    ]
    folder = tmp_path / "data"
    folder.mkdir()
    write_lines(folder / "a.jsonl", data)
    pq.write_table(pa.Table.from_pylist(data), folder / "a.parquet")
    for ending, sign in (("csv", ","), ("tsv", "\t")):
        lines = [sign.join(data[0])] + [
            sign.join('"' + v.replace('"', '""') + '"' for v in row.values()) for row in data
        ]
        (folder / f"a.{ending}").write_text("\n".join(lines) + "\n")
    expected = [
        {"key": f"r{n}", "captions": [f'a "red" cup, {n}'], "image": f"../data/images/{n}.png", "artist": "x"}
        for n in range(3)
    ]
    for ending in ("jsonl", "parquet", "csv", "tsv"):
        read, bad = rows(folder / f"a.{ending}", tmp_path / "out")
        assert read == expected, ending
        assert not bad.counts
    assert len(rows(folder, tmp_path / "out")[0]) == 12


def test_bad_rows_are_counted_by_reason_and_named(tmp_path: Path) -> None:
    lines = [
        '{"caption": "a cup"}',
        "{broken",
        '{"caption": 7}',
        '{"caption": ""}',
        "[1]",
        "",
        '{"caption": ["x", "y"]}',
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(lines))
    read, bad = rows(file, tmp_path)
    assert [row["captions"] for row in read] == [["a cup"], ["x", "y"]]
    assert bad.counts == {
        "the line is not json": 1,
        "the caption is neither a text nor a list of texts": 1,
        "there is no caption": 1,
        "the line is not a json object": 1,
    }
    assert bad.examples["the line is not json"] == ["rows.jsonl:2"]
    (tmp_path / "rows.csv").write_text("caption,image\na cup,1.png\nonly one\n")
    read, bad = rows(tmp_path / "rows.csv", tmp_path)
    assert len(read) == 1
    assert bad.counts == {"the row cannot be read: wrong number of cells": 1}


def test_a_column_that_does_not_exist_is_named(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [{"words": "a cup"}])
    with pytest.raises(PerceptError, match="no caption column among its columns words"):
        rows(file, tmp_path)
    with pytest.raises(PerceptError, match="no column 'txt' for the caption"):
        rows(file, tmp_path, Columns(text="txt"))
    assert rows(file, tmp_path, Columns(text="words"))[0][0]["captions"] == ["a cup"]
    with pytest.raises(PerceptError, match="holds no rows that can be read"):
        source_files(_empty(tmp_path))


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_chunks_have_at_most_the_given_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CHUNK_ROWS", 4)
    file = write_lines(tmp_path / "rows.jsonl", [{"caption": str(n)} for n in range(10)])
    assert [len(table) for table in read_chunks([file], Columns(), tmp_path, BadRows())] == [4, 4, 2]
    monkeypatch.setattr(tables, "CHUNK_BYTES", 25)
    stored = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"caption": ["a"] * 4, "image": [b"1234567890"] * 4}), stored)
    assert [len(table) for table in read_chunks([stored], Columns(), tmp_path, BadRows())] == [3, 1]


def test_values_of_several_types_become_json(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "rows.jsonl", [{"caption": "a", "size": 3}, {"caption": "b", "size": "large"}])
    assert [json.loads(row["size"]) for row in rows(file, tmp_path)[0]] == [3, "large"]


def test_a_document_gives_a_row_per_image_with_all_sentences(tmp_path: Path) -> None:
    pages = [
        {"id": "p", "images": [None, "a.png", None, "b.png"], "texts": ["A cup. It is red.", None, "A dog!", None]},
        {"id": "q", "images": [None], "texts": ["No image here."]},
    ]
    read, _ = rows(write_lines(tmp_path / "pages.jsonl", pages), tmp_path)
    assert [row["key"] for row in read] == ["p/1", "p/3", "q/0"]
    assert [row["image"] for row in read] == ["a.png", "b.png", None]
    assert read[0]["captions"] == read[1]["captions"] == ["A cup.", "It is red.", "A dog!"]
    assert [row["adjacent"] for row in read] == ["It is red.", "A dog!", "No image here."]
    assert [row["document"] for row in read] == ["p", "p", "q"]


def test_paths_in_other_columns_start_from_the_result_too(tmp_path: Path) -> None:
    (tmp_path / "in" / "masks").mkdir(parents=True)
    (tmp_path / "in" / "masks" / "1.png").write_bytes(b"x")
    row = {"caption": "a cup", "image": "1.png", "masks": ["masks/1.png"], "depth": {"path": "masks/1.png"}}
    source = write_lines(tmp_path / "in" / "rows.jsonl", [{**row, "note": "masks/2.png", "page": "http://a.b/c.html"}])
    read, bad = rows(source, tmp_path / "out")
    assert read[0]["masks"] == ["../in/masks/1.png"]
    assert read[0]["depth"] == {"path": "../in/masks/1.png"}
    assert (read[0]["note"], read[0]["page"]) == ("masks/2.png", "http://a.b/c.html")
    assert bad.missing == 1  # in/1.png


def test_shards_arrow_files_and_folders_of_images_are_read(tmp_path: Path) -> None:
    folder, out = tmp_path / "pets" / "cat", tmp_path / "out"
    folder.mkdir(parents=True)
    picture(1).save(folder / "1.png")
    (folder / "1.txt").write_text("a red cat")
    picture(2).save(folder / "2.png")
    with tarfile.open(tmp_path / "pets.tar", "w") as tar:
        tar.add(folder / "1.png", "1.png")
        tar.add(folder / "1.txt", "1.txt")
        tar.add(folder / "2.png", "1.mask.png")
    data = pa.table({"text": ["a red cat"], "image": [{"bytes": (folder / "1.png").read_bytes(), "path": None}]})
    with pa.ipc.new_stream(str(tmp_path / "pets.arrow"), data.schema) as stream:
        stream.write_table(data)
    feather.write_feather(data, str(tmp_path / "pets.feather"))
    read, bad = rows(tmp_path / "pets", out)
    assert read == [{"key": "cat/1.png", "captions": ["a red cat"], "image": "../pets/cat/1.png", "label": "cat"}]
    assert bad.counts == {"there is no caption": 1}
    for name in ("pets.tar", "pets.arrow", "pets.feather"):
        read, bad = rows(tmp_path / name, out)
        assert [(row["captions"], row["image"]) for row in read] == [(["a red cat"], (folder / "1.png").read_bytes())]
        assert not bad.counts
    shard = rows(tmp_path / "pets.tar", out)[0][0]
    assert (shard["key"], shard["other_images"]) == ("pets.tar/1", [(folder / "2.png").read_bytes()])
    (folder / "1.txt").unlink()
    with pytest.raises(PerceptError, match="images without captions"):
        rows(tmp_path / "pets", out)
    assert rows(tmp_path / "pets", out, Columns(text="label"))[0][0]["captions"] == ["cat"]


def test_a_folder_of_images_is_known_again_by_its_texts(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    folder.mkdir()
    picture(1).save(folder / "1.png")
    (folder / "1.txt").write_text("a red cat")
    first = identity(folder)
    assert identity(folder) == first
    (folder / "1.txt").write_text("a red dog")
    assert identity(folder)["hash"] != first["hash"]


def test_a_table_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes("légende;caption\n1;a cup\n".encode("latin-1"))
    with pytest.raises(PerceptError, match="not UTF-8"):
        rows(tmp_path / "rows.csv", tmp_path)
