import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from percept.core.errors import PerceptError
from percept.data import open_rows, open_source
from percept.data.batch import ImageText, Labelled
from percept.data.sources import BadSample
from percept.data.sources.batches import ImageCaptions, Samples, VideoCaptions, VideoText
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from tests.data.sources import made

SMALL = Preprocess(size=8)


def hugging_face(folder: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    data = {
        "image": [{"bytes": made.encoded(n), "path": None} for n in range(8)],
        "caption": [f"caption {n}" for n in range(8)],
    }
    datasets.Dataset.from_dict(data, features=features).save_to_disk(folder / "saved", num_shards=2)
    return folder / "saved"


def shards(folder: Path) -> str:
    for number in range(3):
        samples = {f"{n:04d}": made.members(n) for n in range(8) if n % 3 == number}
        made.shard(folder / f"part-{number:03d}.tar", samples)
    return str(folder / "part-{000..002}.tar")


def chunks(folder: Path) -> str:
    made.json_lines(folder / "chunk.2.jsonl", made.rows()[5:])
    made.json_lines(folder / "chunk.10.jsonl", made.rows()[:5])
    return str(folder / "*.jsonl")


KINDS: dict[str, Callable[[Path], Any]] = {
    "folder with .txt": lambda place: made.captioned_folder(place / "a"),
    "folder with .json": lambda place: made.json_folder(place / "a"),
    "csv": lambda place: made.table(place / "rows.csv"),
    "csv with semicolons": lambda place: made.table(place / "rows.csv", ";", ("FilePath", "Title")),
    "tsv": lambda place: made.table(place / "rows.tsv", "\t"),
    "metadata": lambda place: made.table(place / "metadata.csv").parent,
    "json lines": lambda place: made.json_lines(place / "rows.jsonl"),
    "json list": lambda place: made.json_list(place / "rows.json"),
    "several json lines": chunks,
    "parquet": lambda place: made.parquet(place / "rows.parquet"),
    "arrow": lambda place: made.arrow_file(place / "rows.arrow"),
    "hugging face": hugging_face,
    "shard": lambda place: made.shard(place / "one.tar"),
    "folder of shards": lambda place: made.shard(place / "shards" / "one.tar").parent,
    "several shards": shards,
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_each_image_with_its_caption_once(kind: str, tmp_path: Path) -> None:
    if kind in ("parquet", "arrow"):
        pytest.importorskip("pyarrow")
    source = open_source(
        KINDS[kind](tmp_path / "data" if (tmp_path / "data").mkdir() is None else tmp_path), batch=4, seed=1
    )
    assert len(source) == 8
    found = []
    for step in range(2):
        batch = source.batch(step)
        assert isinstance(batch, ImageCaptions)
        assert batch.image.shape == (4, 3, 224, 224)
        assert batch.text == tuple(f"caption {made.number_of(image)}" for image in batch.image)
        found += batch.text
    assert sorted(found) == [f"caption {n}" for n in range(8)]
    keys = source.keys(0) + source.keys(1)
    assert len(set(keys)) == 8
    assert sorted(source.reader.parts[0].rows.key(index) for index in range(8)) == sorted(keys)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_every_kind_can_be_copied_to_workers(kind: str, tmp_path: Path) -> None:
    if kind in ("parquet", "arrow"):
        pytest.importorskip("pyarrow")
    rows = open_rows(KINDS[kind](tmp_path))
    rows.read(3)
    copy = pickle.loads(pickle.dumps(rows))
    assert [copy.read(index) for index in range(8)] == [rows.read(index) for index in range(8)]


def test_workers_read_files(tmp_path: Path) -> None:
    where = shards(tmp_path)
    plain = [open_source(where, batch=5, preprocess=SMALL).batch(step) for step in range(2)]
    with open_source(where, batch=5, preprocess=SMALL, workers=2) as source:
        for step, expected in enumerate(plain):
            batch = source.batch(step)
            assert isinstance(batch, ImageCaptions)
            assert isinstance(expected, ImageCaptions)
            assert batch.text == expected.text
            assert batch.image.equal(expected.image)


def test_tokens_instead_of_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"caption {n}" for n in range(8)]
    for context in (12, 4):
        tokenizer = Tokenizer.train(texts, vocab_size=270, context=context)
        source = open_source(made.captioned_folder(tmp_path / "a"), batch=8, preprocess=SMALL, tokenizer=tokenizer)
        batch = source.batch(0)
        assert isinstance(batch, ImageText)
        shown = [f"caption {made.number_of(image)}" for image in batch.image]
        assert batch.tokens.equal(tokenizer(shown))
    source.batch(1)
    assert capsys.readouterr().err.count("captions longer than 4 tokens are cut: 8 of 8") == 1


def test_class_folders(tmp_path: Path) -> None:
    place = made.class_folder(tmp_path / "a")
    batch = open_source(place, batch=8, preprocess=SMALL, target="label").batch(0)
    assert isinstance(batch, Labelled)
    assert batch.label.tolist() == [made.number_of(image) % 2 for image in batch.image]
    named = open_source(place, batch=8, preprocess=SMALL).batch(0)
    assert isinstance(named, ImageCaptions)
    assert named.text == tuple(f"class {made.number_of(image) % 2}" for image in named.image)


def test_class_numbers_of_hugging_face_columns(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    data = {"image": [{"bytes": made.encoded(n), "path": None} for n in range(8)], "label": [n % 2 for n in range(8)]}
    dataset = datasets.Dataset.from_dict(data, features=features)
    dataset.save_to_disk(tmp_path / "saved")
    dataset.to_parquet(tmp_path / "rows.parquet")
    for where in (tmp_path / "saved", tmp_path / "rows.parquet"):
        batch = open_source(where, batch=8, preprocess=SMALL, target="label").batch(0)
        assert isinstance(batch, Labelled)
        assert batch.label.tolist() == [made.number_of(image) % 2 for image in batch.image]
        assert open_rows(where).read(1).label == "dog"
        assert open_rows(where).read(1).captions["label"] == ("dog",)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_members_of_a_shard_may_have_long_names_and_several_captions(tmp_path: Path, form: int) -> None:
    parts = {
        "WEBP": made.encoded(5, "WEBP"),
        "short.txt": "kurz ü".encode(),
        "long.txt": b"a long one",
        "json": json.dumps({"caption": "from json", "width": 12}).encode(),
        "cls": b"7\n",
        "npy": b"not read",
    }
    key = "/".join(["folder"] * (4 if form == tarfile.USTAR_FORMAT else 30)) + "/image-1"
    rows = open_rows(made.shard(tmp_path / "one.tar", {key: parts, "folder.v2/b": made.members(3)}, form))
    assert [rows.key(index) for index in range(2)] == [f"one.tar/{key}", "one.tar/folder.v2/b"]
    sample = rows.read(0)
    assert sample.captions == {"short": ("kurz ü",), "long": ("a long one",), "caption": ("from json",)}
    assert sample.label == "7"
    assert sample.images == (parts["WEBP"],)
    assert sample.record["width"] == 12
    source = open_source(tmp_path / "one.tar", batch=1, preprocess=SMALL, captions={"short": 1, "txt": 1})
    texts = {text for step in range(4) for text in vars(source.batch(step))["text"]}
    assert texts == {"kurz ü", "caption 3"}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # theirs
def test_a_shard_agrees_with_the_webdataset_library(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "one.tar")) as writer:
        for number in range(8):
            writer.write(
                {
                    "__key__": f"a.b/{number}",
                    "png": made.encoded(number),
                    "txt": f"caption {number}",
                    "json": {"n": number},
                }
            )
    theirs = list(webdataset.WebDataset(str(tmp_path / "one.tar"), shardshuffle=False, empty_check=False))
    rows = open_rows(tmp_path / "one.tar")
    assert len(rows) == len(theirs) == 8
    for index, their in enumerate(theirs):
        sample = rows.read(index)
        assert sample.key == f"one.tar/{their['__key__']}"
        assert sample.images == (their["png"],)
        assert sample.captions["txt"] == (their["txt"].decode(),)
        assert sample.record == json.loads(their["json"])


CAPTIONS = {"short": ["a cup"], "long": ["a red cup", "the red cup"], "caption": "cup"}


def captions_of(tmp_path: Path, captions: Any, count: int = 200) -> list[str]:
    made.json_lines(tmp_path / "one.jsonl", [{"image": "images/0.png", **CAPTIONS}])
    source = open_source(tmp_path / "one.jsonl", batch=count, preprocess=Preprocess(size=2), captions=captions)
    return list(vars(source.batch(0))["text"])


def test_choice_of_captions(tmp_path: Path) -> None:
    assert set(captions_of(tmp_path, None, 5)) == {"cup"}
    assert set(captions_of(tmp_path, "short", 5)) == {"a cup"}
    both = captions_of(tmp_path, ["short", "long"])
    assert 60 < both.count("a cup") < 140
    assert 20 < both.count("a red cup") < 80
    weighted = captions_of(tmp_path, {"short": 9, "long": 1, "missing": 100})
    assert 160 < weighted.count("a cup") < 200
    with pytest.raises(PerceptError, match="above 0"):
        captions_of(tmp_path, {"short": 0.0})


CONVERSATIONS = {
    "LLaVA": {"id": "1", "image": "images/1.png", "conversations": [
        {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A square."}]},
    "PLM": {"image": "images/1.png", "conversations": [
        {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "assistant", "value": "A square."}]},
    "ShareGPT": {"images": ["images/1.png"], "messages": [
        {"role": "user", "content": "<image>\nWhat is it?"}, {"role": "assistant", "content": "A square."}]},
    "parts": {"image": ["images/1.png"], "messages": [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\nWhat is it?"}]},
        {"role": "assistant", "content": "A square."}]},
}  # fmt: skip


@pytest.mark.parametrize("schema", CONVERSATIONS)
@pytest.mark.parametrize("as_list", [False, True])
def test_conversations_become_rows_of_one_form(schema: str, as_list: bool, tmp_path: Path) -> None:
    made.image_files(tmp_path / "images")
    row = CONVERSATIONS[schema]
    file = tmp_path / ("rows.json" if as_list else "rows.jsonl")
    file.write_text(json.dumps([row, row], indent=2) if as_list else json.dumps(row) + "\n\n" + json.dumps(row))
    source = open_source(file, batch=2)
    batch = source.batch(0)
    assert isinstance(batch, Samples)
    assert len(batch) == len(source) == 2
    assert len(batch.first(1).samples) == 1
    sample = batch.samples[0]
    assert sample.images == (tmp_path / "images/1.png",)
    assert sample.record["conversations"] == [
        {"from": "human", "value": "<image>\nWhat is it?"},
        {"from": "assistant", "value": "A square."},
    ]


def test_other_rows_of_the_perception_language_model(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<|bbox0|>?"}, {"from": "assistant", "value": "A cup."}]
    rows = [
        {"image": ["images/0.png", "images/1.png"], "conversations": turns},
        {"conversations": turns},
        {"image": "images/2.png", "text": "a caption"},
        {"image": "images/3.png", "bbox": [[1, 2, 3, 4]], "width": 12, "height": 10, "conversations": turns},
        {"video": "a.mp4", "bbox_map": {"0": [0, 0, 4, 4], "8": None}, "conversations": turns},
        {"video": "a.mp4", "start_time": 1.0, "end_time": 2.5, "conversations": turns},
    ]
    opened = open_rows(made.json_lines(tmp_path / "rows.jsonl", rows))
    samples = [opened.read(index) for index in range(6)]
    assert [len(sample.images) for sample in samples] == [2, 0, 1, 1, 0, 0]
    assert samples[2].captions == {"text": ("a caption",)}
    assert [sample.video for sample in samples[4:]] == [tmp_path / "a.mp4"] * 2
    for sample, row in zip(samples, rows, strict=True):
        assert {name: sample.record[name] for name in row} == row


def films(folder: Path, count: int = 3) -> list[Path]:
    pytest.importorskip("av")
    from tests.data.video.films import film

    folder.mkdir(parents=True, exist_ok=True)
    return [film(folder / f"video{n}.mp4", 20 + 10 * n) for n in range(count)]


def pvd(folder: Path) -> Path:
    samples = {
        file.stem: {
            "mp4": file.read_bytes(),
            "json": json.dumps({"human_caption": f"film {n}", "video_duration_in_s": 1.0}).encode(),
        }
        for n, file in enumerate(films(folder / "raw"))
    }
    return made.shard(folder / "train" / "00000.tar", samples).parent


def msr_vtt(folder: Path) -> Path:
    films(folder)
    lines = ["key,vid_key,video_id,sentence", *(f'ret{n},msr{n},video{n},"film {n}"' for n in range(3))]
    (folder / "test.csv").write_text("\n".join(lines))
    return folder / "test.csv"


def video_folder(folder: Path) -> Path:
    for n, file in enumerate(films(folder / "films")):
        file.with_suffix(".txt").write_text(f"film {n}")
    return folder / "films"


@pytest.mark.parametrize("make", [pvd, msr_vtt, video_folder])
def test_videos(make: Callable[[Path], Path], tmp_path: Path) -> None:
    from tests.data.video.films import WIDTH

    source = open_source(make(tmp_path), batch=3, preprocess=Preprocess(size=(48, WIDTH)), frames=4)
    batch = source.batch(0)
    assert isinstance(batch, VideoCaptions)
    assert batch.frames.shape == (3, 4, 3, 48, WIDTH)
    for frames, text in zip(batch.frames, batch.text, strict=True):
        last = 19 + 10 * int(text.removeprefix("film "))
        assert [frame_number(frame) for frame in frames] == [i * last // 3 for i in range(4)]
    with pytest.raises(PerceptError, match=r"Give frames="):
        open_source(make(tmp_path), batch=3)


def frame_number(frame: Any) -> int:
    from PIL import Image

    from tests.data.video.films import number_on

    return number_on(Image.fromarray(((frame.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()))


def test_a_part_of_a_video_and_tokens(tmp_path: Path) -> None:
    films(tmp_path, 1)
    rows = [{"video": "video0.mp4", "text": "film 0", "start_time": 0.4, "end_time": 0.6}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) for row in rows))
    tokenizer = Tokenizer.train(["film 0"], vocab_size=270, context=12)
    batch = open_source(
        tmp_path / "rows.jsonl",
        batch=1,
        preprocess=Preprocess(size=(48, 160)),
        frames=8,
        tokenizer=tokenizer,
        choice="plm",
    ).batch(0)
    assert isinstance(batch, VideoText)
    assert [frame_number(frame) for frame in batch.frames[0]] == [10, 11, 12, 13, 14, 14, 14, 14]
    assert batch.tokens.equal(tokenizer("film 0"))


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "missing file": ({"image": "images/none.png", "caption": "a"}, "missing file"),
    "broken image": ({"image": "images/broken.png", "caption": "a"}, "broken image"),
    "empty caption": ({"image": "images/0.png", "caption": " "}, "empty caption"),
    "no caption": ({"image": "images/0.png"}, "no caption"),
    "number as caption": ({"image": "images/0.png", "caption": 3}, "wrong type"),
    "number as image": ({"image": 3, "caption": "a"}, "wrong type"),
    "no image": ({"caption": "a"}, "no image"),
    "list": ([1, 2], "wrong type"),
    "turns": ({"image": "images/0.png", "caption": "a", "conversations": {"from": "human"}}, "wrong type"),
    "speaker": (
        {"image": "images/0.png", "conversations": [{"from": "dog", "value": "a"}], "caption": "a"},
        "wrong type",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_json_rows_are_replaced_and_counted(case: str, tmp_path: Path) -> None:
    row, reason = BAD_ROWS[case]
    made.json_lines(tmp_path / "rows.jsonl", [*made.rows(), row])
    (tmp_path / "images" / "broken.png").write_bytes(made.encoded(1)[:40])
    check_replaced(tmp_path / "rows.jsonl", reason, "rows.jsonl:9")


def check_replaced(where: Path, reason: str, key: str, rows: int = 9) -> None:
    source = open_source(where, batch=rows, preprocess=SMALL, max_bad=1)
    assert key in source.keys(0)
    batch = source.batch(0)
    assert isinstance(batch, ImageCaptions)
    assert len(batch) == rows
    assert batch.text == tuple(f"caption {made.number_of(image)}" for image in batch.image)
    assert source.bad.counts == {reason: 1}
    halves = [
        open_source(where, batch=rows, preprocess=SMALL, max_bad=1).batch(0, rank=r, world_size=2) for r in range(2)
    ]
    assert batch.text == tuple(text for half in halves for text in vars(half)["text"])


def test_a_line_that_is_not_json_or_not_utf8(tmp_path: Path) -> None:
    file = made.json_lines(tmp_path / "rows.jsonl")
    good = file.read_bytes()
    file.write_bytes(good + b'{"image": "images/0.png", "cap')
    check_replaced(file, "not json", "rows.jsonl:9")
    file.write_bytes(good + b'{"image": "images/0.png", "caption": "\xff"}\n')
    check_replaced(file, "not UTF-8", "rows.jsonl:9")


def test_rows_of_a_table_with_too_few_cells(tmp_path: Path) -> None:
    file = made.table(tmp_path / "rows.csv")
    file.write_text(file.read_text() + "images/0.png\n")
    check_replaced(file, "wrong number of cells", "rows.csv:9")


def test_quoted_cells_may_hold_line_breaks(tmp_path: Path) -> None:
    made.image_files(tmp_path / "images")
    text = 'image,caption\r\nimages/0.png,"two\r\nlines, ""quoted"""\r\n\r\nimages/1.png,one'
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    rows = open_rows(tmp_path / "rows.csv")
    assert [rows.read(n).captions["caption"] for n in range(len(rows))] == [('two\r\nlines, "quoted"',), ("one",)]


def test_a_tsv_may_hold_single_quotes_of_inches(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text('image\tcaption\na.png\ta 5" disk\nb.png\t"a ""b"" c"\n')
    rows = open_rows(tmp_path / "rows.tsv")
    assert [rows.read(n).captions["caption"] for n in range(2)] == [('a 5" disk',), ('a "b" c',)]


def test_a_broken_sidecar(tmp_path: Path) -> None:
    place = made.captioned_folder(tmp_path / "a")
    (place / "8.png").write_bytes(made.encoded(8))
    (place / "8.json").write_text("[1]")
    check_replaced(place, "wrong type", "8.png")
    (place / "8.json").unlink()
    check_replaced(place, "no caption", "8.png")
    (place / "8.txt").write_bytes(b"\xff\xfe")
    check_replaced(place, "not UTF-8", "8.png")


def test_a_shard_that_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = made.shard(tmp_path / "one.tar", {f"{n}": made.members(n) for n in range(9)})
    with tarfile.open(file) as tar:
        last = tar.getmember("8.png")
    data = file.read_bytes()
    for end, reason in ((last.offset_data + 20, "tar cut"), (last.offset_data + 512, "no caption")):
        file.write_bytes(data[:end])
        check_replaced(file, reason, "one.tar/8")
    assert "is cut or damaged at byte" in capsys.readouterr().err
    end = last.offset_data + 20
    file.write_bytes(data[:end])
    open_rows(file)
    assert f"is cut or damaged at byte {end};" in capsys.readouterr().err
    file.write_bytes(data[: last.offset_data - 100])
    assert len(open_rows(file)) == 8
    assert "is cut or damaged at byte" in capsys.readouterr().err


def test_a_shard_that_is_damaged_between_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = made.shard(tmp_path / "one.tar")
    with tarfile.open(file) as tar:
        place = tar.getmember("0003.png").offset
    data = bytearray(file.read_bytes())
    data[place : place + 512] = b"x" * 512
    file.write_bytes(data)
    assert len(open_rows(file)) == 3
    assert f"is cut or damaged at byte {place}" in capsys.readouterr().err


def test_broken_members_of_shards(tmp_path: Path) -> None:
    good = {f"{n}": made.members(n) for n in range(8)}
    cases = {
        "broken image": {"png": made.encoded(1)[:30], "txt": b"a"},
        "not json": {"png": made.encoded(1), "json": b"{"},
        "wrong type": {"png": made.encoded(1), "json": b"[1]"},
        "not UTF-8": {"png": made.encoded(1), "txt": b"\xff"},
        "empty caption": {"png": made.encoded(1), "txt": b""},
        "no image": {"txt": b"a"},
    }
    for reason, parts in cases.items():
        check_replaced(made.shard(tmp_path / "one.tar", {**good, "bad": parts}), reason, "one.tar/bad")


def test_broken_videos(tmp_path: Path) -> None:
    place = video_folder(tmp_path)
    (place / "video1.mp4").write_bytes((place / "video1.mp4").read_bytes()[:3000])
    source = open_source(place, batch=3, preprocess=SMALL, frames=2, max_bad=1)
    assert sorted(set(vars(source.batch(0))["text"])) == ["film 0", "film 2"]
    assert source.bad.counts == {"broken video": 1}


def test_an_index_is_written_once_and_follows_its_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = made.shard(tmp_path / "one.tar")
    open_rows(file)
    index = tmp_path / ".one.tar.members.index"
    assert index.is_file()
    with monkeypatch.context() as patch:
        patch.setattr("percept.data.sources.tars.tarfile.open", _refuse)
        assert len(open_rows(file)) == 8
    old = open_rows(file)
    made.shard(file, {f"{n}": made.members(n) for n in range(3)})
    assert len(open_rows(file)) == 3
    with pytest.raises(BadSample, match="file changed"):
        old.read(0)
    index.write_bytes(index.read_bytes()[:200])
    assert open_rows(file).read(2).captions == {"txt": ("caption 2",)}


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("the shard was read again")


def test_an_index_of_a_folder_that_cannot_be_written_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from percept.data.sources import index as indexes

    file = made.shard(tmp_path / "shards" / "one.tar")
    store = indexes._store

    def only_in_cache(place: Path, *rest: Any) -> None:
        if place.parent == file.parent:
            raise PermissionError(13, "Permission denied", str(place))
        store(place, *rest)

    monkeypatch.setattr(indexes, "_store", only_in_cache)
    open_rows(file)
    assert [path.name for path in file.parent.iterdir()] == ["one.tar"]
    assert len(list((tmp_path / "cache" / "sources").glob("*.members.index"))) == 1
    monkeypatch.setattr("percept.data.sources.tars.tarfile.open", _refuse)
    assert len(open_rows(file)) == 8


def test_an_index_that_can_be_written_nowhere_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from percept.data.sources import index as indexes

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(indexes, "_store", full)
    rows = open_rows(made.shard(tmp_path / "one.tar"))
    monkeypatch.setattr("percept.data.sources.tars.tarfile.open", _refuse)
    assert rows.read(3).captions == {"txt": ("caption 3",)}


def test_a_copy_of_a_parquet_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "not a folder").write_text("")
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "not a folder"))
    with pytest.raises(PerceptError, match="set PERCEPT_CACHE to a different folder"):
        open_rows(made.parquet(tmp_path / "rows.parquet"))


def test_a_converted_parquet_file_is_made_once_and_follows_its_file(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    file = made.parquet(tmp_path / "rows.parquet")
    open_rows(file)
    (copy,) = (tmp_path / "cache" / "sources").glob("*.arrow")
    first = copy.stat().st_mtime_ns
    assert len(open_rows(file)) == 8
    assert copy.stat().st_mtime_ns == first
    shutil.copy(made.parquet(tmp_path / "other.parquet"), file)
    assert open_rows(file).read(7).captions["caption"] == ("caption 7",)
    assert len(list((tmp_path / "cache" / "sources").glob("*.arrow"))) == 1  # that of the former content is gone


def test_conversations_with_captions_are_images_with_text_where_that_is_asked_for(tmp_path: Path) -> None:
    row = {**CONVERSATIONS["PLM"], "caption": "a square"}
    made.json_lines(tmp_path / "rows.jsonl", [row, row])
    assert isinstance(open_source(tmp_path / "rows.jsonl", batch=2).batch(0), Samples)
    asked = open_source(tmp_path / "rows.jsonl", batch=2, preprocess=SMALL).batch(0)
    assert vars(asked)["text"] == ("a square", "a square")
