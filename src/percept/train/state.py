"""Checkpoints: everything a resume needs, by parameter name, written whole or not at all.

Random state is not part of it: batches and random numbers of a step follow from the seed and the step.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from percept.core import dist
from percept.core.errors import PerceptError
from percept.core.io import load_metadata, load_tensors, read_object, replacing, save_tensors, tensors_hash
from percept.optim.master import MasterWeights
from percept.train import shards

CHECKPOINT = "checkpoint.safetensors"
CONFIGURATION = "run.json"
"""File with the configuration of a run."""
MODEL = "config.json"
"""File that a finished run has written."""
FORMAT = "2"


@dataclass(kw_only=True)
class Progress:
    """Where a run stands."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    """Spent training, over all sittings."""
    operations: float = 0.0
    """Floating-point operations of training, over all processes and sittings; see `percept.train.meters`."""
    skipped: int = 0
    """Steps left out because their loss or gradient was not finite."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    """Changes of configuration: {"step": last step with the previous one, "before": its entries that changed}."""
    signal: int = 0
    """Number of the signal that stopped the run, such as that of Ctrl-C; 0 if none did. Not part of a checkpoint."""

    def totals(self) -> dict[str, Any]:
        """Return what a finished model records about its run."""
        counts: dict[str, Any] = {"steps": self.step, "samples": self.samples, "skipped": self.skipped}
        changes = {"changes": self.changes} if self.changes else {}
        return counts | changes | {"seconds": round(self.seconds, 1), "operations": self.operations}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Saves and restores one run in a folder. Every process of the run calls both methods."""

    folder: Path
    task: nn.Module
    optimiser: MasterWeights
    config: dict[str, Any]
    shard: bool = False
    keep: int = 1
    """Latest checkpoints to keep."""
    keep_every: int = 0
    """Checkpoints of steps that this number divides are kept for good; 0 for none."""
    data: str = ""
    """Identity of the training data; empty if it has none."""

    @property
    def present(self) -> bool:
        """True if the folder holds a checkpoint of either kind."""
        return (self.folder / CHECKPOINT).is_file() or (self.folder / shards.INDEX).is_file()

    def save(self, progress: Progress) -> None:
        """Write masters, optimiser state, every other parameter and buffer, progress and configuration.

        Raises:
            PerceptError: the disk is full or refuses. The previous checkpoint stands.
        """
        texts = {
            "format": FORMAT,
            "progress": json.dumps(asdict(replace(progress, signal=0))),
            "config": json.dumps(self.config),
            "optimiser": json.dumps(self.optimiser.description()),
            "data": self.data,
        }
        tensors = self.optimiser.tensors() | {
            f"model.{name}": value for name, value in whole_state(self.task) if name not in self.optimiser.pairs
        }
        if self.shard:
            shards.save(self.folder, tensors, texts, progress.step, kept=self.kept)
            return
        dist.on_first(lambda: self._write(tensors, texts, progress.step))

    def _write(self, tensors: dict[str, Tensor], texts: dict[str, str], step: int) -> None:
        local = {name: value.detach().cpu() for name, value in tensors.items()}
        save_tensors(self.folder / CHECKPOINT, local, texts | {"hash": tensors_hash(local, texts)})
        self._keep_copy(step)

    def kept(self, steps: Sequence[int], now: int) -> set[int]:
        """Return which of the checkpoints of some steps are kept at step `now`."""
        latest = sorted(step for step in steps if step <= now)[-self.keep :]
        return {now, *latest, *(step for step in steps if self.keep_every and step % self.keep_every == 0)}

    def _keep_copy(self, step: int) -> None:
        """Give the checkpoint a second name with its step if it is kept when the next one is written, and remove old ones."""
        named = shards.by_step(self.folder, Path(CHECKPOINT).suffix)
        for old in named.keys() - self.kept([*named, step], step):
            named[old].unlink(missing_ok=True)
        self._link(step)

    def _link(self, step: int) -> None:
        """Give the checkpoint its second name: a hard link, which takes no space; a copy on file systems without links."""
        path = self.folder / CHECKPOINT
        if self.keep == 1 and not (self.keep_every and step % self.keep_every == 0):
            return
        with replacing(path.with_name(f"{path.stem}-{step}{path.suffix}")) as temporary:
            temporary.unlink(missing_ok=True)
            try:
                os.link(path, temporary)
            except OSError:
                shutil.copyfile(path, temporary)

    def load(self, *, replan: bool = False) -> Progress | None:
        """Restore a run where it stopped; return None in a folder without a checkpoint.

        Args:
            replan: resume although the configuration, the optimiser or the set of frozen parameters has changed. The
                change is recorded in the progress, and so with the finished model. Weights are restored exactly; the
                optimiser state of a parameter whose optimiser has changed starts anew.

        Raises:
            PerceptError: the folder holds a run of another configuration, or its model, or the checkpoint is damaged.
        """
        source = self.folder / (shards.INDEX if self.shard else CHECKPOINT)
        if not source.is_file():
            if self.present:
                raise PerceptError(
                    f"{self.folder} holds a run with a different value of shard. Use that value, or another folder."
                )
            self._check_model()
            return None
        texts = shards.texts(self.folder) if self.shard else load_metadata(source)
        facts = _parsed(texts, source)
        tensors = self._read(source, texts)
        progress = Progress(**facts["progress"])
        described = self.optimiser.description()
        self._compare(facts, described, progress, data=texts.get("data", ""), replan=replan)
        values = {key.split(".", 1)[1]: each for key, each in tensors.items() if key.startswith(("master.", "model."))}
        _check_fit(dict(whole_state(self.task)), values, source)
        changed = frozenset(
            name for name, settings in described.items() if not _same_kind(facts["optimiser"].get(name), settings)
        )
        self.optimiser.restore(values, tensors, skip=changed)
        with torch.no_grad():
            for name, value in whole_state(self.task):
                if name not in self.optimiser.pairs:
                    value.copy_(values[name])
        if not self.shard:
            dist.on_first(lambda: self._link(progress.step))  # a process that was killed may have left it without
        return progress

    def _read(self, source: Path, texts: dict[str, str]) -> dict[str, Tensor]:
        if self.shard:
            return shards.load(self.folder, dict(whole_state(self.task)))
        tensors = load_tensors(source)
        stated = texts.get("hash")
        if stated != tensors_hash(tensors, {key: value for key, value in texts.items() if key != "hash"}):
            raise PerceptError(
                f"{source} is damaged: its contents do not match its checksum. "
                "Delete it to start from the beginning, or restore a copy."
            )
        return tensors

    def _check_model(self) -> None:
        """Raise a PerceptError if the folder holds a finished model of another configuration, without its checkpoint."""
        stored = read_object(self.folder / CONFIGURATION) if (self.folder / MODEL).is_file() else {}
        if stored and (changed := different(stored, self.config)):
            raise PerceptError(
                f"{self.folder} holds a finished model that was trained with different values of {', '.join(changed)}. "
                "Use another folder, or delete it."
            )

    def _compare(
        self, facts: Mapping[str, Any], described: Mapping[str, Any], progress: Progress, *, data: str, replan: bool
    ) -> None:
        stored, config = facts["config"], self.config
        changed = different(stored, config)
        before = {key: stored.get(key) for key in dict.fromkeys(name.split(".")[0] for name in changed)}
        if data and self.data and data != self.data:
            changed.append("training data")
            before["training data"] = data
        if not changed and facts["optimiser"].keys() != described.keys():
            changed = ["set of frozen parameters"]
            before = {"frozen": sorted(described.keys() - facts["optimiser"].keys())}
            before |= {"trained": sorted(facts["optimiser"].keys() - described.keys())}
        if not changed and facts["optimiser"] != described:
            changed, before = ["optimiser"], {"optimiser": next(iter(facts["optimiser"].values()), None)}
        if not changed:
            return
        if not replan:
            raise PerceptError(
                f"{self.folder} holds a run with different values of {', '.join(changed)}. Use another folder, delete "
                f"it, or resume at its step {progress.step} with the new values: --replan"
            )
        progress.changes.append({"step": progress.step, "before": before})


def different(stored: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Return the names of the entries that differ, those of nested settings with dots. An absent entry is equal to None.

    >>> different({"a": 1, "settings": {"steps": 2, "batch": 8}}, {"a": 1, "settings": {"steps": 3, "batch": 8}, "b": 4})
    ['b', 'settings.steps']
    """
    names = []
    for key in sorted(stored.keys() | config.keys()):
        before, now = stored.get(key), config.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            names += [f"{key}.{name}" for name in different(before, now)]
        elif before != now:
            names.append(key)
    return names


def whole_state(task: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every parameter and persistent buffer once, by name; frozen ones included, as a teacher may change."""
    persistent = task.state_dict(keep_vars=True)
    for name, value in (*task.named_parameters(), *task.named_buffers()):
        if name in persistent:
            yield name, value


def _parsed(texts: dict[str, str], source: Path) -> dict[str, Any]:
    if texts.get("format") != FORMAT:
        raise PerceptError(
            f"{source} is not a checkpoint of this version of percept and cannot be resumed. "
            "Use another folder, or delete it."
        )
    try:
        facts = {name: json.loads(texts[name]) for name in ("progress", "config", "optimiser")}
        Progress(**facts["progress"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise PerceptError(
            f"{source} is damaged: its description cannot be read. "
            "Delete it to start from the beginning, or restore a copy."
        ) from None
    return facts


def _same_kind(stored: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> bool:
    return stored is not None and stored["class"] == settings["class"]


def _check_fit(wanted: Mapping[str, Tensor], values: Mapping[str, Tensor], source: Path) -> None:
    """Raise a PerceptError if names or shapes of a task and a checkpoint differ."""
    different = sorted(wanted.keys() ^ values.keys())
    different += [name for name in wanted.keys() & values.keys() if wanted[name].shape != values[name].shape]
    if different:
        raise PerceptError(
            f"{source} does not fit this model: {', '.join(different[:4])} differ. Use another folder, or delete it."
        )
