"""Vectors of queries: one thread computes them with the model, those that wait together; the last ones are kept."""

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.io import content_hash
from percept.search.contracts import ImageEncoder

BATCH = 32
"""Texts or images that go through the model together."""
KEPT = 1024
"""Vectors that are kept."""

Key: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class Stored:
    """An image of the index, by its vector."""

    vector: Float[Tensor, " d"]


@dataclass(frozen=True)
class _Job:
    key: Key
    item: Any
    """A text, or the bytes of an image."""
    future: "Future[Tensor]" = field(default_factory=Future)


class Vectors:
    """An `ImageEncoder` for the threads of a server.

    Equal texts and images are computed once, also if several requests ask for them at the same time.

    Args:
        encoder: the model.
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        self._encoder = encoder
        self.identity = encoder.identity
        """Identity of the vectors when the server started."""
        self.preprocess = encoder.preprocess
        self._known: OrderedDict[Key, Future[Tensor]] = OrderedDict()
        self._lock = Lock()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="percept-model", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, once it has computed what was asked for."""
        self._jobs.put(None)
        self._thread.join()

    @property
    def scale(self) -> float:
        """Multiplies cosines before the softmax over labels."""
        return float(getattr(self._encoder, "scale", 1.0))

    def unknown(self, texts: Sequence[str]) -> list[str]:
        """Return the words of texts that the model never saw in training, if that is recorded."""
        tokenizer = getattr(self._encoder, "tokenizer", None)
        return [] if tokenizer is None else list(tokenizer.unknown(texts))

    def text(self, texts: Sequence[str], /) -> Float[Tensor, "n d"]:
        """Return one unit vector per text."""
        return self._all([self._future(("text", each), each) for each in texts])

    def image(self, images: Sequence[bytes | Stored], /) -> Float[Tensor, "n d"]:
        """Return one unit vector per image: the bytes of a file, or an image of the index.

        Raises:
            PerceptError: an image cannot be read.
        """
        return self._all(
            [each if isinstance(each, Stored) else self._future(("image", content_hash(each)), each) for each in images]
        )

    def _all(self, parts: "Sequence[Future[Tensor] | Stored]") -> Float[Tensor, "n d"]:
        rows = [each.vector if isinstance(each, Stored) else each.result() for each in parts]
        return torch.stack(rows) if rows else torch.zeros(0, self.identity.dim)

    def _future(self, key: Key, item: Any) -> "Future[Tensor]":
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
            job = _Job(key, item)
            self._known[key] = job.future
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._jobs.put(job)
        return job.future

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            jobs, ended = self._waiting(first)
            for kind in ("text", "image"):
                self._compute(kind, [job for job in jobs if job.key[0] == kind])
            if ended:
                return

    def _waiting(self, first: _Job) -> tuple[list[_Job], bool]:
        """Return the jobs that wait, and whether the thread is to end after them."""
        jobs = [first]
        while len(jobs) < BATCH:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _compute(self, kind: str, jobs: list[_Job]) -> None:
        """Compute a batch; if it fails, each job alone, so that one bad image fails by itself."""
        if not jobs:
            return
        try:
            rows = getattr(self._encoder, kind)([job.item for job in jobs]).float().cpu()
        except Exception as error:  # whatever it is, the request is told, and the thread goes on
            if len(jobs) > 1:
                for job in jobs:
                    self._compute(kind, [job])
                return
            self._forget(jobs[0].key)
            jobs[0].future.set_exception(error)
            return
        for job, row in zip(jobs, rows, strict=True):
            job.future.set_result(row.clone())

    def _forget(self, key: Key) -> None:
        with self._lock:
            self._known.pop(key, None)
