"""No test of the loop measures the peak of the machine for half a second, or counts operations again and again."""

import pytest

from tests.train.quick import make_quick


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch.setattr)
