"""The guide to clips prints what it shows, and its tables name all events; contact sheets are images."""

import re
from pathlib import Path

import pytest
from PIL import Image

from percept.world.clips import ACTIONS, CAMERA_KINDS, generate_clip
from percept.world.clips.sheet import save_sheet
from tests.front_door.test_readme import ROOT, printed_by

GUIDE = (ROOT / "docs" / "world_clips.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", GUIDE, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(3))
def test_a_snippet_prints_what_the_guide_shows(number: int) -> None:
    assert len(SNIPPETS) == 3
    code, expected = SNIPPETS[number]
    assert printed_by(code) == expected


def test_all_events_are_listed() -> None:
    rows = [line.split("|")[1] for line in GUIDE.splitlines() if line.startswith("| ")]
    listed = {kind.strip() for row in rows for kind in row.split(",")}
    assert {*ACTIONS, *CAMERA_KINDS} <= listed


def test_a_contact_sheet(tmp_path: Path) -> None:
    save_sheet(tmp_path / "sheet.png", [generate_clip(seed, frames=8, size=48) for seed in range(2)], columns=4)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 500
        assert len(sheet.getcolors(2**20) or range(2**20)) > 100
