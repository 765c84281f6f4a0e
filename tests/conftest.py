"""Every test starts from the same random state, and every worker process computes with one thread."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for child processes

os.environ.pop("COLUMNS", None)  # consoles would keep the width that they find when they are made

import torch

from tests import checked

checked.install()  # before any module of percept is imported

pytest_plugins = ("tests.export.written",)


def pytest_configure() -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_start(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setenv("COLUMNS", "250")  # paths of parallel workers are long; a test of narrow terminals sets its own
