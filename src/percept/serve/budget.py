"""Room for requests: their number and their bytes are bounded; what does not fit is refused at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from percept.serve.errors import busy


class Ticket:
    """The part of a budget that one request holds."""

    def __init__(self, budget: "Budget") -> None:
        self._budget = budget
        self.nbytes = 0

    def resize(self, nbytes: int) -> None:
        """Hold so many bytes from now on.

        Raises:
            ApiError: all requests together would hold too many.
        """
        self._budget.change(nbytes - self.nbytes)
        self.nbytes = nbytes


class Budget:
    """At most `requests` requests of `nbytes` bytes together."""

    def __init__(self, *, requests: int, nbytes: int) -> None:
        self._most = requests, nbytes
        self._lock = Lock()
        self.requests = 0
        """Requests now."""
        self.nbytes = 0
        """Bytes now."""

    @contextmanager
    def enter(self) -> Iterator[Ticket]:
        """Hold a place until the block ends.

        Raises:
            ApiError: there is none.
        """
        with self._lock:
            if self.requests >= self._most[0]:
                raise busy(f"{self.requests} requests wait already")
            self.requests += 1
        ticket = Ticket(self)
        try:
            yield ticket
        finally:
            with self._lock:
                self.requests -= 1
                self.nbytes -= ticket.nbytes

    def change(self, more: int) -> None:
        """Count more bytes, or fewer if negative.

        Raises:
            ApiError: they do not fit.
        """
        with self._lock:
            if more > 0 and self.nbytes + more > self._most[1]:
                raise busy("the requests that wait already fill its memory")
            self.nbytes += more
