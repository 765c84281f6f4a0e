"""The guide to the world keeps its word: its Python prints what it shows."""

import re

import pytest

from tests.front_door.test_readme import ROOT, printed_by

GUIDE = (ROOT / "docs" / "world.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", GUIDE, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(4))
def test_a_snippet_prints_what_the_guide_shows(number: int) -> None:
    assert len(SNIPPETS) == 4
    code, expected = SNIPPETS[number]
    assert printed_by(code) == expected
