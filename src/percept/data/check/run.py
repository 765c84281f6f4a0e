"""The check of a source, in one process or several: rows go through once, in order, and only numbers are kept."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from percept.core.errors import PerceptError
from percept.core.io import append_json_line
from percept.core.report import track
from percept.data.check.row import Inspector, Seen, target_of
from percept.data.check.tally import Tally
from percept.data.files import PathLike
from percept.data.sources.bad import Bad
from percept.data.sources.captions import CaptionChoice, CaptionFields
from percept.data.sources.open import LOOK, Where, open_rows
from percept.data.sources.pool import Pool, result
from percept.data.sources.sample import BadSample, Rows, Sample
from percept.data.tokenizers import Tokenizer
from percept.data.video.files import library

CHUNK = 64
"""Rows that a process reads together."""
AHEAD = 2
"""Groups of rows that wait for each process."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a check found."""

    report: dict[str, Any]
    """Counts, quantiles, histograms and examples as plain data."""
    rows: Rows

    @property
    def share_bad(self) -> float:
        """Share of the checked rows that cannot be used."""
        return self.report["bad"] / max(1, self.report["checked"])


def check_source(
    where: Where,
    *,
    captions: CaptionFields = None,
    image: str | None = None,
    video: str | None = None,
    root: PathLike | None = None,
    tokenizer: Tokenizer | None = None,
    sample: int | None = None,
    seed: int = 0,
    workers: int = 0,
    log: PathLike | None = None,
) -> Findings:
    """Read all rows of a source once, decode their images, and count what they hold.

    Args:
        where: as for `open_source`.
        captions: the field of the caption, or several of which one is drawn.
        image: the field of images, if it has an unusual name.
        video: the field of videos, if it has an unusual name.
        root: folder from which paths in tables start.
        tokenizer: counts the tokens of captions.
        sample: rows that are checked, drawn at random; all by default.
        seed: of that draw.
        workers: processes that read rows; 0 for the calling process alone. The report is the same.
        log: json lines file that gets the key and the reason of every bad row.

    Raises:
        PerceptError: nothing there, files of unknown or different kinds, no rows, or numbers out of range.
    """
    start = perf_counter()
    if workers < 0 or (sample is not None and sample < 1):
        raise PerceptError(f"workers must be at least 0 and sample at least 1, got {workers} and {sample}.")
    rows = open_rows(where, image=image, video=video, root=root)
    if not len(rows):
        raise PerceptError(f"{rows.name} holds no rows. Give a different source.")
    inspector = _inspector(rows, CaptionChoice(captions), tokenizer, seed if sample is not None else None)
    count = min(len(rows), sample or len(rows))
    tally = Tally(None if tokenizer is None else tokenizer.context)
    for found in track(_found(inspector, count, workers), "checking", total=count):
        tally.add(found)
        if log is not None and isinstance(found, Bad):
            append_json_line(Path(log), {"key": found.key, "reason": found.reason, "detail": found.detail})
    report = {
        "target": inspector.target,
        **tally.report(rows, inspector.captions),
        "seconds": round(perf_counter() - start, 2),
    }
    return Findings(report=report, rows=rows)


def _inspector(rows: Rows, captions: CaptionChoice, tokenizer: Tokenizer | None, seed: int | None) -> Inspector:
    samples = list(islice(_good(rows), LOOK))
    if any(sample.video is not None for sample in samples):
        library()  # complains here if it is not installed, not once for each row
    target = "caption" if captions.fields is not None else target_of(samples)
    return Inspector(rows=rows, target=target, captions=captions, tokenizer=tokenizer, seed=seed)


def _good(rows: Rows) -> Iterator[Sample]:
    for row in range(min(len(rows), 10 * LOOK)):
        try:
            yield rows.read(row)
        except BadSample:
            continue


def _found(inspector: Inspector, count: int, workers: int) -> Iterator[Seen | Bad]:
    """Yield what is found in each row, in order; no more rows are read than are about to be counted."""
    chunks = (range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK))
    if not workers:
        for chunk in chunks:
            yield from inspector.read(0, chunk)
        return
    pool = Pool(inspector, workers)
    waiting: deque[Future[bytes]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(0, chunk))
            if len(waiting) > AHEAD * workers:
                yield from result(waiting.popleft())
        while waiting:
            yield from result(waiting.popleft())
    finally:
        pool.close()
