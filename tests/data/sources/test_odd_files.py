"""Files as people have them: stray quotation marks, names that are not text, values that cannot be decoded."""

import json
import os
from pathlib import Path

import pytest

from percept.core.errors import PerceptError
from percept.data import open_rows, open_source
from percept.data.sources import BadSample
from tests.data.sources import made


def captions(file: Path) -> list[str]:
    """The captions of all rows, or the reasons why rows are bad."""
    rows, texts = open_rows(file), []
    for number in range(len(rows)):
        try:
            texts.append(rows.read(number).captions["caption"][0])
        except BadSample as error:
            texts.append(f"<{error.reason}>")
    return texts


def test_a_quotation_mark_within_a_cell_hides_no_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('image,caption\na.png,a 5" nail\nb.png,a cup\nc.png,"two\nlines"\n')
    assert captions(tmp_path / "rows.csv") == ['a 5" nail', "a cup", "two\nlines"]


def test_a_quotation_mark_that_is_not_closed_spoils_one_row(tmp_path: Path) -> None:
    rows = 'image,caption\na.png,"a nail\nb.png,a cup\nc.png,"two\nlines"\nd.png,"a ""red"" cup"\ne.png,"open\nf.png,f'
    (tmp_path / "rows.csv").write_text(rows)
    bad = "<quote not closed>"
    assert captions(tmp_path / "rows.csv")[-3:] == ['a "red" cup', bad, "f"]
    (tmp_path / "open.csv").write_text("image,caption\n" + "".join(f'{n}.png,"{n}\n' for n in range(2001)))
    assert len(open_rows(tmp_path / "open.csv")) > 1000


def test_empty_lines_above_the_column_names(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("\n\nimage;caption\na.png;a cup, red\n")
    assert captions(tmp_path / "rows.csv") == ["a cup, red"]


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_path_that_no_file_can_have_is_a_missing_file(tmp_path: Path, name: str) -> None:
    file = made.json_lines(tmp_path / "rows.jsonl", [{"image": name, "caption": "long"}, *made.rows()[:1]])
    source = open_source(file, batch=2, max_bad=1.0)
    assert vars(source.batch(0))["text"] == ("caption 0",) * 2
    assert source.bad.counts == {"missing file": 1}


def test_names_of_files_that_are_not_utf8(tmp_path: Path) -> None:
    made.captioned_folder(tmp_path / "a")
    try:
        (tmp_path / "a" / os.fsdecode(b"\xff\xfe.png")).write_bytes(made.encoded(9))
    except OSError:
        pytest.skip("this file system has only names in UTF-8")
    (tmp_path / "a" / os.fsdecode(b"\xff\xfe.txt")).write_text("nameless")
    source = open_source(tmp_path / "a", batch=9, log=tmp_path / "bad.jsonl")
    assert "nameless" in vars(source.batch(0))["text"]


def test_values_of_arrow_files_that_cannot_be_decoded(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    bounds = pa.array([0, 2, 4], pa.int32()).buffers()[1]
    broken = pa.StringArray.from_buffers(2, bounds, pa.py_buffer(b"ok\xff\xfe"))
    images = [made.encoded(0)] * 2
    parquet.write_table(pa.table({"image": images, "caption": broken}), tmp_path / "text.parquet")
    assert captions(tmp_path / "text.parquet") == ["ok", "<not UTF-8>"]
    late = pa.array([0, 2**62], pa.timestamp("us"))
    parquet.write_table(pa.table({"image": images, "caption": ["a", "b"], "time": late}), tmp_path / "time.parquet")
    assert captions(tmp_path / "time.parquet") == ["a", "<cannot be decoded>"]


def test_a_damaged_parquet_file_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    file = made.parquet(tmp_path / "rows.parquet")
    data = bytearray(file.read_bytes())
    data[40:400] = bytes(360)
    file.write_bytes(data)
    with pytest.raises(PerceptError, match=r"rows.parquet cannot be read: .*It may be damaged"):
        open_rows(file)


def test_folders_of_json_and_of_tables_in_subfolders(tmp_path: Path) -> None:
    made.json_list(tmp_path / "lists" / "a.json") if (tmp_path / "lists").mkdir() is None else None
    (tmp_path / "lists" / "images").rename(tmp_path / "images")
    assert len(open_rows(tmp_path / "lists")) == 8
    (tmp_path / "tables" / "deep").mkdir(parents=True)
    (tmp_path / "tables" / "deep" / "a.ndjson").write_text('{"image": "a.png", "caption": "a"}\n')
    assert len(open_rows(tmp_path / "tables")) == len(open_rows(tmp_path / "tables" / "deep")) == 1


def test_ranks_are_checked() -> None:
    from percept.data.source import share

    for rank, world_size in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(PerceptError, match="rank must be from 0"):
            share(8, rank, world_size)


def test_folders_named_from_elsewhere_keep_their_names_as_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cat", "other/dog"):
        made.image_files(tmp_path / name, 1)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert getattr(open_rows(["../cat", "../other"]), "classes", None) == ("cat", "other")


def test_class_numbers_that_are_hidden_and_lists_of_features(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    features = {
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
        "tags": [{"dtype": "string", "_type": "Value"}],
    }
    columns = {"image": [made.encoded(0)] * 3, "caption": ["a", "b", "c"], "label": [1, -1, 7], "tags": [["x"]] * 3}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(pa.table(columns).replace_schema_metadata(metadata), tmp_path / "rows.parquet")
    assert captions(tmp_path / "rows.parquet") == ["a", "b", "<wrong type>"]
    source = open_source(tmp_path / "rows.parquet", batch=1, target="label", max_bad=1.0)
    assert vars(source.batch(0))["label"].tolist() == [1]
    assert [open_rows(tmp_path / "rows.parquet").read(row).label for row in range(2)] == ["dog", None]


def test_a_log_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match="cannot be written: Is a directory"):
        open_source(made.json_lines(tmp_path / "rows.jsonl"), batch=2, log=tmp_path)


def test_archives_that_were_joined_are_all_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = made.shard(tmp_path / "a.tar", {str(n): made.members(n) for n in range(3)}).read_bytes()
    second = made.shard(tmp_path / "b.tar", {str(n): made.members(n) for n in range(3, 8)}).read_bytes()
    (tmp_path / "joined.tar").write_bytes(first + second)
    rows = open_rows(tmp_path / "joined.tar")
    assert [rows.read(n).captions["txt"] for n in range(len(rows))] == [(f"caption {n}",) for n in range(8)]
    assert capsys.readouterr().err == ""
    (tmp_path / "more.tar").write_bytes(first + b"no archive".ljust(1024, b"!"))
    assert len(open_rows(tmp_path / "more.tar")) == 3
    assert f"damaged at byte {len(first)}" in " ".join(capsys.readouterr().err.split())
