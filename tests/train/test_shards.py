"""The index of sharded checkpoints: damaged and missing files are refused before anything is loaded."""

from pathlib import Path

import pytest

from percept.core.errors import PerceptError
from percept.core.io import file_hash, write_json
from percept.train import shards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "checkpoint-3"
    target.mkdir()
    (target / "__0_0.distcp").write_bytes(b"shard")
    hashes = {"__0_0.distcp": file_hash(target / "__0_0.distcp")}
    write_json(tmp_path / shards.INDEX, {"folder": "checkpoint-3", "texts": {"format": "2"}, "hashes": hashes})
    return tmp_path


def test_texts_come_back_if_every_file_is_whole(folder: Path) -> None:
    assert shards.texts(folder) == {"format": "2"}


def test_a_damaged_or_missing_shard_is_refused(folder: Path) -> None:
    shard = folder / "checkpoint-3" / "__0_0.distcp"
    shard.write_bytes(b"shart")
    with pytest.raises(PerceptError, match="missing or damaged"):
        shards.texts(folder)
    shard.unlink()
    with pytest.raises(PerceptError, match="missing or damaged"):
        shards.texts(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"folder": "checkpoint-3"}', '{"folder": 1, "texts": {}, "hashes": 2}'])
def test_a_damaged_index_is_refused(folder: Path, text: str) -> None:
    (folder / shards.INDEX).write_text(text)
    with pytest.raises(PerceptError, match=r"damaged|not a json file"):
        shards.texts(folder)
