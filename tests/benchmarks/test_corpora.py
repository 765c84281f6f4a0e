"""Real images become ordinary sources: on small archives of the packages' shape, without a network."""

import csv
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import corpora_clipart as clipart
import corpora_emoji as emoji
import corpora_fetch
import corpora_table
import pytest
from corpora_fetch import Package, Unavailable
from PIL import Image

from percept.data import open_source
from percept.data.sources.batches import ImageCaptions
from percept.world.objects import CATEGORIES
from tests.benchmarks.test_benchmarks import benchmark
from tests.front_door.test_readme import ROOT, printed_by

CAT, CUP, GRIN, RUNNER, TONED = "1f408", "2615", "1f600", "1f3c3-200d-2640-fe0f", "1f3c3-1f3fb"
NAMES = {
    "🐈": "cat",
    "☕": "hot beverage",
    "😀": "grinning face",
    "🏃‍♀": "woman running",
    "🏃🏻": "person running: light skin tone",
}
METADATA = """<svg><metadata><rdf:RDF><cc:Work><dc:title>{title}</dc:title><dc:subject><rdf:Bag><rdf:li>tag</rdf:li><rdf:li></rdf:li>
</rdf:Bag></dc:subject><dc:creator><cc:Agent><dc:title>{artist}</dc:title></cc:Agent></dc:creator>
<cc:license rdf:resource="{licence}"/></cc:Work></rdf:RDF></metadata></svg>"""
PUBLIC = "http://web.resource.org/cc/PublicDomain"


def png(colour: str = "red", size: tuple[int, int] = (8, 8), margin: int = 0) -> bytes:
    image = Image.new("RGBA", (size[0] + 2 * margin, size[1] + 2 * margin))
    image.paste(Image.new("RGBA", size, colour), (margin, margin))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def pack(file: Path, content: Mapping[str, bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:gz" if file.suffix == ".tgz" else "w") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file


def annotations(language: str, folder: str, names: Mapping[str, str]) -> dict[str, bytes]:
    content = {letters: {"default": [name, "word"], "tts": [f"{name}{'' if language == 'en' else ' ' + language}"]} for letters, name in names.items()}  # fmt: skip
    return {f"package/{folder}/{language}/annotations.json": json.dumps({folder: {"annotations": content}}).encode()}


def emoji_packages(folder: Path) -> None:
    codes = (CAT, CUP, GRIN, RUNNER, TONED, "1f9ff")
    for vendor in emoji.VENDORS:
        if vendor.name == "openmoji":
            described = [{"hexcode": CAT.upper(), "openmoji_author": "Ann"}, {"hexcode": CUP.upper()}]
            content = {f"{vendor.folder}{code.upper()}.svg": b"<svg/>" for code in codes}
            content["package/data/openmoji.json"] = json.dumps(described).encode()
        else:
            suffix = "webp" if vendor.name == "fluent" else "png"
            content = {f"{vendor.folder}{code}.{suffix}": png() for code in codes}
        pack(folder / vendor.package.file, content)
    plain = {letters: name for letters, name in NAMES.items() if len(letters) == 1}
    derived = {letters: name for letters, name in NAMES.items() if len(letters) > 1}
    for package, part, names in zip(emoji.CLDR, ("annotations", "annotationsDerived"), (plain, derived), strict=True):
        pack(folder / package.file, annotations("en", part, names) | annotations("de", part, names))


def clipart_packages(folder: Path) -> dict[str, Path]:
    drawings = {  # path: title, artist, licence, image
        "food/fruit/apple_01": ("Simple apple", "Bo", PUBLIC, png("red", (8, 4), margin=4)),
        "food/fruit/pear_01": ("Clipart by Cy - plum", "Cy", PUBLIC, png("green")),
        "tools/apple_again_01": ("apple again", "Bo", PUBLIC, png("red", (8, 4), margin=4)),
        "tools/gpl_01": ("gpl", "Bo", "http://creativecommons.org/licenses/GPL/2.0/", png("blue")),
        "shapes/stars/star_01": ("star", "Bo", PUBLIC, png("yellow")),
        "computer/icons/book_01": ("book", "Bo", PUBLIC, png("brown")),
        "office/broken_01": ("broken", "Bo", PUBLIC, b"no image"),
        "office/empty_01": ("empty", "Bo", PUBLIC, png("#0000")),
        "office/large_01": ("large", "Bo", PUBLIC, png("red", (60, 60))),
    }
    svg = {
        f"./{clipart.FOLDERS[0]}{name}.svg": METADATA.format(title=title, artist=artist, licence=licence).encode()
        for name, (title, artist, licence, _) in drawings.items()
    }
    images = {f"./{clipart.FOLDERS[1]}{name}.png": image for name, (*_, image) in drawings.items()}
    parts = {"openclipart-svg": svg, "openclipart-png": images}
    return {name: pack(folder / f"{name}_1%3a0.18-1_all.tar", content) for name, content in parts.items()}


def draw(drawings: Mapping[str, bytes], folder: Path, tools: Path) -> None:
    folder.mkdir(parents=True)
    for name, svg in drawings.items():
        assert svg == b"<svg/>"
        (folder / f"{name}.png").write_bytes(png())


@pytest.fixture
def corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the benchmark with small packages in its cache, and with no client to call."""
    module = benchmark("corpora")
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(module, "rasterise", draw)
    monkeypatch.setattr(corpora_table, "PIXELS", 1000)
    emoji_packages(module.home() / "packages")
    debian = clipart_packages(module.home() / "packages")
    monkeypatch.setattr(module, "debian", lambda package, folder: debian[package])
    return module


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def test_emoji_become_a_source(corpora: ModuleType) -> None:
    corpora.fetch()
    folder = corpora.home() / "emoji"
    table = rows(folder / "all.csv")
    assert len(table) == 4 * 4  # four vendors; no skin tones, nothing without a name
    assert {row["vendor"]: row["licence"] for row in table} == {
        "google": "Apache-2.0", "twitter": "CC-BY-4.0", "fluent": "MIT", "openmoji": "CC-BY-SA-4.0",
    }  # fmt: skip
    cat = next(row for row in table if row["path"] == "openmoji/1f408.png")
    assert (cat["caption"], cat["caption_de"], cat["keywords"]) == ("cat", "cat de", "cat, word")
    assert (cat["artist"], cat["version"]) == ("Ann", "openmoji@17.0.0")
    assert {row["concept"] for row in table} == {"cat", "cup", "grinning face", "running"}
    names = list(CATEGORIES)
    source = open_source(folder / "kinds.csv", batch=8, target="label", classes=names)
    labels = source.batch(0).tensors()["label"]
    assert sorted(labels.tolist()) == sorted([names.index("cat"), names.index("cup")] * 4)
    german = open_source(folder / "all.csv", batch=16, captions="caption_de").batch(0)
    assert isinstance(german, ImageCaptions)
    assert "grinning face de" in german.text
    assert len(rows(folder / "kinds_openmoji.csv")) == 2
    with Image.open(folder / "kinds_openmoji.png") as sheet:
        assert sheet.width == corpora_table.CELL * corpora_table.COLUMNS


def test_the_page_prints_what_it_shows(corpora: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    corpora.fetch()
    monkeypatch.chdir(corpora.home().parent)
    text = (ROOT / "docs" / "corpora.md").read_text(encoding="utf-8")
    (code, expected), *others = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", text, flags=re.DOTALL)
    assert printed_by(code) == expected
    assert not others


def test_nothing_is_trained_on_openmoji_and_a_concept_is_in_one_part(corpora: ModuleType) -> None:
    corpora.fetch()
    table = rows(corpora.home() / "emoji" / "all.csv")
    assert {row["part"] for row in table if row["vendor"] == "openmoji"} <= {"new_artist", "new_both"}
    trained = {row["concept"] for row in table if row["part"] in ("train", "new_artist")}
    assert not trained & {row["concept"] for row in table if row["part"] in ("new_concept", "new_both")}
    written = [row for part in corpora_table.PARTS for row in table if row["part"] == part]
    assert len(written) == len(table)
    assert rows(corpora.home() / "emoji" / "train.csv") == [row for row in table if row["part"] == "train"]


def test_parts_depend_on_the_concept_and_the_artist_alone() -> None:
    concepts = [f"concept {number}" for number in range(2000)]
    parts = [corpora_table.part_of(concept, known=False, artist_held_out=False) for concept in concepts]
    assert parts == [corpora_table.part_of(concept, known=False, artist_held_out=False) for concept in concepts]
    assert 0.17 < parts.count("new_concept") / len(parts) < 0.23
    held_out = [corpora_table.part_of(concept, known=False, artist_held_out=True) for concept in concepts]
    assert dict(zip(parts, held_out, strict=True)) == {"train": "new_artist", "new_concept": "new_both"}
    assert {corpora_table.part_of(concept, known=True, artist_held_out=False) for concept in concepts} == {"train"}


def test_clip_art_becomes_a_source(corpora: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    corpora.fetch()
    folder = corpora.home() / "openclipart"
    table = {row["path"]: row for row in rows(folder / "all.csv")}
    assert list(table) == [
        "images/computer/icons/book_01.png", "images/food/fruit/apple_01.png", "images/food/fruit/pear_01.png",
    ]  # fmt: skip
    apple, pear = table["images/food/fruit/apple_01.png"], table["images/food/fruit/pear_01.png"]
    assert (apple["label"], apple["caption"], apple["keywords"]) == ("apple", "Simple apple", "tag")
    assert (apple["artist"], apple["licence"], apple["version"]) == ("Bo", PUBLIC, "openclipart 1:0.18-1")
    assert (pear["caption"], pear["concept"], pear["label"]) == ("pear 01", "pear", "")
    assert table["images/computer/icons/book_01.png"]["label"] == ""
    with Image.open(folder / apple["path"]) as image:
        assert (image.size, image.mode) == ((8, 8), "RGB")
        assert [image.getpixel((0, y)) for y in (1, 2, 5, 6)] == [
            (255, 255, 255),
            (255, 0, 0),
            (255, 0, 0),
            (255, 255, 255),
        ]
    printed = " ".join(capsys.readouterr().out.split())
    assert "3 broken, empty or very large image" in printed
    assert "1 not public domain" in printed
    assert "1 same image again" in printed
    sources = json.loads((folder / "sources.json").read_text())
    assert [len(package["sha256"]) for package in sources["packages"]] == [64, 64]
    assert sources["left out"]["generated or no drawing"] == 1


def test_a_corpus_is_made_once_and_again_after_a_change(
    corpora: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpora.fetch()
    made = (corpora.home() / "emoji" / "sources.json").stat().st_mtime_ns
    capsys.readouterr()
    corpora.fetch()
    assert capsys.readouterr().out.count("already in") == 2
    assert (corpora.home() / "emoji" / "sources.json").stat().st_mtime_ns == made
    monkeypatch.setattr(corpora, "_code", lambda: "changed")
    (corpora.home() / "emoji" / "google" / "left.png").write_bytes(b"")
    corpora.fetch()
    assert not (corpora.home() / "emoji" / "google" / "left.png").exists()
    assert not list(corpora.home().glob(".*"))


def test_a_machine_without_clients_gets_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = benchmark("corpora")
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    module.fetch()
    module.report(json_file=tmp_path / "report.json")
    printed = " ".join("".join(capsys.readouterr()).split())
    assert "emoji is skipped: npm is not installed" in printed
    assert "openclipart is skipped: apt-get is not installed" in printed
    assert "no corpus in" in printed
    assert not (tmp_path / "report.json").exists()


def test_a_download_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tmp_path / "bin" / "npm"
    client.parent.mkdir()
    client.write_text("#!/bin/sh\necho 'no network' >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(Unavailable, match="no network"):
        corpora_fetch.npm(emoji.CLDR[0], tmp_path / "packages")
    assert list((tmp_path / "packages").iterdir()) == []


def test_the_report_counts_what_it_classifies(corpora: ModuleType, tmp_path: Path) -> None:
    corpora.fetch()
    corpora.report(json_file=tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    found = {row["set"]: row for row in written["results"]}
    assert {name: row["images"] for name, row in found.items()} == {
        "google": 2, "twitter": 2, "fluent": 2, "openmoji": 2, "emoji, all vendors": 8, "emoji, part never trained on": 2, "openclipart": 1,
    }  # fmt: skip
    assert all(row["chance %"] == 1.0 and 0 <= row["top-1 %"] <= row["top-5 %"] <= 100 for row in found.values())
    assert found["openmoji"]["parts"] == {"new_artist": 2}
    assert {package["name"] for package in written["packages"]["emoji"]} >= {"openmoji", "cldr-annotations-full"}


def test_known_categories_are_limited_per_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora_table, "MOST", 2)
    many = [
        corpora_table.Row(
            path=f"{vendor}/{number}", caption="", keywords="", concept="cat", label="cat" if number else "",
            vendor=vendor, artist="", licence="", version="", part="train",
        )
        for vendor in ("a", "b")
        for number in range(5)
    ]  # fmt: skip
    chosen = corpora_table.known(many)
    assert [row.vendor for row in chosen] == ["a", "a", "b", "b"]
    assert chosen == corpora_table.known(many[::-1])


def test_the_table_of_categories_is_sound() -> None:
    kinds = corpora_table.kinds()
    drawn = [letters for value in kinds["emoji"].values() for letters in value.split()]
    assert len(drawn) == len(set(drawn))
    assert {*kinds["emoji"], *kinds["names in titles"]} <= set(CATEGORIES)
    names = [name for value in kinds["names in titles"].values() for name in value]
    assert len(names) == len(set(names))


@pytest.mark.slow
def test_packages_come_through_npm(tmp_path: Path) -> None:
    package = Package(name="cldr-annotations-full", version="48.2.0", licence="", author="")
    try:
        archive = corpora_fetch.npm(package, tmp_path / "packages")
        circle = (
            b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="3" fill="#f00"/></svg>'
        )
        corpora_fetch.rasterise({"circle": circle}, tmp_path / "drawn", tmp_path / "tools")
    except Unavailable as error:
        pytest.skip(str(error))
    names = emoji.read_names([archive], ("en", "ja"))
    assert names["en"][CAT][0] == "cat"
    assert names["ja"][CAT][0]
    with Image.open(tmp_path / "drawn" / "circle.png") as image:
        assert image.size == (corpora_fetch.SIDE, corpora_fetch.SIDE)
        assert (image.getpixel((128, 128))[:3], image.getpixel((0, 0))[:3]) == ((255, 0, 0), (255, 255, 255))  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]
    assert [file.name for file in (tmp_path / "drawn").iterdir()] == ["circle.png"]


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
def test_files_of_a_debian_package_are_read(tmp_path: Path) -> None:
    (tmp_path / "made" / "DEBIAN").mkdir(parents=True)
    control = "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    (tmp_path / "made" / "DEBIAN" / "control").write_text(control)
    (tmp_path / "made" / "a.txt").write_text("text")
    corpora_fetch.run(["dpkg-deb", "--root-owner-group", "-b", "made", "x_1_all.deb"], tmp_path)
    archive = tmp_path / "x_1_all.deb"
    assert dict(corpora_fetch.members(archive, lambda name: name == "a.txt")) == {"a.txt": b"text"}
    assert corpora_fetch.debian_version(archive) == "1"
