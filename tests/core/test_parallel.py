import os
import signal

import pytest

from percept.core.parallel import map_processes


def place(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def deaf(number: int) -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def fail(number: int) -> int:
    raise ValueError(f"item {number}")


def test_results_come_in_order_from_other_processes() -> None:
    found = list(map_processes(place, range(6), processes=2, chunk=2))
    assert [square for square, _ in found] == [0, 1, 4, 9, 16, 25]
    assert os.getpid() not in {process for _, process in found}
    assert list(map_processes(place, range(3), processes=1))[2] == (4, os.getpid())


def test_workers_leave_interrupts_to_the_caller() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert all(map_processes(deaf, range(2), processes=2))
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_of_the_work_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match="item 0"):
        list(map_processes(fail, range(2), processes=2))
