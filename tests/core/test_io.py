"""Files are written whole or not at all, and read with an answer a person understands."""

from pathlib import Path

import pytest
import torch

from percept.core.errors import PerceptError
from percept.core.io import (
    LARGEST_JSON,
    append_json_line,
    content_hash,
    load_metadata,
    load_tensors,
    read_json,
    reasons,
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


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' + "9" * 6000 + "}", "{", "", "\xff"])
def test_json_of_any_kind_of_damage_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(PerceptError, match=r"a\.json is not a json file that can be read"):
        read_json(tmp_path / "a.json")


def test_what_is_not_a_regular_file_is_not_read_as_json(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for name in ("folder", "loop", "zero"):
        with pytest.raises(PerceptError, match=f"{name}.json is not a regular file"):
            read_json(tmp_path / f"{name}.json")
    with pytest.raises(PerceptError, match="there is no file"):
        read_json("a" * 5000)


def test_json_of_too_many_bytes_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(LARGEST_JSON + 1)
    with pytest.raises(PerceptError, match="at most 67108864 bytes"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("error", [IndexError("a\nb"), MemoryError(), OSError(5, "Input/output error"), KeyError("k")])
def test_any_error_of_a_parser_becomes_the_reason(error: Exception) -> None:
    with pytest.raises(PerceptError, match=r"^a\.pt cannot be read: [^\n]+$"), reasons("a.pt"):
        raise error
    with pytest.raises(PerceptError, match=r"^ours$"), reasons("a.pt"):
        raise PerceptError("ours")
