import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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
    for items in ([2], range(3)):  # starting a process would take longer
        assert list(map_processes(place, items, processes=2, chunk=3))[-1] == (4, os.getpid())


def test_workers_leave_interrupts_to_the_caller() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert all(map_processes(deaf, range(2), processes=2))
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_of_the_work_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match="item 0"):
        list(map_processes(fail, range(2), processes=2))


def linger(folder: str) -> int:
    Path(folder, str(os.getpid())).touch()
    return os.getpid()


def test_workers_end_with_a_caller_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, signal\nfrom percept.core.parallel import process_pool\nfrom tests.core.test_parallel import linger\n"
        f"if __name__ == '__main__':\n    with process_pool(2) as run:\n        list(run(linger, [{str(tmp_path)!r}] * 4))\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "main.py").write_text(program)
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    killed = subprocess.run([sys.executable, str(tmp_path / "main.py")], env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    workers = {int(file.name) for file in tmp_path.iterdir() if file.name.isdigit()}
    assert workers
    deadline = time.monotonic() + 20
    while any(map(_is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_is_running, workers))


def _is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    if Path("/proc/self/status").exists():
        return status.exists() and "State:\tZ" not in status.read_text()
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
