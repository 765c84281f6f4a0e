"""Every test starts from the same random state, and every worker process computes with one thread."""

import gc
import os
import random
from collections.abc import Generator

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for child processes

os.environ.pop("COLUMNS", None)  # consoles would keep the width that they find when they are made

import torch

from tests import checked

checked.install()  # before any module of percept is imported

pytest_plugins = ("tests.export.written",)


settings.register_profile(
    "same examples", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same examples")  # --hypothesis-profile default looks for others


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import all tests without looking for garbage; later searches pass over what was made here."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_configure() -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_start(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    random.seed(0)  # beartype, too, draws from it: which item of a list it looks at
    np.random.seed(0)  # noqa: NPY002
    monkeypatch.setenv("COLUMNS", "250")  # paths of parallel workers are long; a test of narrow terminals sets its own
