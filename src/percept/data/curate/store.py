"""The working folder of a curation: chunks of rows, and what every step measured and decided, one file per chunk.

Files are written atomically and hold no time or place, so that a file that exists is complete and equal inputs give equal
bytes. A step never copies rows: a decision lists the rows that remain, and the captions and columns that changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from percept.core.io import replacing
from percept.data.curate.readers import arrow
from percept.data.curate.tables import IMAGE, KEY, TEXTS

Arrays = dict[str, np.ndarray]
ROW, REASON, KEPT = "row", "reason", "captions kept"
"""Columns of a decision: the row's number in its chunk, why it is removed, and which of its captions remain."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a step decides about the rows of a chunk."""

    reasons: Sequence[str | None]
    """Why each row is removed; None for a row that remains."""
    texts: Sequence[Sequence[str]] | None = None
    """New captions of each row; those of removed rows are ignored. Unchanged if None."""
    added: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """New columns, one value per row."""
    kept: Sequence[Sequence[bool]] | None = None
    """True for each caption that remains; None if the step does not remove single captions."""


@dataclass(frozen=True)
class Chunk:
    """The rows of one chunk that remain, with their captions as they are now."""

    number: int
    rows: np.ndarray
    """Numbers of the remaining rows within the chunk as it was read."""
    table: Any
    """Arrow table of the remaining rows."""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def keys(self) -> list[str]:
        """Key of each row."""
        return self.table[KEY].to_pylist()

    @cached_property
    def texts(self) -> list[list[str]]:
        """Captions of each row."""
        return self.table[TEXTS].to_pylist()

    @cached_property
    def images(self) -> list[str | bytes | None]:
        """Path or bytes of each row's image; paths are relative to the folder of the result."""
        return self.table[IMAGE].to_pylist()

    def column(self, name: str, default: Any = None) -> list[Any]:
        """Return the values of a column; `default` for each row if there is no such column."""
        return self.table[name].to_pylist() if name in self.table.column_names else [default] * len(self)

    @cached_property
    def flat(self) -> list[str]:
        """All captions, row by row."""
        return [text for texts in self.texts for text in texts]

    @cached_property
    def owners(self) -> np.ndarray:
        """Position in the chunk of the row that each caption of `flat` belongs to."""
        return np.repeat(np.arange(len(self)), [len(texts) for texts in self.texts])

    def per_text(self, removed: Sequence[str | None], added: Mapping[str, Sequence[Any]] | None = None) -> Decision:
        """Return the decision that removes single captions; a row without captions is removed for its first caption's reason.

        Args:
            removed: why each caption of `flat` is removed; None if it remains.
            added: new columns.
        """
        kept: list[list[str]] = [[] for _ in range(len(self))]
        masks: list[list[bool]] = [[] for _ in range(len(self))]
        reasons: list[str | None] = [None] * len(self)
        for text, row, reason in zip(self.flat, self.owners, removed, strict=True):
            masks[row].append(reason is None)
            if reason is None:
                kept[row].append(text)
            elif reasons[row] is None:
                reasons[row] = reason
        reasons = [
            None if texts else reason or "there is no caption" for texts, reason in zip(kept, reasons, strict=True)
        ]
        return Decision(reasons=reasons, texts=kept, added=added or {}, kept=masks)


@dataclass(frozen=True)
class Store:
    """Names and files of a working folder."""

    folder: Path

    def chunk_file(self, number: int) -> Path:
        """Return the file with the rows of a chunk."""
        return self.folder / "rows" / f"{number:06d}.parquet"

    def step_file(self, step: int, kind: str, number: int) -> Path:
        """Return the file of a step for one chunk; `kind` is "decided" or "measured-PASS"."""
        ending = "parquet" if kind == "decided" else "npz"
        return self.folder / f"step-{step:02d}" / kind / f"{number:06d}.{ending}"

    def state_file(self, step: int, turn: int) -> Path:
        """Return the file with what pass `turn` of a step found in all chunks together."""
        return self.folder / f"step-{step:02d}" / f"state-{turn}.npz"

    def count(self) -> int:
        """Return the number of chunks."""
        return len(list((self.folder / "rows").glob("*.parquet")))

    def decided(self, step: int, number: int) -> Any:
        """Return the decision table of a step for a chunk."""
        return read_table(self.step_file(step, "decided", number))

    def chunk(self, number: int, step: int) -> Chunk:
        """Return the rows of a chunk that the steps before `step` left."""
        table = read_table(self.chunk_file(number))
        rows = np.arange(len(table))
        for earlier in range(step):
            decided = self.decided(earlier, number)
            mask = decided[REASON].is_null()
            table, rows = table.filter(mask), rows[mask.to_numpy()]
            kept = decided.filter(mask)
            for name in kept.column_names:
                if name in (ROW, REASON, KEPT):
                    continue
                place = table.column_names.index(name) if name in table.column_names else None
                column = kept[name]
                table = table.append_column(name, column) if place is None else table.set_column(place, name, column)
        return Chunk(number, rows, table)

    def write_decision(self, step: int, chunk: Chunk, decision: Decision) -> None:
        """Write what a step decided about a chunk."""
        pa = arrow()
        columns: dict[str, Any] = {
            ROW: pa.array(chunk.rows, pa.int32()),
            REASON: pa.array(decision.reasons, pa.string()),
        }
        if decision.texts is not None:
            columns[TEXTS] = pa.array([list(texts) for texts in decision.texts], pa.list_(pa.string()))
        if decision.kept is not None:
            columns[KEPT] = pa.array([list(mask) for mask in decision.kept], pa.list_(pa.bool_()))
        for name, values in decision.added.items():
            columns[name] = pa.array(values)
        write_table(self.step_file(step, "decided", chunk.number), pa.table(columns))


@dataclass(frozen=True)
class Parts:
    """What a pass measured, chunk by chunk; read from the disk at every iteration."""

    files: Sequence[Path]

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Arrays]:
        return map(load_arrays, self.files)

    def joined(self, name: str) -> np.ndarray:
        """Return one array of all chunks, in order."""
        return np.concatenate([load_arrays(file, name)[name] for file in self.files])

    def starts(self, name: str) -> np.ndarray:
        """Return the position in `joined` at which each chunk begins, and the total at the end."""
        return np.cumsum([0, *(len(load_arrays(file, name)[name]) for file in self.files)])


def read_table(file: Path) -> Any:
    """Read a parquet file of the working folder."""
    return arrow().parquet.read_table(file, memory_map=False)


def write_table(file: Path, table: Any) -> None:
    """Write a parquet file atomically."""
    with replacing(file) as temporary:
        arrow().parquet.write_table(table, temporary, compression="zstd")


def save_arrays(file: Path, arrays: Arrays) -> None:
    """Write arrays atomically, without pickle; equal arrays give equal bytes."""
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)  # type: ignore[arg-type]


def load_arrays(file: Path, *names: str) -> Arrays:
    """Read the named arrays of a file, or all."""
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in (names or stored.files)}


def pack_texts(texts: Sequence[str]) -> np.ndarray:
    """Return texts without line breaks as bytes.

    >>> unpack_texts(pack_texts(["a cup", "猫"]))
    ['a cup', '猫']
    """
    return np.frombuffer("\n".join(texts).encode("utf-8", "surrogatepass"), dtype=np.uint8)


def unpack_texts(packed: np.ndarray) -> list[str]:
    """Return the texts of `pack_texts`."""
    return packed.tobytes().decode("utf-8", "surrogatepass").split("\n") if len(packed) else []
