"""The guide prints what it shows, and names every task."""

import re

from percept.eval.vlm.tasks import PUBLIC, WORLD
from tests.front_door.test_readme import ROOT, printed_by

GUIDE = (ROOT / "docs" / "evaluating_plm.md").read_text(encoding="utf-8")


def test_the_snippet_prints_what_the_guide_shows():
    ((code, expected),) = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert printed_by(code) == expected


def test_every_task_is_in_a_table():
    rows = [line.split("|")[1] for line in GUIDE.splitlines() if line.startswith("| ")]
    listed = {name.strip() for row in rows for name in row.split(",")}
    assert set(PUBLIC) | set(WORLD) <= listed
