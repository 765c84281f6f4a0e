"""JPEG: all pixels there is enough, rows missing is not."""

import numpy as np
import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.images import read_image, upright_size
from tests.data.test_images import stored

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8))
KINDS = {"baseline": {}, "progressive": {"progressive": True}, "restarts": {"restart_marker_rows": 1}, "grey": {}}


@pytest.fixture(params=KINDS)
def jpeg(request: pytest.FixtureRequest) -> bytes:
    image = NOISE.convert("L") if request.param == "grey" else NOISE
    return stored(image, "JPEG", quality=90, **KINDS[request.param])


def test_the_end_marker_may_be_missing(jpeg: bytes) -> None:
    whole = np.asarray(read_image(jpeg))
    for data in (jpeg[:-2], jpeg[:-1], jpeg[:-2] + bytes(64), jpeg[:-2] + bytes(100_000), jpeg + b"trailing" * 99):
        assert np.array_equal(np.asarray(read_image(data)), whole)
        assert upright_size(data) == (80, 64)


@pytest.mark.parametrize("missing", [30, 300, 1000])
@pytest.mark.parametrize("padding", [0, 64, 100_000])
def test_missing_rows_are_refused_whatever_follows(jpeg: bytes, missing: int, padding: int) -> None:
    with pytest.raises(PerceptError, match="damaged or cut short"):
        read_image(jpeg[: -missing - 2] + bytes(padding))


def test_a_reduced_jpeg_without_its_end_is_as_good(jpeg: bytes) -> None:
    assert np.array_equal(np.asarray(read_image(jpeg[:-2], at_least=20)), np.asarray(read_image(jpeg, at_least=20)))
    with pytest.raises(PerceptError, match="last rows are missing"):
        read_image(jpeg[:-302], at_least=20)
