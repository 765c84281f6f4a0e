"""The pages about data print what they show, for files of the kinds that they describe."""

import json
import re
from pathlib import Path

import pytest

from tests.data.sources import made
from tests.front_door.test_readme import ROOT, printed_by

PAGES = [
    "data.md",
    "augmentation.md",
    *(f"formats/{page.name}" for page in sorted((ROOT / "docs" / "formats").glob("*.md"))),
]
NEEDS = {"formats/arrow.md": ("pyarrow", "datasets"), "formats/webdataset.md": ("av",), "formats/written.md": ("av",)}


def make_files(folder: Path, page: str) -> None:
    for number in range(8):
        (made.class_folder(folder / "photos") / f"class_{number % 2}" / f"{number}.txt").write_text(f"caption {number}")
    made.table(folder / "rows.csv")
    made.json_lines(folder / "rows.jsonl")
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cup."}]
    made.json_lines(folder / "talks.jsonl", [{"id": "7", "image": "images/1.png", "conversations": turns}] * 4)
    if page == "formats/webdataset.md":
        from tests.data.sources.test_readers import pvd

        for number in range(3):
            samples = {f"{row:04d}": made.members(row) for row in range(9) if row % 3 == number}
            made.shard(folder / "shards" / f"part-{number:03d}.tar", samples)
        pvd(folder / "pvd")
    if page == "formats/arrow.md":
        import datasets

        made.parquet(folder / "rows.parquet")
        datasets.Dataset(made.arrow_table()).save_to_disk(folder / "saved")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_prints_what_it_shows(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in NEEDS.get(page, ()):
        pytest.importorskip(library)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", text, flags=re.DOTALL)
    assert snippets
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))
    make_files(tmp_path, page)
    monkeypatch.chdir(tmp_path)
    assert printed_by("".join(code for code, _ in snippets)) == "".join(expected for _, expected in snippets)


def test_links_of_the_pages_lead_to_files() -> None:
    for page in PAGES:
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#]+)", text):
            assert ((ROOT / "docs" / page).parent / link).is_file(), link


def test_reasons_named_in_the_guide_are_those_of_the_code() -> None:
    guide = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/percept/data/sources").glob("*.py"))
    named = re.findall(r"`([a-z A-Z0-9-]+)`", guide.split("Reasons are few words")[1].split(".\n")[0])
    assert len(named) == 12
    assert all(json.dumps(reason) in code for reason in named)
