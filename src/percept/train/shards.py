"""Checkpoints of sharded runs, written by `torch.distributed.checkpoint`: each process writes its shards.

A checkpoint is a folder of its own. A small index names it, replaced in one step when the folder is complete, so that an
interrupted save leaves the previous checkpoint in place. Another number of processes can read it.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader

from percept.core import dist
from percept.core.errors import PerceptError
from percept.core.io import file_hash, read_json, write_json

INDEX = "checkpoint.json"


def save(
    folder: Path,
    tensors: dict[str, Tensor],
    texts: dict[str, str],
    step: int,
    *,
    kept: Callable[[Sequence[int], int], set[int]],
) -> None:
    """Write the shards of this process, then, on rank 0, the index; checkpoints that are not kept are removed.

    The index of each checkpoint is also written as checkpoint-STEP.json. Copied to checkpoint.json, it selects that one.

    Args:
        kept: returns which of several checkpoints are kept at a step.

    Raises:
        PerceptError: the disk is full or refuses. The previous checkpoint stands.
    """
    target = folder / f"checkpoint-{step}"
    dist.on_first(lambda: shutil.rmtree(target, ignore_errors=True))
    try:
        state_dict_saver.save(dict(tensors), checkpoint_id=target)
    except (OSError, CheckpointException) as error:
        raise PerceptError(f"{target} cannot be written: {str(error).splitlines()[0]}") from None
    dist.on_first(lambda: _publish(folder, step, texts, kept))


def _publish(folder: Path, step: int, texts: dict[str, str], kept: Callable[[Sequence[int], int], set[int]]) -> None:
    target = folder / f"checkpoint-{step}"
    hashes = {path.name: file_hash(path) for path in sorted(target.iterdir())}
    index = {"folder": target.name, "texts": texts, "hashes": hashes}
    write_json(folder / f"{target.name}.json", index)
    write_json(folder / INDEX, index)
    indices, folders = by_step(folder, ".json"), by_step(folder, "")
    keep = kept(list(indices), step)
    for old in indices.keys() - keep:
        indices[old].unlink(missing_ok=True)
    for old in folders.keys() - keep:
        shutil.rmtree(folders[old], ignore_errors=True)


def by_step(folder: Path, ending: str) -> dict[int, Path]:
    """Return the checkpoints named checkpoint-STEP with an ending, by step."""
    names = {
        path: path.stem.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*") if path.suffix == ending
    }
    return {int(name): path for path, name in names.items() if name.isdecimal()}


def texts(folder: Path) -> dict[str, str]:
    """Return the texts that were saved with the shards.

    Raises:
        PerceptError: the index is damaged, or a file of the checkpoint is missing or damaged.
    """
    index = read_json(folder / INDEX)
    parts = [index.get(name) for name in ("texts", "hashes")] if isinstance(index, dict) else []
    if not parts or not all(isinstance(part, dict) for part in parts) or not isinstance(index.get("folder"), str):
        raise PerceptError(f"{folder / INDEX} is damaged. Delete it to start from the beginning, or restore a copy.")
    target = folder / index["folder"]
    for name, stated in dist.on_first(lambda: _hashes(target, index["hashes"])).items():
        if stated != index["hashes"][name]:
            raise PerceptError(f"{target / name} is missing or damaged. Delete {target} to start from the beginning.")
    return index["texts"]


def _hashes(target: Path, stated: Mapping[str, str]) -> dict[str, str]:
    return {name: file_hash(target / name) if (target / name).is_file() else "" for name in stated}


def load(folder: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the shards of this process.

    Args:
        folder: the run folder.
        state: parameters and buffers of the task; what belongs to one is sharded as it is.
    """
    reader = FileSystemReader(folder / str(read_json(folder / INDEX)["folder"]))
    holders = {}
    for key, facts in reader.read_metadata().state_dict_metadata.items():
        kind, rest = key.split(".", 1)
        like = state.get(rest.split(" ", 1)[0] if kind == "state" else rest)
        size, dtype = getattr(facts, "size"), getattr(facts, "properties").dtype  # noqa: B009 - a union without them
        if like is not None and like.shape == size:
            holders[key] = torch.zeros_like(like, dtype=dtype)
        else:
            holders[key] = torch.zeros(size, dtype=dtype)
    state_dict_loader.load(holders, storage_reader=reader)
    return {key: value.detach() for key, value in holders.items()}
