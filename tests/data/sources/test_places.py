import gzip
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from percept.core.errors import PerceptError
from percept.data import mix, open_rows, open_source
from percept.data.sources.places import expanded
from percept.data.transforms import Preprocess
from tests.data.sources import made


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{0..2}.tar", ["a-0.tar", "a-1.tar", "a-2.tar"]),
        ("{x,y}-{09..10}", ["x-09", "x-10", "y-09", "y-10"]),
        ("{odd}", ["{odd}"]),
    ],
)
def test_braces(pattern: str, names: list[str]) -> None:
    assert expanded(pattern) == names


def message(where: object, **options: object) -> str:
    with pytest.raises(PerceptError) as caught:
        open_source(where, batch=2, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    made.shard(tmp_path / "a-0.tar")
    assert "there is no file or folder" in message(tmp_path / "none.tar")
    assert "nothing matches" in message(str(tmp_path / "*.jsonl"))
    assert f"there is no file or folder {tmp_path}/a-1.tar (and 1 more)" in message(str(tmp_path / "a-{0..2}.tar"))


def test_what_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_text("x")
    (tmp_path / "b.xlsx").write_text("x")
    assert "1 .pdf, 1 .xlsx, none of which is known. A source is a folder of images" in message(tmp_path)
    assert "not files of one known kind: 1 .pdf" in message(tmp_path / "a.pdf")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "empty holds no files. A source is" in message(empty)
    for address in ("https://example.org/a.tar", "hf://datasets/one", Path("s3://a/b.tar")):
        assert "is an address. Download the files first" in message(address)
    (empty / "a.tar.gz").write_bytes(b"x")
    for where in (empty, empty / "a.tar.gz"):
        assert "a.tar.gz is compressed, so single samples cannot be read. Decompress it" in message(where)


def test_several_kinds_or_splits(tmp_path: Path) -> None:
    made.shard(tmp_path / "a" / "train-0.tar")
    made.shard(tmp_path / "a" / "test-0.tar")
    assert "holds the splits test, train. Name one" in message(tmp_path / "a")
    assert len(open_rows(str(tmp_path / "a" / "train*"))) == 8
    made.table(tmp_path / "b" / "rows.csv") if (tmp_path / "b").mkdir() is None else None
    made.json_lines(tmp_path / "b" / "rows.jsonl")
    assert "holds several kinds of files: 1 .csv, 1 .jsonl" in message(tmp_path / "b").replace(
        "1 .jsonl, 1 .csv", "1 .csv, 1 .jsonl"
    )
    made.shard(tmp_path / "c" / "train" / "0.tar")
    made.shard(tmp_path / "c" / "extended" / "0.tar")
    assert "holds files in extended, train" in message(tmp_path / "c")


def test_splits_of_a_saved_data_set(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"image": ["a.png"], "caption": ["a"]})
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "saved")
    assert f"holds the splits test, train. Name one: {tmp_path}/saved/test" in message(tmp_path / "saved")
    assert len(open_rows(tmp_path / "saved" / "train")) == 1


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(gzip.compress(made.shard(tmp_path / "b.tar").read_bytes()))
    assert "is compressed with gzip" in message(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(b"")
    assert "is empty (0 bytes)" in message(tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    assert "is not a tar file" in message(tmp_path / "a.tar")
    (tmp_path / "a.json").write_text('{\n "images": []}')
    assert "one json object on several lines" in message(tmp_path / "a.json")
    (tmp_path / "a.csv").write_text("")
    assert "is empty" in message(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("one,two\n1,2\n")
    assert "has the columns one, two, but no usual name for images or videos" in message(tmp_path / "a.csv")
    assert "no 'three'" in message(tmp_path / "a.csv", image="three")
    (tmp_path / "a.csv").write_text("image,image\n1,2\n")
    assert "two columns of one name" in message(tmp_path / "a.csv")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    pytest.importorskip("pyarrow")
    assert "a.parquet cannot be read" in message(tmp_path / "a.parquet")


def test_rows_without_what_is_asked_for(tmp_path: Path) -> None:
    made.image_files(tmp_path / "images")
    assert "has no captions in its first rows: looked for caption" in message(tmp_path / "images")
    file = made.json_lines(tmp_path / "rows.jsonl")
    assert "looked for title; fields with text: caption" in message(file, captions="title")
    assert "holds no videos in its first rows" in message(file, frames=4)
    assert "Give classes=" in message(file, target="label")
    assert "unknown target 'captions'; did you mean 'caption'?" in message(file, target="captions")


def test_unusual_names_and_roots(tmp_path: Path) -> None:
    place = tmp_path / "tables"
    place.mkdir()
    made.image_files(tmp_path / "images")
    (place / "a.csv").write_text("photo,says\n" + "".join(f"images/{n}.png,caption {n}\n" for n in range(8)))
    batch = open_source(place / "a.csv", batch=8, image="photo", captions="says", root=tmp_path).batch(0)
    assert sorted(vars(batch)["text"]) == [f"caption {n}" for n in range(8)]


def test_several_sources_are_read_one_after_the_other(tmp_path: Path) -> None:
    first, second = made.json_lines(tmp_path / "a.jsonl"), made.json_lines(tmp_path / "b.jsonl")
    rows = open_rows([first, second])
    assert len(rows) == 16
    assert [rows.key(n) for n in (0, 7, 8)] == ["a.jsonl:1", "a.jsonl:8", "b.jsonl:1"]


def test_patterns_of_images_and_several_folders(tmp_path: Path) -> None:
    place = made.class_folder(tmp_path / "all")
    for where in (str(place / "*" / "*.png"), str(place / "class_{0,1}"), [place / "class_0", place / "class_1"]):
        rows = open_rows(where)
        assert sorted(rows.key(n) for n in range(8)) == sorted(f"class_{n % 2}/{n}.png" for n in range(8))
        assert rows.read(0).label == "class_0"
    assert [open_rows(place / "class_1" / "3.png").key(n) for n in range(1)] == ["3.png"]


def test_a_folder_of_splits_is_no_folder_of_classes(tmp_path: Path) -> None:
    made.class_folder(tmp_path / "all" / "train")
    made.class_folder(tmp_path / "all" / "val")
    assert "holds the splits train, val. Name one" in message(tmp_path / "all")
    assert open_rows(tmp_path / "all" / "val").read(0).label == "class_0"


@pytest.mark.parametrize("form", ["file", "stream"])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_forms_of_arrow_files(
    form: str, compression: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrow = pytest.importorskip("pyarrow")
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))
    table, options = made.arrow_table(), arrow.ipc.IpcWriteOptions(compression=compression)
    new = arrow.ipc.new_file if form == "file" else arrow.ipc.new_stream
    with new(str(tmp_path / "a.arrow"), table.schema, options=options) as out:
        out.write_table(table, max_chunksize=3)
    rows = open_rows(tmp_path / "a.arrow")
    assert [rows.read(n).captions["caption"] for n in range(8)] == [(f"caption {n}",) for n in range(8)]
    assert [rows.read(n).images for n in (7, 0)] == [(made.encoded(7),), (made.encoded(0),)]
    assert len(list((tmp_path / "cache").rglob("*.arrow"))) == (compression is not None)


def test_arguments_without_effect_are_refused(tmp_path: Path) -> None:
    place = made.class_folder(tmp_path / "a")
    assert "frames= has no effect where target is 'label'. Leave it out." in message(place, target="label", frames=2)
    assert "classes= has no effect where target is 'caption'" in message(place, classes=["a"])
    prepared = message(place, prepare=made.number_and_seed, collate=made.collate_numbers, target="row")
    assert "target= has no effect where prepare is given" in prepared


def test_tokenizers_and_functions_are_checked(tmp_path: Path) -> None:
    file = made.json_lines(tmp_path / "rows.jsonl")
    plain = inspect.unwrap(open_source)  # without the types that the tests check first
    with pytest.raises(
        PerceptError, match=r"tokenizer= takes a Tokenizer, got 'nano'. Give that of a model, percept.load"
    ):
        plain(file, batch=2, tokenizer="nano")
    assert "prepare= needs collate= too" in message(file, prepare=print)
    assert "collate= needs prepare= too" in message(file, collate=print)


@pytest.mark.parametrize("make", [made.json_lines, made.table, made.shard])
def test_rows_that_there_are_not(make: Callable[[Path], Path], tmp_path: Path) -> None:
    ending = {made.json_lines: "jsonl", made.table: "csv", made.shard: "tar"}[make]
    rows = open_rows([make(tmp_path / f"{name}.{ending}") for name in "ab"])
    for one, count in ((rows, 16), (open_rows(tmp_path / f"a.{ending}"), 8)):
        for index in (-1, count):
            with pytest.raises(PerceptError, match=rf"has no row {index}. Its {count} rows are numbered from 0"):
                one.read(index)


def test_a_missing_file_is_advised_to_give_its_root(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"image": "a.png", "caption": "a"}\n{"image": "b.png", "caption": "b"}\n')
    source = open_source(tmp_path / "rows.jsonl", batch=2)
    with pytest.raises(PerceptError, match=r"2 of 2 rows are bad.*missing file \(.*png\). .*root="):
        source.batch(0)


def test_keys_of_a_mixture_have_each_name_once(tmp_path: Path) -> None:
    source = open_source(made.json_lines(tmp_path / "rows.jsonl"), batch=2)
    assert set(mix([source], [1], batch=8).keys(0)) == {f"0:rows.jsonl:{number}" for number in range(1, 9)}


def test_sources_of_different_batches_are_not_mixed(tmp_path: Path) -> None:
    place = made.class_folder(tmp_path / "a")
    options = [{}, {"target": "label"}, {"preprocess": Preprocess(size=8)}, {"target": "label", "classes": ["x"]}]
    opened = [open_source(place, batch=1, **each) for each in options]  # type: ignore[arg-type]
    for number, one in enumerate(opened):
        mix([one, open_source(place, batch=1, **options[number])], [1, 1], batch=2).keys(0)  # type: ignore[arg-type]
        for other in opened[:number]:
            with pytest.raises(PerceptError, match="the sources make different batches"):
                mix([one, other], [1, 1], batch=2)
