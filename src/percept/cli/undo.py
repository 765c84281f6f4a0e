"""`percept undo`: take back what `percept classify --sort` or `percept dupes --move-to` did to files."""

from pathlib import Path

import tyro

from percept.cli.show import bad_files, count, say
from percept.core.report import table


def undo(file: tyro.conf.Positional[Path]) -> int:
    """Move files back to where they were, and remove copies and links that were made; nothing is overwritten.

    Args:
        file: The list that was written, undo-TIME.jsonl.
    """
    from collections import Counter

    from percept.data.moves import undone

    result = undone(file)
    words = {"move": "moved back", "copy": "copies removed", "link": "links removed"}
    rows = Counter(words[move.how] for move in result.done).most_common()
    if rows:
        table(f"{count(len(result.done), 'file')} restored", ("what", "files"), rows)
    elif not result.kept:
        say("nothing to undo: all of it was undone before")
    bad_files(result.kept)
    return 2 if result.kept else 0


COMMAND = undo
