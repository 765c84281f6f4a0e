"""TIFF as one table: every combination is read right, or refused with the kind as the reason; never silently wrong."""

import io
from itertools import product

import numpy as np
import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.data import tiff as reader
from percept.data.images import read_image, upright_size
from tests.data.tiffs import DEFLATE, LZW, NONE, PACKBITS, tiff

HEIGHT, WIDTH = 20, 28
COLOURS = np.stack(
    [
        np.tile(np.linspace(0, 255, WIDTH), (HEIGHT, 1)),
        np.tile(np.linspace(0, 255, HEIGHT)[:, None], (1, WIDTH)),
        np.tile(np.linspace(255, 0, WIDTH), (HEIGHT, 1)),
    ],
    axis=-1,
).astype(np.uint8)
GREY = COLOURS[..., :1] // 2 + COLOURS[..., 1:2] // 2
KINDS = {"u1": 1, "i1": 2, "u2": 1, "i2": 2, "u4": 1, "i4": 2, "u8": 1, "i8": 2, "f2": 3, "f4": 3, "f8": 3}
PACKINGS = [(NONE, 1), (DEFLATE, 1), (DEFLATE, 2), (DEFLATE, 3), (LZW, 1), (LZW, 2), (LZW, 3), (PACKBITS, 1)]
SHAPES = [{}, {"rows": 7}, {"tile": 16}]


def deep(pixels: np.ndarray, kind: str) -> np.ndarray:
    """The same image in values of another type."""
    if kind[0] == "f":
        return (pixels / 255).astype(kind)
    factor = {"u1": 1, "u2": 257, "i1": 0.5, "i2": 127}.get(kind, 1_000_000)
    return (pixels.astype(np.float64) * factor).astype(kind)


def likeness(image: Image.Image, pixels: np.ndarray) -> float:
    """Lowest correlation of a channel; -1 for a negative."""
    read, true = np.asarray(image), np.broadcast_to(pixels, (HEIGHT, WIDTH, 3))
    return min(float(np.corrcoef(read[..., one].ravel(), true[..., one].ravel())[0, 1]) for one in range(3))


def outcome(data: bytes, pixels: np.ndarray) -> str:
    try:
        return "right" if likeness(read_image(data), pixels) > 0.99 else "wrong"
    except PerceptError as error:
        return "refused" if "is a TIFF of a kind that is not read here (" in str(error) else str(error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("photometric", [0, 1, 2])
def test_every_combination_is_right_or_refused(kind: str, photometric: int) -> None:
    pixels = COLOURS if photometric == 2 else GREY
    values = deep(255 - pixels if photometric == 0 else pixels, kind)
    full = np.full_like(values[..., :1], 1 if kind[0] == "f" else np.iinfo(kind).max)
    for order, planar, (compression, predictor), shape, extra in product(
        "<>", (False, True), PACKINGS, SHAPES, (None, 2)
    ):
        if (predictor == 3 and kind[0] != "f") or (shape and (extra or compression in (LZW, PACKBITS))):
            continue
        stored = values if extra is None else np.concatenate([values, full], axis=-1)
        settings = {"order": order, "planar": planar, "compression": compression, "predictor": predictor, **shape}
        data = tiff(stored, photometric=photometric, sample_format=KINDS[kind], extra=extra, **settings)
        result = outcome(data, pixels)
        assert result in ("right", "refused"), (settings, extra)
        if compression in (NONE, DEFLATE) and kind != "i1":
            assert result == "right" or (kind == "u1" and predictor == 3), (settings, extra)


def test_sixteen_bits_are_exact() -> None:
    for order, planar in product("<>", (False, True)):
        data = tiff(deep(COLOURS, "u2"), photometric=2, order=order, planar=planar)
        assert np.array_equal(np.asarray(read_image(data)), COLOURS)
        grey = read_image(tiff(65535 - deep(GREY, "u2"), photometric=0, order=order))
        assert np.array_equal(np.asarray(grey)[..., :1], GREY)


def test_alpha_is_seen_over_white() -> None:
    clear = np.concatenate([deep(COLOURS, "u2"), np.zeros((HEIGHT, WIDTH, 1), np.uint16)], axis=-1)
    for extra, expected in ((2, 255), (0, None)):
        read = np.asarray(read_image(tiff(clear, photometric=2, planar=True, extra=extra)))
        assert np.array_equal(read, COLOURS if expected is None else np.full_like(COLOURS, expected))
    half = np.concatenate([deep(GREY // 2, "u2"), np.full((HEIGHT, WIDTH, 1), 32768, np.uint16)], axis=-1)
    premultiplied = np.asarray(read_image(tiff(half, photometric=1, extra=1))).astype(int)
    assert np.abs(premultiplied - (GREY // 2 + 127)).max() <= 2


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_deep_images_are_upright(orientation: int) -> None:
    data = tiff(deep(GREY, "f4"), photometric=1, sample_format=3, orientation=orientation)
    expected = (WIDTH, HEIGHT) if orientation == 1 else (HEIGHT, WIDTH)
    assert read_image(data).size == upright_size(data) == expected


def test_the_reason_names_the_kind() -> None:
    data = tiff(deep(GREY, "f2"), photometric=1, sample_format=3, compression=LZW)
    with pytest.raises(PerceptError, match=r"\(16-bit float samples, 1 per pixel, grey, LZW compression\)"):
        read_image(data)


@pytest.mark.parametrize("compression", [NONE, DEFLATE])
def test_missing_strips_are_refused(compression: int) -> None:
    data = bytearray(tiff(deep(GREY, "f4"), photometric=1, sample_format=3, compression=compression, rows=5))
    layout = reader.read_layout(bytes(data))
    assert layout is not None
    with pytest.raises(PerceptError, match="damaged or cut short"):
        read_image(bytes(data).replace(bytes(data[layout.offsets[2] : layout.offsets[3]]), b""))


def test_values_have_a_budget_of_bytes() -> None:
    data = tiff(deep(COLOURS, "f8"), photometric=2, sample_format=3)
    layout = reader.read_layout(data)
    assert layout is not None
    assert reader.decode(data, layout, HEIGHT * WIDTH * 24).size == (WIDTH, HEIGHT)
    with pytest.raises(Exception, match=f"more than the {HEIGHT * WIDTH * 24 - 1} bytes allowed"):
        reader.decode(data, layout, HEIGHT * WIDTH * 24 - 1)


def test_a_wide_range_of_floats_is_scaled_without_overflow() -> None:
    ramp = np.linspace(-3e38, 3e38, 4096, dtype=np.float32).reshape(64, 64)
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "TIFF")
    expected = np.rint(np.linspace(0, 255, 4096)).reshape(64, 64)
    assert np.abs(np.asarray(read_image(buffer.getvalue()))[..., 0] - expected).max() <= 1


@pytest.mark.parametrize("seed", range(20))
def test_damage_never_escapes(seed: int) -> None:
    random = np.random.default_rng(seed)
    data = bytearray(tiff(deep(COLOURS, "u2"), photometric=2, planar=seed % 2 == 0, compression=DEFLATE, rows=7))
    for at in random.integers(4, len(data), 5):
        data[at] = random.integers(0, 256)
    tail = bytearray(data[-200:])
    tail[random.integers(0, 200)] ^= 0xFF
    try:
        read_image(bytes(data[:-200] + tail), max_pixels=100_000)
    except PerceptError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right, a third is not
