"""Real images without a hub: emoji by four vendors and Debian's openclipart as ordinary sources, and a model's accuracy on them.

    python benchmarks/corpora.py fetch        # packages → $PERCEPT_CACHE/corpora (docs/corpora.md)
    python benchmarks/corpora.py report       # zero-shot among the 100 categories → corpora/zeroshot.json next to this file

`fetch` uses npm and apt-get; what a machine lacks is skipped with a notice. Nothing downloaded is part of percept.
"""

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import corpora_clipart as clipart
import corpora_emoji as emoji
import torch
import tyro
from corpora_fetch import Unavailable, debian, debian_version, npm, rasterise
from corpora_table import KINDS, PARTS, Row, read_table, tables, write_sheet, write_table
from harness import facts, save

import percept
from percept.core.io import write_json
from percept.core.report import notice, out, table
from percept.data.sources.index import cache_home
from percept.eval.zeroshot import classifier, judge, prompts
from percept.world.language import CLASS_TEMPLATES
from percept.world.objects import CATEGORIES

RESULTS = KINDS.with_name("zeroshot.json")
CORPORA = ("emoji", "openclipart")
CODE = ("corpora_emoji.py", "corpora_clipart.py", "corpora_table.py", "corpora_fetch.py", "corpora/kinds.json")
"""Files on which the content of a corpus depends: it is made again after a change."""


def home() -> Path:
    """Return the folder of the corpora."""
    return cache_home().with_name("corpora")


def fetch() -> None:
    """Download the packages and write the images and tables of every corpus that is not there yet."""
    for name, make in {"emoji": make_emoji, "openclipart": make_openclipart}.items():
        folder = home() / name
        if _is_ready(folder):
            out.print(f"{name}: already in {folder}", soft_wrap=True)
            continue
        try:
            make(folder)
        except Unavailable as error:
            notice(f"{name} is skipped: {error}")


def make_emoji(folder: Path) -> None:
    """Make the corpus of emoji.

    Raises:
        Unavailable: a package cannot be downloaded.
    """
    packages = home() / "packages"
    archives = {vendor.name: npm(vendor.package, packages) for vendor in emoji.VENDORS}
    names = emoji.read_names([npm(package, packages) for package in emoji.CLDR])
    draw = partial(rasterise, tools=home() / "tools")
    used = [*(vendor.package for vendor in emoji.VENDORS), *emoji.CLDR]
    sources = [
        {**vars(package), "address": f"https://www.npmjs.com/package/{package.name}", "sha256": _digest(packages / package.file)}
        for package in used
    ]  # fmt: skip
    replace(folder, lambda part: (emoji.build(archives, names, part, draw), Counter()), sources)


def make_openclipart(folder: Path) -> None:
    """Make the corpus of clip art.

    Raises:
        Unavailable: a package cannot be downloaded.
    """
    svg, png = (debian(f"openclipart-{kind}", home() / "packages") for kind in ("svg", "png"))
    sources = [
        {
            "name": archive.name.split("_")[0],
            "version": debian_version(archive),
            "licence": "public domain",
            "author": "the artist in the table",
            "address": f"https://packages.debian.org/{archive.name.split('_')[0]}",
            "sha256": _digest(archive),
        }
        for archive in (svg, png)
    ]
    replace(folder, lambda part: clipart.build(svg, png, f"openclipart {debian_version(png)}", part), sources)


def replace(
    folder: Path, build: Callable[[Path], tuple[list[Row], Counter[str]]], sources: Sequence[dict[str, Any]]
) -> None:
    """Build a corpus next to its folder, then put it in its place: images, tables, sheets and sources.json."""
    code, part = _code(), folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    rows, left_out = build(part)
    written = list(tables(rows))
    for name, chosen in written:
        write_table(part / f"{name}.csv", chosen)
        if name.startswith("kinds"):
            write_sheet(part / f"{name}.png", part, chosen)
    counts = {name: len(chosen) for name, chosen in written}
    content = {"code": code, "packages": list(sources), "rows": counts, "left out": dict(left_out)}
    write_json(part / "sources.json", content)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    table(f"{folder.name}: {folder}", ("table", "images"), [(f"{name}.csv", count) for name, count in counts.items()])
    if left_out:
        out.print("left out: " + ", ".join(f"{count} {reason}" for reason, count in left_out.items()), soft_wrap=True)


def report(model: str = "nano", json_file: Path | None = RESULTS) -> None:
    """Classify the drawings of known categories among all 100 of the labelled world, zero-shot.

    Args:
        model: name or folder of an encoder.
        json_file: where results go; nothing is written if None.
    """
    start = time.perf_counter()
    sets = {name: rows for corpus in CORPORA for name, rows in known_sets(corpus).items()}
    if not sets:
        notice(f"no corpus in {home()}. Run `python benchmarks/corpora.py fetch` where there is npm or apt-get.")
        return
    classify = classifier(percept.load(model), prompts(list(CATEGORIES), CLASS_TEMPLATES))
    results = [measure(classify, name, rows) for name, rows in sets.items()]
    columns = ("set", "kinds", "images", "top-1 %", "interval", "top-5 %", "mean per kind %", "chance %")
    shown = [tuple(str(each[column]) for column in columns) for each in results]
    table(f"{model}: zero-shot among {len(CATEGORIES)} categories", columns, shown)
    packages = {corpus: _sources(home() / corpus).get("packages", []) for corpus in CORPORA}
    save(json_file, {**facts(torch.device("cpu"), start), "model": model, "packages": packages, "results": results})


def known_sets(corpus: str) -> dict[str, list[dict[str, str]]]:
    """Return the rows of known categories by set: every vendor, and all vendors together. Paths are absolute."""
    folder = home() / corpus
    if not (folder / "kinds.csv").is_file():
        return {}
    rows = [row | {"path": str(folder / row["path"])} for row in read_table(folder / "kinds.csv")]
    vendors = dict.fromkeys(row["vendor"] for row in rows)
    sets = {vendor: [row for row in rows if row["vendor"] == vendor] for vendor in vendors}
    if len(sets) > 1:
        sets[f"{corpus}, all vendors"] = rows
    if unseen := [row for row in rows if row["part"] != "train"]:
        sets[f"{corpus}, part never trained on"] = unseen
    return sets


def measure(classify: Callable[[Any], torch.Tensor], name: str, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Classify images among all categories; percentages, with the Wilson interval of top-1."""
    names = list(CATEGORIES)
    labels = [names.index(row["label"]) for row in rows]
    found = judge(classify([row["path"] for row in rows]), torch.tensor(labels), names, name="category")
    top, five, by_class = found.scores
    return {
        "set": name,
        "kinds": len(set(labels)),
        "images": len(rows),
        "top-1 %": round(100 * top.value, 1),
        "interval": top.interval,
        "top-5 %": round(100 * five.value, 1),
        "mean per kind %": round(100 * by_class.value, 1),
        "chance %": round(100 / len(names), 1),
        "largest kind %": round(100 * max(Counter(labels).values()) / len(labels), 1),
        "parts": {part: count for part in PARTS if (count := sum(row["part"] == part for row in rows))},
        "most confused": [
            f"{each.truth} as {each.guess}: {each.count} of {each.of}" for each in found.confusions if each.count > 1
        ],
    }


def _is_ready(folder: Path) -> bool:
    return _sources(folder).get("code") == _code()


def _sources(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return json.loads((folder / "sources.json").read_text(encoding="utf-8"))
    return {}


def _code() -> str:
    data = b"".join((Path(__file__).parent / name).read_bytes() for name in CODE)
    return hashlib.sha256(data).hexdigest()[:16]


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"fetch": fetch, "report": report})
