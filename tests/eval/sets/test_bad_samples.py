"""What cannot be read or is incomplete is reported and left out, in every layout; more than half of it stops the evaluation."""

import json
from pathlib import Path

import pytest
import torch

from percept.core.errors import PerceptError
from percept.eval.retrieval import retrieval_of_set
from percept.eval.sets import Request, open_set
from percept.eval.zeroshot import zeroshot_of_set
from tests.eval.fakes import Fake
from tests.eval.sets.layouts import class_folders, karpathy, number_of, reader, write

CLASSES = ("cup", "dog")


def images(root: Path, count: int) -> Path:
    for number in range(count):
        write(root / f"{number}.png", number % 2)
    return root


def classified(path: Path) -> dict:
    data = open_set(Request(path=str(path)))
    return dict(zeroshot_of_set(reader(data.classes), data)[0].data[0])


def retrieved(path: Path) -> dict:
    eye = torch.eye(16)
    model = Fake(lambda image: eye[number_of(image)], lambda text: eye[int(text.split()[-1])])
    return dict(retrieval_of_set(model, open_set(Request(path=str(path)))).data[0])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("sub/2.png,cup", r"sub/2\.png (t.csv, line 4): there is no file"),
        ("2.png,", r"2.png (t.csv, line 4): no class"),
        ("2.png,cup,more", r"(t.csv, line 4): wrong number of cells (3 cells in 2 columns)"),
        (",cup", r"(t.csv, line 4): no image"),
    ],
)
def test_one_bad_row_of_a_table(row, message, tmp_path, capsys):
    images(tmp_path, 4)
    write(tmp_path / "t.csv", f"path,label\n0.png,cup\n1.png,dog\n{row}\n3.png,dog\n")
    facts = classified(tmp_path / "t.csv")
    assert (facts["samples"], facts["unreadable"]) == (3, 1)
    shown = capsys.readouterr().err.replace(f"{tmp_path}/", "")
    assert "t: 1 of 4 samples left out: " in shown
    assert message.replace("\\", "") in shown


def test_a_line_is_that_of_the_file_also_after_cells_of_several_lines(tmp_path, capsys):
    images(tmp_path, 4)
    write(tmp_path / "t.csv", 'path,label,note\n0.png,cup,"one\ntwo"\n\n1.png,dog,\n9.png,dog,\n')
    classified(tmp_path / "t.csv")
    assert "9.png (t.csv, line 6)" in capsys.readouterr().err
    rows = [{"path": "0.png", "label": "cup"}, {"path": "1.png", "label": "dog"}, {"path": "9.png", "label": "dog"}]
    write(tmp_path / "t.jsonl", "\n\n".join(map(json.dumps, rows)))
    classified(tmp_path / "t.jsonl")
    assert "9.png (t.jsonl, line 5)" in capsys.readouterr().err
    write(tmp_path / "t.json", json.dumps(rows))
    classified(tmp_path / "t.json")
    assert "9.png (t.json, row 3)" in capsys.readouterr().err


def test_rows_of_parquet_are_rows(tmp_path, capsys):
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    images(tmp_path, 2)
    table = arrow.table({"path": ["0.png", "1.png", "9.png"], "label": ["cup", "dog", "dog"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    classified(tmp_path / "t.parquet")
    assert "9.png (t.parquet, row 3)" in capsys.readouterr().err


def test_first_rows_that_are_bad_do_not_hide_the_others(tmp_path, capsys):
    images(tmp_path, 24)
    rows = ["x.png,cup" for _ in range(9)] + [",dog"] + [f"{number}.png,{CLASSES[number % 2]}" for number in range(24)]
    write(tmp_path / "t.csv", "path,label\n" + "\n".join(rows))
    assert classified(tmp_path / "t.csv")["samples"] == 24
    assert "t: 2 of 26 samples left out, such as x.png (t.csv, line 2)" in capsys.readouterr().err


def test_captions_that_are_missing(tmp_path, capsys):
    images(tmp_path, 2)
    write(tmp_path / "t.csv", "path,caption\n0.png,caption 0\n1.png,\n")
    assert retrieved(tmp_path / "t.csv")["unreadable"] == 1
    assert "1 of 2 samples left out: 1.png (t.csv, line 3): no caption" in capsys.readouterr().err
    write(tmp_path / "t.csv", "path,caption\n0.png,caption 0\n1.png,\n2.png,\n")
    write(tmp_path / "2.png", 1)
    with pytest.raises(PerceptError, match=r"2 of 3 samples of .* such as 1.png \(t.csv, line 3\): no caption. Check"):
        retrieved(tmp_path / "t.csv")


def test_karpathy_entries_that_are_missing_or_incomplete(tmp_path, capsys):
    file = karpathy(tmp_path, count=8)
    value = json.loads(file.read_text())
    (tmp_path / "val2014" / "COCO_0002.png").unlink()
    del value["images"][3]["sentences"]
    value["images"][4]["sentences"] = []
    write(file, json.dumps(value))
    facts = retrieved(file)
    assert (facts["samples"], facts["unreadable"]) == (4, 3)
    assert "3 of 7 samples left out, such as val2014/COCO_0002.png: there is no file" in capsys.readouterr().err
    (tmp_path / "val2014" / "COCO_0000.png").unlink()
    with pytest.raises(PerceptError, match=r"at least 4 of 7 samples of .* cannot be used"):
        retrieved(file)


def test_images_that_are_damaged(tmp_path):
    class_folders(tmp_path / "set", ["a", "b"], each=5)
    for number in range(5):
        write(tmp_path / "set" / "a" / f"{number}.png", b"x")
    assert classified(tmp_path / "set")["unreadable"] == 5
    write(tmp_path / "set" / "b" / "0.png", b"x")
    with pytest.raises(PerceptError, match=r"at least 6 of 10 samples of .* cannot be used, such as a/0.png: .* Check"):
        classified(tmp_path / "set")


def test_files_that_are_no_sets_say_what_is_needed(tmp_path):
    cases = {
        "cut.json": ('{"images": [', r"cut.json is not valid json: Expecting value: line 1 column 13"),
        "foo.json": ('{"foo": 1}', r"foo.json, line 1: no image .*A Karpathy file has a list images"),
        "t.csv": (
            "foo,bar\n1,2",
            r"columns foo, bar.*Rename the column. Names of columns with images are image, .*video",
        ),
        "none.csv": ("path,label\n", r"none.csv has no rows"),
    }
    for name, (text, message) in cases.items():
        with pytest.raises(PerceptError, match=message) as caught:
            open_set(Request(path=str(write(tmp_path / name, text))))
        assert "image=" not in str(caught.value)
