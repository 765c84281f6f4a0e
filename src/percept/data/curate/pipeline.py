"""Run the steps of a curation over chunks of rows: streaming, resumable after a kill at any time, equal bytes for equal input.

The result is a folder: `rows-00000.parquet` (or .jsonl) and so on, `report.json`, `report.html`, and `curation.json`, which is
written last. Until then the folder `.work` holds what is finished; the same command continues from there.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from percept.core.config import to_dict
from percept.core.errors import PerceptError, unknown_name
from percept.core.io import content_hash, file_hash, locked, read_json, write_json
from percept.core.leftovers import remove_leftovers
from percept.core.report import notice, track
from percept.data.curate.engines import Run, check, open_engine
from percept.data.curate.output import FORMATS, write_rows
from percept.data.curate.readers import BadRows
from percept.data.curate.report import make_report, rows_around, write_page
from percept.data.curate.step import Place, Step, Tools
from percept.data.curate.store import Arrays, Parts, Store, load_arrays, save_arrays, write_table
from percept.data.curate.tables import Columns, identity, read_chunks, source_files

VERSION = 2
"""Raise it when equal input gives a different result."""
LITTLE = 0.1
"""A step that leaves a smaller share of its rows gives a notice."""
WORK, LOCK, RECORD, REPORT, PAGE = ".work", ".lock", "curation.json", "report.json", "report.html"


@dataclass(frozen=True, kw_only=True)
class Curation:
    """A source, the steps it goes through, and the folder of the result."""

    source: Path
    out: Path
    steps: Mapping[str, Step]
    """Step by name, in order."""
    columns: Columns = field(default_factory=Columns)
    format: str = "parquet"
    """"parquet" or "jsonl"."""
    tools: Tools = field(default_factory=Tools)
    engine: str = "local"
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown_name("format", self.format, FORMATS)
        check(self.engine, self.workers)
        for name, step in self.steps.items():
            if missing := [need for need in step.needs if getattr(self.tools, need) is None]:
                raise PerceptError(
                    f"step {name} needs a model that gives {' and '.join(missing)}. Give one, or leave it out."
                )

    @property
    def store(self) -> Store:
        """Return the working folder."""
        return Store(self.out / WORK)

    def _place(self, number: int, tools: Tools) -> Place:
        """Return where step `number` runs."""
        folder = self.store.folder
        return Place(
            root=self.out.resolve(), vectors=folder / "vectors", step=folder / f"step-{number:02d}", tools=tools
        )

    def run(self) -> dict[str, Any]:
        """Run or resume the curation, and return the report.

        Raises:
            PerceptError: the source cannot be read or has no usable rows, or `out` holds something else or is being written.
        """
        plan = self._plan()
        if (done := self._finished(plan)) is not None:
            return done
        self.store.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.store.folder / LOCK, f"another process is writing {self.out}. Wait until it has ended."):
            return self._finished(plan) or self._work(plan)

    def _work(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Do what is missing, and return the report."""
        for folder in self.store.folder.rglob("*"):
            if folder.is_dir():
                remove_leftovers(folder)
        remove_leftovers(self.out)
        write_json(self.store.folder / "plan.json", plan)
        bad = self._read()
        with open_engine(self.engine, self.workers, self.store.count()) as run:
            done = self._steps(run)
        return self._finish(plan, bad, done)

    def _steps(self, run: Run) -> dict[str, Step]:
        """Run the steps until no row remains, and return those that were run."""
        done: dict[str, Step] = {}
        for number, (name, step) in enumerate(self.steps.items()):
            self._step(number, name, step, run)
            done[name] = step
            before, after = rows_around(self.store, number)
            if not after:
                notice(f"step {name} removed all {before:,} rows. report.html lists the reasons.")
                break
            if after < LITTLE * before:
                notice(
                    f"step {name} removed {1 - after / before:.1%} of {before:,} rows. report.html lists the reasons."
                )
        return done

    def _plan(self) -> dict[str, Any]:
        """Return what the result depends on."""
        files = source_files(self.source)
        return {
            "version": VERSION,
            "source": [identity(file) for file in files],
            "columns": to_dict(self.columns),
            "format": self.format,
            "models": self.tools.name,
            "steps": [
                {"step": name, "settings": to_dict(step), "files": [file_hash(file) for file in step.files()]}
                for name, step in self.steps.items()
            ],
        }

    def _finished(self, plan: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the report of a finished curation; None if there is work to do.

        Raises:
            PerceptError: the folder belongs to a different curation, or to something else.
        """
        for file in (self.out / RECORD, self.store.folder / "plan.json"):
            if file.is_file():
                if _comparable(read_json(file)) != _comparable(plan):
                    raise PerceptError(
                        f"{self.out} holds a curation of a different source or with different settings. Give a new folder."
                    )
                if file.name != RECORD:
                    return None
                shutil.rmtree(self.store.folder, ignore_errors=True)  # left by a kill after the end
                return read_json(self.out / REPORT)
        if self.out.exists() and (not self.out.is_dir() or any(path.name != WORK for path in self.out.iterdir())):
            raise PerceptError(f"{self.out} is not an empty folder. Give a new one.")
        return None

    def _read(self) -> BadRows:
        """Read the source into chunks; chunks that exist are not written again."""
        marker = self.store.folder / "read.json"
        if marker.is_file():
            stored = read_json(marker)
            bad = BadRows(examples=stored["examples"], missing=stored["missing"])
            bad.counts.update(stored["counts"])
            return bad
        bad, number = BadRows(), 0
        for table in read_chunks(source_files(self.source), self.columns, self.out.resolve(), bad):
            if not (file := self.store.chunk_file(number)).is_file():
                write_table(file, table)
            number += 1
        if not number:
            counts = ", ".join(f"{reason} ({count:,})" for reason, count in bad.counts.items()) or "it is empty"
            raise PerceptError(f"{self.source} has no usable row: {counts}.")
        write_json(marker, {"counts": dict(bad.counts), "examples": bad.examples, "missing": bad.missing})
        if bad.missing:
            notice(f"the image of {bad.missing:,} rows is missing: there is no file at its path.")
        return bad

    def _step(self, number: int, name: str, step: Step, run: Run) -> None:
        """Run the passes of a step that are missing, then its decisions."""
        passes = step.passes()
        for turn, one in enumerate(passes):
            kind = f"measured-{turn}"
            self._chunks(number, kind, f"{name}: pass {turn + 1} of {len(passes)}", step, map if one.tools else run)
            state = self.store.state_file(number, turn)
            if not state.is_file():
                earlier = load_arrays(self.store.state_file(number, turn - 1)) if turn else {}
                save_arrays(state, one.combine(self._parts(number, kind), earlier))
        self._chunks(number, "decided", f"{name}: deciding", step, run)

    def _parts(self, number: int, kind: str) -> Parts:
        return Parts([self.store.step_file(number, kind, chunk) for chunk in range(self.store.count())])

    def _chunks(self, number: int, kind: str, title: str, step: Step, run: Run) -> None:
        """Compute one kind of file for all chunks that lack it; models are used in this process only."""
        todo = [chunk for chunk in range(self.store.count()) if not self.store.step_file(number, kind, chunk).is_file()]
        place = self._place(number, self.tools if run is map else Tools())
        job = partial(work_on, self.store.folder, place, number, step, kind)
        for _ in track(run(job, todo), title, len(todo)):
            pass

    def _finish(self, plan: Mapping[str, Any], bad: BadRows, done: Mapping[str, Step]) -> dict[str, Any]:
        """Write rows, report, page and record of the steps that were run, then remove the working folder."""
        written = write_rows(self.store, len(done), self.out, self.format)
        report = {
            "source": plan["source"],
            "models": self.tools.name,
            **make_report(self.store, done, self._parts, bad),
            "files": written,
        }
        write_json(self.out / REPORT, report)
        write_page(self.out / PAGE, report, self.store, len(done), self.out)
        write_json(self.out / RECORD, plan)
        shutil.rmtree(self.store.folder)
        return report


def _comparable(plan: Any) -> str:
    return content_hash(json.dumps(plan, sort_keys=True).encode())


def work_on(folder: Path, place: Place, number: int, step: Step, kind: str, chunk_number: int) -> int:
    """Compute one file of step `number` for one chunk, and return the number of its rows."""
    store = Store(folder)
    chunk = store.chunk(chunk_number, number)
    if kind == "decided":
        last = len(step.passes()) - 1
        measured = load_arrays(store.step_file(number, f"measured-{last}", chunk_number)) if last >= 0 else {}
        store.write_decision(number, chunk, step.decide(chunk, measured, _state(store, number, last)))
    else:
        turn = int(kind.removeprefix("measured-"))
        measured = step.passes()[turn].measure(chunk, _state(store, number, turn - 1), place)
        save_arrays(store.step_file(number, kind, chunk_number), measured)
    return len(chunk)


def _state(store: Store, number: int, turn: int) -> Arrays:
    if turn < 0:
        return {}
    file = store.state_file(number, turn)
    return _load_state(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _load_state(file: Path, changed: int) -> Arrays:
    return load_arrays(file)
