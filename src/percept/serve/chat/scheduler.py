"""The thread that generates: requests that wait join the running batch between two tokens, in the order of arrival."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from percept.core.errors import PerceptError
from percept.infer.answers import Answerer
from percept.infer.asking import Loaded
from percept.infer.decode import Row
from percept.infer.live import LiveBatch
from percept.serve.errors import ApiError

log = logging.getLogger("percept.serve")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What one answer of a job has gained."""

    number: int
    tokens: int
    """Tokens since the last news."""
    piece: str
    """Text that is new; empty until the end for an answer that is not streamed."""
    finish: str | None
    """Why it ended: `stop` or `length`; None if it goes on."""


News: TypeAlias = list[Progress] | ApiError


@dataclass(kw_only=True, eq=False)
class Job:
    """A prompt and its answers."""

    prompt: Loaded
    rows: list[Row]
    tell: Callable[[News], None]
    """Called by the thread after every token if the answers are streamed, else when all have ended; or once with an error."""
    stream: bool = False
    _untold: dict[int, int] = field(default_factory=dict)

    def advance(self, stepped: Collection[Row]) -> None:
        """Count a token of each of these rows, and tell if it is time."""
        for number, row in enumerate(self.rows):
            if row in stepped:
                self._untold[number] = self._untold.get(number, 0) + 1
        if self.stream or self.ended:
            untold, self._untold = self._untold, {}
            self.tell([_progress(number, self.rows[number], tokens) for number, tokens in untold.items()])

    @property
    def ended(self) -> bool:
        """True if all answers have ended."""
        return all(row.ended for row in self.rows)

    @property
    def needs(self) -> list[int]:
        """Tokens that each answer may take, with the prompt."""
        return [len(self.prompt.ids) + row.generation.max_new_tokens for row in self.rows]


class Scheduler:
    """Generates the answers of jobs together in a thread of its own."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._live = LiveBatch(answerer)
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._dropped: set[Job] = set()
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="percept-answers", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Generate the answers of a job as soon as there is room."""
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()

    def drop(self, job: Job) -> None:
        """Stop generating for a job that nobody waits for; nothing happens if it has ended."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
            elif job in self._running:
                self._dropped.add(job)

    def close(self) -> None:
        """Drop all jobs and end the thread."""
        with self._changed:
            self._closing = True
            self._waiting.clear()
            self._dropped.update(self._running)
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (jobs := self._next()) is not None:
            if jobs:
                self._admit(jobs)
            if self._running:
                self._advance()

    def _next(self) -> list[Job] | None:
        """Wait for work; return the jobs that join now, or None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._running or self._closing)
            if self._dropped:
                self._live.drop({row for job in self._dropped for row in job.rows})
                self._running = [job for job in self._running if job not in self._dropped]
                self._dropped.clear()
            if self._closing:
                return None
            jobs: list[Job] = []
            needs: list[int] = []
            while self._waiting and self._live.fits([*needs, *self._waiting[0].needs]):
                needs += self._waiting[0].needs
                jobs.append(self._waiting.popleft())
            self._running += jobs
            return jobs

    def _admit(self, jobs: Sequence[Job]) -> None:
        """Run the prompts of new jobs; one that fails does not harm the others."""
        try:
            self._live.add([job.prompt for job in jobs], [job.rows for job in jobs])
        except Exception as error:
            if len(jobs) == 1:
                self._fail(jobs, error)
                return
            for job in jobs:
                self._admit([job])

    def _advance(self) -> None:
        """Generate one token of every answer, and tell."""
        try:
            stepped = set(self._live.step())
        except Exception as error:
            self._live.clear()
            self._fail(list(self._running), error)
            return
        for job in self._running:
            job.advance(stepped)
        with self._changed:
            self._running = [job for job in self._running if not job.ended]

    def _fail(self, jobs: Iterable[Job], error: Exception) -> None:
        jobs = set(jobs)
        with self._changed:
            self._running = [job for job in self._running if job not in jobs]
        told = self._explained(error)
        for job in jobs:
            job.tell(told)

    def _explained(self, error: Exception) -> ApiError:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            self._answerer.memory.clear()
            return ApiError(503, "The server ran out of memory. Try again later, or send smaller images.")
        if not isinstance(error, PerceptError):
            log.error("an answer failed", exc_info=error)
        return ApiError(500, f"The answer failed: {error}" if isinstance(error, PerceptError) else "The answer failed.")


def _progress(number: int, row: Row, tokens: int) -> Progress:
    finish = None if not row.ended else "length" if row.cut_off else "stop"
    return Progress(number=number, tokens=tokens, piece=row.piece(), finish=finish)
