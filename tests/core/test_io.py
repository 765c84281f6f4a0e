"""Files are written whole or not at all, and read with an answer a person understands."""

from pathlib import Path

import pytest
import torch

from percept.core.errors import PerceptError
from percept.core.io import (
    append_json_line,
    content_hash,
    load_metadata,
    load_tensors,
    read_json,
    replacing,
    same_tensors,
    save_tensors,
    write_json,
)


def interrupted(target: Path) -> None:
    with replacing(target) as part:
        part.write_text("half of the n")
        raise KeyboardInterrupt


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "file.txt"
    with replacing(target) as part:
        part.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(target)
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_nobody_sees_a_half_written_file(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    with replacing(target) as part:
        part.write_text("new")
        assert not target.exists()
        assert part.parent == target.parent  # the same file system, so that the exchange is one move
    assert target.read_text() == "new"


def test_json_keeps_letters_and_says_what_is_wrong(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"text": "größe 大", "list": [1, 2]})
    assert "größe 大" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"text": "größe 大", "list": [1, 2]}
    with pytest.raises(PerceptError, match="there is no file"):
        read_json(tmp_path / "b.json")
    for broken in (b"{", b"\xff\xfe\x00"):
        (tmp_path / "c.json").write_bytes(broken)
        with pytest.raises(PerceptError, match="not a json file"):
            read_json(tmp_path / "c.json")


def test_a_value_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", [object()])
    assert read_json(tmp_path / "a.json") == [1]


def test_json_lines_are_appended(tmp_path: Path) -> None:
    for step in range(3):
        append_json_line(tmp_path / "m.jsonl", {"step": step})
    assert (tmp_path / "m.jsonl").read_text() == '{"step": 0}\n{"step": 1}\n{"step": 2}\n'


def test_tensors_keep_bits_types_shapes_and_texts(tmp_path: Path) -> None:
    tensors = {
        "strided": torch.arange(12.0).reshape(3, 4).T,
        "half": torch.randn(3).bfloat16(),
        "scalar": torch.tensor(float("inf")),
        "empty": torch.empty(0, 2),
        "ids": torch.tensor([1, 2**40]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    save_tensors(tmp_path / "t.safetensors", tensors, {"note": "grün"})
    assert same_tensors(load_tensors(tmp_path / "t.safetensors"), tensors)
    assert load_metadata(tmp_path / "t.safetensors") == {"note": "grün"}
    save_tensors(tmp_path / "u.safetensors", tensors)
    assert load_metadata(tmp_path / "u.safetensors") == {}


@pytest.mark.parametrize("read", [load_tensors, load_metadata])
def test_broken_and_missing_tensor_files(tmp_path: Path, read) -> None:
    save_tensors(tmp_path / "t.safetensors", {"a": torch.randn(100)})
    data = (tmp_path / "t.safetensors").read_bytes()
    for broken in (b"", data[:20], data[:-1], b"not tensors at all, but long enough to have a header"):
        (tmp_path / "t.safetensors").write_bytes(broken)
        with pytest.raises(PerceptError, match="not a complete safetensors file"):
            read(tmp_path / "t.safetensors")
    with pytest.raises(PerceptError, match="there is no file"):
        read(tmp_path / "other.safetensors")


def test_same_tensors_sees_every_difference() -> None:
    base = {"a": torch.ones(2)}
    assert same_tensors(base, {"a": torch.ones(2)})
    for other in ({"b": torch.ones(2)}, {"a": torch.ones(3)}, {"a": torch.ones(2).double()}, {"a": torch.zeros(2)}, {}):
        assert not same_tensors(base, other)


def test_same_tensors_compares_bits() -> None:
    nan = torch.tensor([float("nan"), 0.0, 1.0])
    assert same_tensors({"a": nan, "b": nan[0].half()}, {"a": nan.clone(), "b": nan[0].half()})
    assert not same_tensors({"a": torch.zeros(2)}, {"a": -torch.zeros(2)})


def test_the_hash_is_of_the_content() -> None:
    assert content_hash(b"a") != content_hash(b"b")
    assert len(content_hash(b"")) == 32
