import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from percept.core.errors import PerceptError
from percept.data.sources import scan

VALUES = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\[]{},\n '),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('a"\\,'), inner),
)


def parts(file: Path, spans: Any) -> list[bytes]:
    data = file.read_bytes()
    return [data[start:stop] for start, stop in zip(spans["start"], spans["stop"], strict=True)]


@pytest.fixture(params=[1, 3, 1 << 20])
def _chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "CHUNK", request.param)


@pytest.mark.usefixtures("_chunk")
@given(st.lists(VALUES, max_size=6), st.sampled_from([None, 1]))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_elements_of_a_list(tmp_path: Path, values: list[Any], indent: int | None) -> None:
    file = tmp_path / "list.json"
    file.write_text("\n " + json.dumps(values, indent=indent) + "\n")
    assert [json.loads(part) for part in parts(file, scan.element_spans(file))] == values


@pytest.mark.usefixtures("_chunk")
@given(st.lists(st.text(alphabet='a"\\é ', min_size=1), max_size=8), st.booleans())
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines(tmp_path: Path, lines: list[str], end: bool) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text("\n\n".join(json.dumps(line) for line in lines) + ("\r\n" if end else ""), newline="")
    assert [json.loads(part) for part in parts(file, scan.line_spans(file))] == lines


@pytest.mark.usefixtures("_chunk")
@given(st.lists(st.lists(st.text(alphabet='a"\n,'), min_size=2, max_size=2), max_size=8))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_records_of_a_table(tmp_path: Path, rows: list[list[str]]) -> None:
    import csv

    file = tmp_path / "table.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(rows)
    found = [next(csv.reader(part.decode().splitlines(keepends=True))) for part in parts(file, scan.record_spans(file))]
    assert found == rows


def test_a_list_that_is_cut_and_two_lists(tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    file.write_text('[{"a": 1}, {"a": ')
    assert parts(file, scan.element_spans(file)) == [b'{"a": 1}', b' {"a": ']
    file.write_text("[1, 2][3]")
    with pytest.raises(PerceptError, match="more than one json list"):
        scan.element_spans(file)
