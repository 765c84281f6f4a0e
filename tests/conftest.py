"""Every test starts from the same random state."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_start() -> None:
    torch.manual_seed(0)


pytest_plugins = ("tests.export.written",)
