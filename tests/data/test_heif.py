"""HEIC from phones: read where the extra is installed, else refused with what to install."""

import importlib.util
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.data import heif
from percept.data.images import read_image, upright_size

GRADIENT = Image.radial_gradient("L").convert("RGB").resize((96, 64))
HEADER = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf"


def heic(image: Image.Image, **options: Any) -> bytes:
    writer = pytest.importorskip("pillow_heif", reason="only pillow-heif writes HEIC files")
    buffer = io.BytesIO()
    writer.from_pillow(image).save(buffer, quality=95, **options)
    return buffer.getvalue()


def test_without_the_library_the_reason_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heif, "PACKAGES", ())
    with pytest.raises(PerceptError, match=r"HEIC or HEIF image; to read it: pip install 'percept-models\[heif\]'"):
        read_image(HEADER + bytes(100))


@pytest.mark.skipif(
    not any(importlib.util.find_spec(name) for name in heif.PACKAGES), reason="the extra heif is not installed"
)
def test_a_damaged_file_is_refused() -> None:
    for data in (HEADER, HEADER + bytes(1000)):
        with pytest.raises(PerceptError, match="damaged or cut short"):
            read_image(data)


def test_heic_is_read_upright_and_over_white() -> None:
    plain = read_image(heic(GRADIENT))
    assert np.abs(np.asarray(plain).astype(int) - np.asarray(GRADIENT)).mean() < 3
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = heic(GRADIENT, exif=exif.tobytes())
    assert read_image(turned).size == upright_size(turned) == (64, 96)
    clear = GRADIENT.convert("RGBA")
    clear.putalpha(0)
    assert read_image(heic(clear)).getpixel((9, 9)) == (255, 255, 255)
