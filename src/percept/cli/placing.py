"""Options of verbs that copy, link or move files, and the list from which `percept undo` takes it back."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import tyro

from percept.cli.show import bad_files, count, say
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.data.moves import How, Move

SHOWN = 20
"""Moves of a dry run that are printed."""


@dataclass(frozen=True, kw_only=True)
class PlaceOptions:
    """How files are placed in folders."""

    place: str | None = None
    """copy, link (symbolic) or move. Default: copy, where a folder is given."""
    dry_run: bool = False
    """Only print what would be placed where."""
    undo_list: Path | None = None
    """List of what was done, for percept undo. Default: undo-TIME.jsonl in the folder."""

    def ready(self, folder: Path | None, option: str, *, default: str = "copy") -> "Placing | None":
        """Return what places files in a folder; None if no folder is given.

        Raises:
            PerceptError: options without a folder, an unknown way, or a folder that cannot be written to.
        """
        if folder is None:
            if self != type(self)():
                raise PerceptError(f"--place, --dry-run and --undo-list need a folder. Give one with {option}.")
            return None
        from percept.data.moves import check_how

        how = check_how(self.place or default)
        home = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
        if not os.path.isdir(home) or not os.access(home, os.W_OK | os.X_OK):
            raise PerceptError(f"{home} cannot be written to. Give {option} a different folder.")
        name = self.undo_list or folder / f"undo-{datetime.now():%Y%m%d-%H%M%S}.jsonl"
        if os.path.lexists(name):
            raise PerceptError(f"{name} exists, and is not overwritten. Give --undo-list a new name.")
        return Placing(folder=folder, how=how, dry_run=self.dry_run, undo=name)


@dataclass(frozen=True, kw_only=True)
class Placing:
    """Places files in a folder, or in folders below it, and prints what it did."""

    folder: Path
    how: "How"
    dry_run: bool
    undo: Path

    def by_folder(self, paths: Sequence[Path], labels: Sequence[str], *, on_stderr: bool = False) -> int:
        """Place files in folders that are called as their labels."""
        from percept.data.moves import folder_name

        return self._run(
            [(path, self.folder / folder_name(label)) for path, label in zip(paths, labels, strict=True)], on_stderr
        )

    def together(self, paths: Sequence[Path], *, on_stderr: bool = False) -> int:
        """Place all files in the folder."""
        return self._run([(path, self.folder) for path in paths], on_stderr)

    def _run(self, wanted: list[tuple[Path, Path]], on_stderr: bool) -> int:
        """Place the files, print what was done, and return the number of those that could not be placed."""
        from percept.data.files import BadFile
        from percept.data.inputs import is_pipe
        from percept.data.moves import PAST, carry_out, planned, summary

        moves = planned([each for each in wanted if not is_pipe(each[0])], self.how)
        if not moves:
            say(f"nothing to {self.how}: all files are in their folders")
            return 0
        if self.dry_run:
            self._preview(moves, on_stderr)
            return 0
        results = list(carry_out(moves, self.undo))
        done = [each for each in results if not isinstance(each, BadFile)]
        bad = [each for each in results if isinstance(each, BadFile)]
        if not on_stderr:
            table(f"{count(len(done), 'file')} {PAST[self.how]}", ("folder", "files"), summary(done))
        bad_files(bad, on_stderr=on_stderr)
        say(f"to undo this: percept undo {self.undo}")
        return len(bad)

    def _preview(self, moves: "list[Move]", on_stderr: bool) -> None:
        from percept.data.moves import summary

        if not on_stderr:
            title = f"Would {self.how} {count(len(moves), 'file')}; nothing was done"
            table(title, ("folder", "files"), summary(moves))
            table(f"The first {min(SHOWN, len(moves))}", ("from", "to"), [(m.source, m.target) for m in moves[:SHOWN]])


Place: TypeAlias = Annotated[PlaceOptions, tyro.conf.arg(name="")]
PLACE = PlaceOptions()
