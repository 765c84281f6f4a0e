"""The model of a served index: loaded again after another process has changed the model of the index."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TypeAlias

from percept.search.contracts import ImageEncoder, Stamp
from percept.search.store import Store
from percept.serve.search.vectors import Vectors

Load: TypeAlias = Callable[[Stamp], ImageEncoder]


class _Held:
    """A model, with the stamp of the index that it agrees with, and the number of requests that use it now."""

    def __init__(self, stamp: Stamp, encoder: ImageEncoder) -> None:
        self.stamp, self.vectors, self.users = stamp, Vectors(encoder), 0


class Models:
    """Gives requests the model that an index belongs to now.

    Args:
        store: the index.
        encoder: the model it was made with.
        load: loads the model that a stamp names.

    Raises:
        PerceptError: the index was made with a different model.
    """

    def __init__(self, store: Store, encoder: ImageEncoder, load: Load) -> None:
        store.check(encoder)
        self._store, self._load, self._lock = store, load, Lock()
        self._held = _Held(store.stamp, encoder)

    def close(self) -> None:
        """End the thread of the model."""
        self._held.vectors.close()

    @contextmanager
    def current(self) -> Iterator[tuple[Stamp, Vectors]]:
        """Yield the stamp of the index and its model; the first request after a change loads the new one, others wait for it.

        Raises:
            PerceptError: the new model cannot be loaded.
        """
        with self._lock:
            held = self._agreeing()
            held.users += 1
        try:
            yield held.stamp, held.vectors
        finally:
            with self._lock:
                held.users -= 1
                self._end_unused(held)

    def _agreeing(self) -> _Held:
        stamp, before = self._store.stamp, self._held
        if not stamp.agrees(before.stamp):
            encoder = self._load(stamp)
            self._store.check(encoder)
            self._held = _Held(stamp, encoder)
            self._end_unused(before)
        return self._held

    def _end_unused(self, held: _Held) -> None:
        """End the thread of a former model once no request uses it."""
        if held is not self._held and not held.users:
            held.vectors.close()
