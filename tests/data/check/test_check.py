"""The check of a source with known faults: each is found, counted and named, for any number of workers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from percept.cli import main
from percept.core.errors import PerceptError
from percept.data.check import check_source
from percept.data.check.page import render
from percept.data.check.tally import summary
from percept.data.tokenizers import Tokenizer
from tests.data.augment.test_augment import noise
from tests.data.sources import made


def lines(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return file


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Ten good rows, and one or more of every fault."""
    for number in range(10):
        noise(100 + 10 * number, 80, number).save(tmp_path / f"{number}.png")
    noise(100, 80, 3).resize((70, 50)).save(tmp_path / "small.jpg", quality=80)
    noise(130, 80, 3).resize((70, 50)).save(tmp_path / "copy.jpg", quality=80)
    (tmp_path / "again.png").write_bytes((tmp_path / "2.png").read_bytes())
    (tmp_path / "cut.png").write_bytes((tmp_path / "2.png").read_bytes()[:200])
    Image.new("RGB", (90, 90), "white").save(tmp_path / "blank.png")
    rows: list[Any] = [
        {"image": f"{n}.png", "caption": f"picture number {n}", "label": "cup" if n < 8 else "jug"} for n in range(10)
    ]
    rows += [
        {"image": "again.png", "caption": "picture number 0"},
        {"image": "copy.jpg", "caption": "word " * 40},
        {"image": "blank.png", "caption": "<script>alert(1)</script>"},
        {"image": "cut.png", "caption": "cut"},
        {"image": "gone.png", "caption": "gone"},
        {"image": "0.png", "caption": " "},
        {"image": "0.png", "caption": 3},
        {"image": "0.png"},
        "{not json",
    ]
    return lines(tmp_path / "rows.jsonl", rows)


def tokenizer() -> Tokenizer:
    return Tokenizer.train(["picture number word"], vocab_size=300, context=16)


def test_every_fault_is_counted_and_named(faulty: Path) -> None:
    found = check_source(faulty, tokenizer=tokenizer())
    report = found.report
    assert report["target"] == "caption"
    assert (report["rows"], report["checked"], report["bad"]) == (19, 19, 6)
    assert found.share_bad == 6 / 19
    reasons = {reason: each["count"] for reason, each in report["reasons"].items()}
    assert reasons == dict.fromkeys(
        ("broken image", "missing file", "empty caption", "wrong type", "no caption", "not json"), 1
    )
    assert report["reasons"]["missing file"]["examples"][0]["key"] == found.rows.key(14)
    media = report["media"]
    assert (media["count"], media["blank"]) == (13, 1)
    assert (media["width in pixels"]["least"], media["width in pixels"]["largest"]) == (70, 190)
    assert sum(media["width / height"]["histogram"]["counts"]) == 13
    captions = report["captions"]
    assert (captions["count"], captions["context"], captions["longer than the context"]) == (13, 16, 2)
    assert report["classes"]["rows"] == {"cup": 8, "jug": 2}
    assert report["classes"]["largest / smallest"] == 4
    assert report["classes"]["equally large classes with the same entropy"] == pytest.approx(
        np.exp(-(0.8 * np.log(0.8) + 0.2 * np.log(0.2))), abs=0.01
    )
    again = {name: each["rows after the first"] for name, each in report["duplicates"].items()}
    assert again == {
        "equal images or videos": 1,
        "nearly equal images or videos": 1,
        "equal captions": 1,
        "nearly equal captions": 0,
    }
    group = report["duplicates"]["equal images or videos"]["examples"][0]
    assert group["keys"] == [found.rows.key(2), found.rows.key(10)]
    assert report["duplicates"]["nearly equal images or videos"]["examples"][0]["rows"] == [3, 11]
    json.dumps(report)


def test_workers_find_the_same(faulty: Path) -> None:
    alone, many = (check_source(faulty, tokenizer=tokenizer(), workers=workers).report for workers in (0, 2))
    for report in (alone, many):
        report.pop("seconds")
    assert alone == many


def test_a_sample_is_drawn_without_repetition(faulty: Path) -> None:
    report = check_source(faulty, sample=7, seed=2).report
    assert (report["rows"], report["checked"]) == (19, 7)
    assert check_source(faulty, sample=1000).report["checked"] == 19
    seen = [check_source(faulty, sample=7, seed=seed).report["bad"] for seed in range(6)]
    assert len(set(seen)) > 1


def test_the_log_has_every_bad_row(faulty: Path, tmp_path: Path) -> None:
    check_source(faulty, log=tmp_path / "bad.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert {row["reason"] for row in rows} >= {"missing file", "broken image"}


def test_a_named_field_decides_what_a_caption_is(faulty: Path) -> None:
    report = check_source(faulty, captions="label").report
    assert report["captions"]["count"] == 10
    assert report["reasons"]["no caption"]["count"] == 6  # two more have no image


@pytest.mark.parametrize("make", ["class_folder", "captioned_folder", "json_folder"])
def test_folders(make: str, tmp_path: Path) -> None:
    report = check_source(getattr(made, make)(tmp_path / "data")).report
    assert (report["checked"], report["bad"]) == (8, 0)
    assert report["target"] == ("label" if make == "class_folder" else "caption")
    assert ("classes" in report) == (make == "class_folder")
    assert report["media"]["blank"] == 8


def test_shards_and_tables(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for where in (made.shard(tmp_path / "a.tar"), made.parquet(tmp_path / "a.parquet"), made.table(tmp_path / "a.csv")):
        report = check_source(where).report
        assert (report["checked"], report["bad"], report["captions"]["count"]) == (8, 0, 8)


def test_conversations(tmp_path: Path) -> None:
    made.image_files(tmp_path / "images")

    def row(text: str, images: list[str], *turns: str) -> dict[str, Any]:
        spoken = [{"from": ("human", "gpt")[n % 2], "value": turn} for n, turn in enumerate((text, *turns))]
        return {"image": [f"images/{name}" for name in images], "conversations": spoken}

    rows = [
        row("<image>\nWhat?", ["1.png"], "A cup."),
        row("<image><image>\nWhich?", ["1.png", "2.png"], "The first.", "Why?", "It is red."),
        row("<image>\nWhat?", [], "A cup."),
        row("What?", ["1.png"], "A cup."),  # PLM: one medium without a tag stands before the text
        row("<image>\nWhat?", ["1.png", "2.png"], "A cup."),
        row("<image>\nWhat?", ["1.png"], ""),
        row("<image><image><image>", ["1.png", "2.png"], "Three?"),
        row("<image>\nWhat?", ["1.png"]),
        row("<image>\nWhat?", ["9.png"], "A cup."),
        {"image": "images/1.png", "conversations": [{"from": "nobody", "value": "x"}]},
    ]
    report = check_source(lines(tmp_path / "talks.jsonl", rows)).report
    assert report["target"] == "conversation"
    section = report["conversations"]
    assert (section["count"], section["turns"]["largest"]) == (5, 4)
    assert {name: each["count"] for name, each in section["remarks"].items()} == {
        "tags without an image or video": 1,
        "empty answer": 1,
    }
    assert {name: each["count"] for name, each in report["reasons"].items()} == {
        "wrong turns": 3,
        "missing file": 1,
        "wrong type": 1,
    }


def test_an_empty_label_is_no_class(tmp_path: Path) -> None:
    names = made.image_files(tmp_path)
    rows = [{"image": name, "label": "" if number == 3 else "cup"} for number, name in enumerate(names)]
    report = check_source(lines(tmp_path / "rows.jsonl", rows)).report
    assert report["classes"]["rows"] == {"cup": len(names) - 1}


def test_the_page_shows_repeated_captions_and_single_values(tmp_path: Path) -> None:
    names = made.image_files(tmp_path)
    rows = [{"image": name, "caption": f"the <{number // 2}> cup"} for number, name in enumerate(names)]
    found = check_source(lines(tmp_path / "rows.jsonl", rows))
    assert found.report["duplicates"]["equal captions"]["examples"][0]["captions"] == ["the <0> cup"] * 2
    page = render(found.report, found.rows)
    assert page.count("“the &lt;0&gt; cup”") == 2
    assert f"<title>12: {len(names)}</title>" in page


def test_videos(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from tests.data.video.films import film

    for number, frames in enumerate((12, 24)):
        film(tmp_path / f"{number}.mp4", frames)
        (tmp_path / f"{number}.txt").write_text(f"clip {number}")
    (tmp_path / "2.mp4").write_bytes((tmp_path / "1.mp4").read_bytes()[:300])
    report = check_source(tmp_path).report
    assert report["videos"]["count"] == 2
    assert (report["videos"]["frames"]["least"], report["videos"]["frames"]["largest"]) == (12, 24)
    assert report["reasons"]["broken video"]["count"] == 1


def test_the_page_is_complete_and_escapes_texts(faulty: Path) -> None:
    found = check_source(faulty, tokenizer=tokenizer())
    page = render(found.report, found.rows)
    assert "<script" not in page
    assert "http" not in page
    assert "prefers-color-scheme: dark" in page
    assert page.count("<svg") == 6
    assert page.count("data:image/jpeg;base64,") == 6
    for word in ("missing file", "cup", "Equal captions", "limit: 16", "6 (31.58%)"):
        assert word in page


def test_the_command(faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out" / "report.json"
    assert main(["data", "check", str(faulty), "--out", str(out), "--max-bad", "0.5"]) == 0
    printed = capsys.readouterr().out
    for word in ("missing file", "captions longer than 64 tokens", "nearly equal images"):
        assert word in " ".join(printed.split())
    assert json.loads(out.read_text())["bad"] == 6
    assert "<svg" in out.with_suffix(".html").read_text()
    assert main(["data", "check", str(faulty), "--max-bad", "0.1", "--context", "8"]) == 1
    assert main(["data", "check", str(tmp_path / "nothing")]) == 2
    assert main(["data", "check"]) == 2
    assert main(["data", "check", str(faulty), "--max-bad", "2"]) == 2
    assert main(["data", "check", str(faulty), "--out", str(tmp_path / "a.txt")]) == 2
    assert main(["data", "check", str(faulty), "--tokenizer", str(tmp_path / "merges.txt")]) == 2
    assert "--context" in capsys.readouterr().err


def test_numbers_out_of_range_are_refused(faulty: Path, tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match="sample at least 1"):
        check_source(faulty, sample=0)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(PerceptError, match="no rows"):
        check_source(tmp_path / "empty.jsonl")


def test_summary_of_numbers() -> None:
    whole = summary(np.array([1, 2, 2, 5]))["histogram"]
    assert whole == {"edges": [1, 2, 3, 4, 5, 6], "counts": [1, 2, 0, 0, 1]}
    wide = summary(np.array([1.0, 10, 100, 1000]))
    assert wide["histogram"]["edges"][10] == pytest.approx(1000**0.5, rel=1e-3)
    assert sum(wide["histogram"]["counts"]) == 4
    assert summary(np.array([3.0, 3.0]))["histogram"]["counts"] == [2]


PROGRAM = """
import sys
from percept.data.check import check_source

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

check_source(sys.argv[1], sample=1000)
before = resident()
report = check_source(sys.argv[1]).report
print(report["checked"], report["bad"], resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the size of the process from /proc")
def test_memory_is_a_few_hundred_bytes_a_row(tmp_path: Path) -> None:
    made.image_files(tmp_path / "images")
    rows = [{"image": f"images/{row % 8}.png", "caption": f"caption {row} of {row * 7}"} for row in range(100_000)]
    where = lines(tmp_path / "rows.jsonl", rows)
    done = subprocess.run([sys.executable, "-c", PROGRAM, where], capture_output=True, text=True, check=True)
    checked, bad, grown = map(int, done.stdout.split())
    assert (checked, bad) == (100_000, 0)
    assert grown < 100_000 * 1000
