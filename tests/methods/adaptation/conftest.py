"""Equations are tested in float32 on every machine."""

import pytest
import torch


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The fast number type of the machine: float32 in tests of equations, others put in their own."""
    chosen = [torch.float32]
    monkeypatch.setattr("percept.core.machine.fast_dtype", lambda device: (chosen[-1], "chosen by a test"))
    return chosen
