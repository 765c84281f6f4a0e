"""The table of settings in docs/curation.md is that of the code."""

import ast
import inspect
import json
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from percept.data.curate import STEPS

PAGE = Path(__file__).parents[3] / "docs" / "curation.md"
IN_CODE = {("texts", "boilerplate"): "five patterns, in `rules.py`"}
"""Defaults that are too long for the table."""


def meanings(kind: type[Any]) -> dict[str, str]:
    """Return the text below each field of a dataclass."""
    tree = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(tree, ast.ClassDef)
    return {
        ast.unparse(line.target): str(below.value.value)
        for line, below in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(line, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
    }


def table() -> Iterator[str]:
    for name, where in STEPS.items():
        module, _, kind = where.partition(":")
        step = getattr(import_module(module), kind)
        for field in fields(step):
            default = IN_CODE.get((name, field.name), f"`{json.dumps(field.default)}`")
            yield f"| `{name}` | `{field.name}` | {default} | {meanings(step)[field.name]} |"


def test_the_page_lists_all_settings_and_defaults() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Settings")[2].partition("## Balance")[0]
    assert [line for line in section.splitlines() if line.startswith("| `")] == list(table())
