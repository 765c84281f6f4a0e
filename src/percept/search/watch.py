"""Following folders: an index is brought up to date whenever their files change."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from percept.core.report import notice
from percept.search.approximate import refresh_approximate
from percept.search.build import Report, apply, scan
from percept.search.contracts import ImageEncoder
from percept.search.cutting import Cutting
from percept.search.store import Root, Store

EVERY = 2.0
"""Seconds between two looks at the folders; longer where a look takes more than a tenth of that."""


def watch(
    store: Store,
    encoder: ImageEncoder,
    roots: Sequence[Root],
    report: Callable[[Report], None],
    *,
    every: float = EVERY,
    cutting: Cutting | None = None,
    wait: Callable[[float], object] = time.sleep,
) -> None:
    """Keep an index up to date until interrupted.

    A file is read when two looks in a row find the same size and time, so not while it is being written.

    Args:
        store: the index to fill.
        encoder: the model it belongs to.
        roots: folders to follow.
        report: called with what was done, whenever something was.
        every: seconds between two looks.
        cutting: how videos are cut into pieces.
        wait: waits for a number of seconds; whatever it raises ends the watch.
    """
    store.check(encoder)
    before: dict[Path, tuple[int, int]] = {}
    said: set[str] = set()

    def once(message: str) -> None:
        if message not in said:
            said.add(message)
            notice(message)

    failed: dict[Path, tuple[int, int]] = {}
    while True:
        start = time.perf_counter()
        found = scan(store, roots, say=once)
        looked = time.perf_counter() - start
        states = {file.path: (file.bytes, file.modified) for file in found.fresh}
        # A file that could not be read is tried again when it has changed.
        settled = [path for path, state in states.items() if before.get(path) == state != failed.get(path)]
        if settled or found.gone:
            chosen = set(settled)
            fresh = [file for file in found.fresh if file.path in chosen]
            done = apply(store, encoder, replace(found, fresh=fresh, bad=[]), cutting=cutting)
            failed.update((bad.path, states[bad.path]) for bad in done.bad)
            report(done)
            refresh_approximate(store)
        before = states
        wait(max(every, 10 * looked))
