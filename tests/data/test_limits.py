"""Budgets: no file costs more than it may, and threads share one."""

import io
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.images import read_image, upright_size
from percept.data.inputs import read_bytes
from percept.data.limits import (
    FORMAT_PIXELS,
    MAX_PIXELS,
    MAX_SIDE,
    PIXELS_VARIABLE,
    PixelBudget,
    check_pixels,
    in_flight,
)
from percept.data.transforms import Preprocess, read_pixels
from tests.data.test_images import png_header, stored


@pytest.mark.parametrize(
    ("size", "kind", "words"),
    [
        ((0, 5), None, r"no pixels \(0 × 5\)"),
        ((MAX_SIDE + 1, 1), "PNG", f"longer side exceeds {MAX_SIDE}"),
        ((1, MAX_SIDE + 1), "BMP", f"longer side exceeds {MAX_SIDE}"),
        ((MAX_PIXELS // 1000 + 1, 1000), "PNG", f"more than the {MAX_PIXELS} allowed. Reduce it, or allow"),
        ((FORMAT_PIXELS["QOI"] // 1000 + 1, 1000), "QOI", f"more than the {FORMAT_PIXELS['QOI']} allowed for QOI"),
    ],
)
def test_sizes_beyond_the_budget_are_refused(size: tuple[int, int], kind: str | None, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        check_pixels("a.png", *size, kind)


def test_the_caller_may_raise_or_lower_the_budget() -> None:
    check_pixels("a.qoi", 20_000, 20_000, "QOI", 400_000_000)
    with pytest.raises(PerceptError, match="more than the 99 allowed"):
        check_pixels("a.jpg", 10, 10, "JPEG", 99)


def test_the_environment_sets_the_budget_of_every_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PIXELS_VARIABLE, "400000000")
    check_pixels("a.qoi", 20_000, 20_000, "QOI")
    with pytest.raises(
        PerceptError, match=f"more than the 400000000 allowed. Reduce it, or allow .* {PIXELS_VARIABLE}"
    ):
        check_pixels("a.png", 20_000, 20_001, "PNG")
    with pytest.raises(PerceptError, match="more than the 99 allowed"):
        check_pixels("a.png", 10, 10, "PNG", 99)
    for wrong in ("1e9", "-1", "0", "many"):
        monkeypatch.setenv(PIXELS_VARIABLE, wrong)
        with pytest.raises(PerceptError, match=f"{PIXELS_VARIABLE} is '{wrong}'. Set it to a number"):
            check_pixels("a.png", 1, 1, "PNG")


def test_a_text_image_has_a_budget_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMAT_PIXELS, "TEXT PNM", 15)
    text, binary = b"P2 4 4 255 " + b"9 " * 16, b"P5 4 4 255 " + b"9" * 16
    assert read_image(binary).size == (4, 4)
    for read in (read_image, upright_size):
        with pytest.raises(PerceptError, match="more than the 15 allowed for TEXT PNM"):
            read(text)


def test_bytes_have_a_budget(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bytes(11))
    assert len(read_bytes(tmp_path / "a.png", max_bytes=11)) == 11
    with pytest.raises(PerceptError, match="larger than the 10 bytes allowed"):
        read_bytes(tmp_path / "a.png", max_bytes=10)


ZEROS = {
    "JPEG": b"\xff\xd8\xff\xe0" + bytes(300_000),
    "JPEG of markers": b"\xff\xd8" + b"\xff\xe0\0\2" * 30_000,
    "GIF": b"GIF89a" + bytes(300_000),
    "GIF of blocks": b"GIF89a" + bytes(7) + b"!\xff\0" * 2_000,
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(300_000),
    "PNM of spaces": b"P2\n9" + b" " * 3_000_000,
    "PNM of one comment": b"P6\n#" + b"a" * 3_000_000,
}


@pytest.mark.parametrize("name", ZEROS)
def test_a_file_has_to_show_what_it_is_before_a_decoder_sees_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: pytest.fail("a decoder was started"))
    with pytest.raises(PerceptError, match=r"damaged or cut short: it begins like|the header of the PNG"):
        read_image(ZEROS[name])


def test_a_gif_with_too_many_blocks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("percept.data.gif.BLOCKS", 50)
    data = stored(Image.new("P", (8, 8)), "GIF")
    assert read_image(data).size == (8, 8)
    table = 13 + (3 << (data[10] & 7) + 1)
    with pytest.raises(PerceptError, match="more than 50 blocks"):
        read_image(data[:table] + b"!\xff\0" * 60 + data[table:])


def started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_threads_share_one_budget_and_a_large_image_waits() -> None:
    budget, most, lock = PixelBudget(100), [0], threading.Lock()

    def work(pixels: int) -> None:
        with budget.share(pixels):
            with lock:
                most[0] = max(most[0], budget.used)
            time.sleep(0.005)

    threads = [started(lambda pixels=pixels: work(pixels)) for pixels in (60, 60, 90, 30, 1000, 10, 20, 100)]
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
    assert 60 <= most[0] <= 100
    assert budget.used == 0


def test_a_large_image_is_not_overtaken_for_ever() -> None:
    budget, order = PixelBudget(100), []

    def work(pixels: int) -> None:
        with budget.share(pixels):
            order.append(pixels)

    with budget.share(50):
        large = started(lambda: work(80))
        while not budget._queue:
            time.sleep(0.001)
        small = started(lambda: work(10))
        while len(budget._queue) < 2:
            time.sleep(0.001)
    large.join(5)
    small.join(5)
    assert order == [80, 10]


def test_the_pixels_of_a_failed_image_are_given_back() -> None:
    with pytest.raises(PerceptError):
        read_image(png_header(64, 64))
    assert in_flight.used == 0


def test_pixels_stay_in_flight_until_the_image_is_preprocessed(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def preprocessed(self: Preprocess, image: Image.Image) -> torch.Tensor:
        used.append(in_flight.used)
        return torch.zeros(3, 8, 8, dtype=torch.uint8)

    monkeypatch.setattr(Preprocess, "__call__", preprocessed)
    read_pixels(stored(Image.new("RGB", (64, 32)), "PNG"), Preprocess(size=8))
    assert used == [64 * 32]
    assert in_flight.used == 0


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 11 GB")])
def test_memory_that_preprocessing_lacks_is_the_files_reason(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("percept.data.transforms.resized", fails)
    with pytest.raises(PerceptError, match="needs more memory than is free"):
        read_pixels(stored(Image.new("RGB", (64, 32)), "PNG"), Preprocess(size=8))


def test_a_bomb_in_metadata_is_not_unpacked() -> None:
    png = stored(Image.new("RGB", (8, 8)), "PNG")
    body = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(20_000_000))
    chunk = len(body).to_bytes(4, "big") + b"iTXt" + body + zlib.crc32(b"iTXt" + body).to_bytes(4, "big")
    assert read_image(png[:33] + chunk + png[33:]).size == (8, 8)


def test_a_long_line_is_cropped_without_being_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.functional.interpolate", lambda *_, **__: pytest.fail("3.7 billion pixels"))
    buffer = io.BytesIO()
    Image.new("RGB", (400_000, 1), "red").save(buffer, "PNG")
    pixels = read_pixels(buffer.getvalue(), Preprocess(size=96, resize="crop"))
    assert pixels.shape == (3, 96, 96)
    assert pixels[0].unique().tolist() == [255]
