"""Answers that are kept in a file until the report is written, so that the same command goes on where it stopped."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from percept.eval.vlm.item import Item, text_of


class Kept:
    """Answers by task, item and run.

    Args:
        file: where they are kept; None to keep nothing.
        run: identifies the models and whatever else decides the answers.
    """

    def __init__(self, file: Path | None = None, run: str = "") -> None:
        self.file, self.run = file, run
        self._known: dict[str, dict[str, Any]] = {}
        if file is not None and file.is_file():
            self._known = _read(file)

    def __len__(self) -> int:
        return len(self._known)

    def identify(self, task: str, item: Item, *, blind: bool, most: int) -> str:
        """Return what identifies an answer."""
        parts = [self.run, task, item.key, text_of(item.prompt), list(item.options), blind, most]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def get(self, identity: str) -> Mapping[str, Any] | None:
        """Return `text` and `likelihoods` of an answer; None if there is none."""
        return self._known.get(identity)

    def add(self, answers: Mapping[str, dict[str, Any]]) -> None:
        """Keep answers by what identifies them."""
        if self.file is None or not answers:
            return
        self._known |= answers
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.writelines(
                json.dumps({"id": identity, **answer}, ensure_ascii=False) + "\n"
                for identity, answer in answers.items()
            )

    def remove(self) -> None:
        """Delete the file: the report has been written."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """Return the answers of a file; a line that was cut off is left out."""
    known = {}
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            entry = json.loads(line)
            known[entry["id"]] = {"text": entry["text"], "likelihoods": entry["likelihoods"]}
        except (ValueError, KeyError, TypeError):
            continue
    return known
