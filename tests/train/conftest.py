"""No test of the loop needs the peak of the machine measured for half a second."""

import pytest
import torch

from percept.train import meters


@pytest.fixture(autouse=True)
def _no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(device: torch.device, dtype: torch.dtype) -> float:
        return 1e12

    monkeypatch.setattr(meters, "matmul_peak", peak)
