"""Dataclasses to json and back: nothing is lost, nothing unknown gets in."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from percept.core.config import from_dict, from_source, to_dict
from percept.core.errors import PerceptError


@dataclass(frozen=True, kw_only=True)
class Inner:
    width: int
    rates: tuple[float, ...] = (0.1, 0.2)


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    maybe: Inner | None = None
    size: tuple[int, int] | int = 3
    stages: tuple[tuple[int, float], ...] = ((48, 0.5),)
    several: tuple[Inner, ...] = ()
    name: str | None = None
    table: dict[str, int] = field(default_factory=dict)
    word: Literal["one", "two"] = "one"


CASES = [
    Outer(inner=Inner(width=1)),
    Outer(inner=Inner(width=1, rates=()), maybe=Inner(width=2), size=(4, 5), name="x", table={"a": 1}),
    Outer(inner=Inner(width=1), stages=(), several=(Inner(width=3), Inner(width=4, rates=(1.5,)))),
]


@pytest.mark.parametrize("config", CASES)
def test_the_round_trip_through_json_is_exact(config: Outer) -> None:
    again = from_dict(Outer, json.loads(json.dumps(to_dict(config))))
    assert again == config
    assert hash(again.inner) == hash(config.inner)  # tuples came back as tuples


def test_an_unknown_key_is_refused_with_the_nearest_at_any_depth() -> None:
    with pytest.raises(PerceptError, match="unknown Outer field 'innner'; did you mean 'inner'"):
        from_dict(Outer, {"innner": {"width": 1}})
    with pytest.raises(PerceptError, match="unknown Inner field 'widht'; did you mean 'width'"):
        from_dict(Outer, {"inner": {"widht": 1}})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(PerceptError, match="Inner needs the field 'width', got only: rates"):
        from_dict(Outer, {"inner": {"rates": []}})
    with pytest.raises(PerceptError, match="Outer needs the field 'inner', got only: nothing"):
        from_dict(Outer, {})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (5, "Outer must be an object with named fields, got 5"),
        ({"inner": None}, "Inner must be an object with named fields, got None"),
        ({"inner": {"width": "256"}}, "Inner field 'width' takes int, got '256'"),
        ({"inner": {"width": None}}, "Inner field 'width' takes int, got None"),
        ({"inner": {"width": True}}, "Inner field 'width' takes int, got True"),
        ({"inner": {"width": 2.5}}, "Inner field 'width' takes int, got 2.5"),
        ({"inner": {"width": 1, "rates": 3}}, r"'rates' takes tuple\[float, ...\], got 3"),
        ({"inner": {"width": 1, "rates": ["x"]}}, "'rates' takes"),
        ({"inner": {"width": 1}, "size": [1, 2, 3]}, r"'size' takes tuple\[int, int\] | int, got \[1, 2, 3\]"),
        ({"inner": {"width": 1}, "stages": [[48]]}, "'stages' takes"),
        ({"inner": {"width": 1}, "name": 7}, r"'name' takes str | None, got 7"),
        ({"inner": {"width": 1}, "table": []}, r"'table' takes dict\[str, int\], got \[\]"),
        ({"inner": {"width": 1}, "maybe": {"widht": 1}}, "did you mean 'width'"),
        ({"inner": {"width": 1}, "word": 3}, r"'word' takes .*'one', 'two'.*, got 3"),
        ({"inner": {"width": 1}, "word": ["one"]}, r"'word' takes .*, got \['one'\]"),
        ({"inner": {"width": 1}, "table": 1 << 20_000}, r"'table' takes .*, got an integer of 20001 bits"),
    ],
)
def test_a_value_of_another_type_is_refused(data: object, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        from_dict(Outer, data)


def test_changing_what_came_out_does_not_change_what_went_in(tmp_path: Path) -> None:
    config = Outer(inner=Inner(width=1), table={"a": 1})
    to_dict(config)["table"]["a"] = 2
    assert config.table == {"a": 1}


def test_the_file_stands_before_the_reason() -> None:
    assert from_source(Inner, {"width": 2}, "a.json") == Inner(width=2)
    with pytest.raises(PerceptError, match=r"^a\.json: unknown Inner field 'widht'; did you mean 'width'"):
        from_source(Inner, {"widht": 2}, "a.json")
