"""Runs of recipes neither measure the machine nor count operations again and again."""

from collections.abc import Iterator

import pytest

from tests.train.quick import make_quick


@pytest.fixture(autouse=True, scope="package")
def _quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch.setattr)
        yield
