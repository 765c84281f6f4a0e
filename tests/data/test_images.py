"""Every kind of file a person may call a picture: read right, or refused with the reason."""

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.images import read_image, upright_size
from percept.data.tones import _dark_notice

RED, BLUE = (250, 10, 20), (10, 20, 240)


def halves(size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    return image


def stored(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def near(image: Image.Image, at: tuple[int, int], colour: tuple[int, int, int], slack: int = 25) -> bool:
    pixel = image.getpixel(at)
    assert isinstance(pixel, tuple)
    return max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) <= slack


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds a few compressed zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF"])
def test_formats_give_the_same_picture(form: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.bin"
    path.write_bytes(stored(halves(), form, **({"quality": 95} if form in ("JPEG", "WEBP", "AVIF") else {})))
    for source in (path, str(path), path.read_bytes()):
        image = read_image(source)
        assert (image.mode, image.size) == ("RGB", (40, 20))
        assert near(image, (5, 10), RED)
        assert near(image, (35, 10), BLUE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(orientation: int) -> None:
    upright = Image.new("RGB", (32, 16), "white")
    upright.paste(RED, (0, 0, 16, 8))  # a mark in the top left corner tells all eight apart
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    camera = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = stored(camera, "JPEG", exif=exif, quality=95)
    image = read_image(file)
    assert image.size == upright_size(file) == (32, 16)
    assert near(image, (4, 3), RED)
    assert near(image, (28, 12), (255, 255, 255))


def test_damaged_exif_does_not_cost_the_picture() -> None:
    image = read_image(stored(halves(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xffgarbage"))
    assert near(image, (5, 10), RED)


def test_transparency_is_seen_over_white() -> None:
    clear_red = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    half_black = Image.new("LA", (8, 8), (0, 128))
    assert near(read_image(stored(clear_red, "PNG")), (4, 4), (255, 255, 255), 0)
    assert near(read_image(stored(half_black, "PNG")), (4, 4), (127, 127, 127), 1)
    assert near(read_image(stored(clear_red, "WEBP", lossless=True, exact=True)), (4, 4), (255, 255, 255), 1)


def test_palette_with_a_clear_entry_and_grey_with_a_clear_value() -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, *RED])
    palette.putpixel((0, 0), 0)
    image = read_image(stored(palette, "PNG", transparency=0))
    assert near(image, (0, 0), (255, 255, 255), 0)
    assert near(image, (4, 4), RED, 0)
    grey = read_image(stored(Image.new("L", (8, 8), 7), "PNG", transparency=7))
    assert near(grey, (4, 4), (255, 255, 255), 0)


def test_grey_and_bilevel() -> None:
    assert near(read_image(stored(Image.new("L", (8, 8), 90), "PNG")), (1, 1), (90, 90, 90), 0)
    assert near(read_image(stored(Image.new("1", (8, 8), 1), "PNG")), (1, 1), (255, 255, 255), 0)


def test_cmyk_as_adobe_writes_it() -> None:
    file = stored(halves().convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in file  # the marker that means: inverted
    image = read_image(file)
    assert near(image, (5, 10), RED)
    assert near(image, (35, 10), BLUE)
    assert near(read_image(stored(halves().convert("CMYK"), "TIFF")), (35, 10), BLUE)


@pytest.mark.parametrize(
    ("values", "form", "middle"),
    [
        (np.array([[0, 32768, 65535]], np.uint16), "PNG", 128),
        (np.array([[0, 32768, 65535]], np.uint16), "TIFF", 128),
        (np.array([[0, 500_000, 1_000_000]], np.int32), "TIFF", 128),
        (np.array([[0, 0.25, 1]], np.float32), "TIFF", 64),
        (np.array([[-10, 0, 30]], np.float32), "TIFF", 64),
    ],
)
def test_more_than_eight_bits_are_scaled_not_clipped(values: np.ndarray, form: str, middle: int) -> None:
    image = read_image(stored(Image.fromarray(values), form))
    grey = [pixel[0] for pixel in np.asarray(image)[0].tolist()]
    assert grey == [0, pytest.approx(middle, abs=1), 255]


@pytest.mark.parametrize(
    ("values", "form", "grey"),
    [
        (np.array([[0, 1, 1]], np.uint16), "PNG", [0, 0, 0]),  # nearly black, not black and white
        (np.array([[0, 100, 255]], np.float32), "TIFF", [0, 100, 255]),
        (np.full((1, 3), 100_000, np.float32), "TIFF", [0, 0, 0]),
        (np.full((1, 3), -5, np.int32), "TIFF", [0, 0, 0]),
    ],
)
def test_the_range_of_grey_values_is_the_plain_one(values: np.ndarray, form: str, grey: list[int]) -> None:
    image = read_image(stored(Image.fromarray(values), form))
    assert [pixel[0] for pixel in np.asarray(image)[0].tolist()] == grey


def test_flat_sixteen_bit_and_not_a_number() -> None:
    assert near(read_image(stored(Image.fromarray(np.full((4, 4), 0, np.uint16)), "PNG")), (1, 1), (0, 0, 0), 0)
    odd = np.array([[np.nan, 70_000.0, np.inf], [70_000.0] * 3], np.float32)
    assert read_image(stored(Image.fromarray(odd), "TIFF")).size == (3, 2)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE, (0, 255, 0))]
    data = stored(frames[0], form, save_all=True, append_images=frames[1:], duration=50)
    assert near(read_image(data), (8, 8), RED)


def test_arrays_and_pillow_pictures() -> None:
    pixels = np.asarray(halves())
    assert np.array_equal(np.asarray(read_image(pixels)), pixels)
    assert np.array_equal(np.asarray(read_image(pixels[:, ::-1])), pixels[:, ::-1])
    assert near(read_image(np.full((4, 5, 1), 9, np.uint8)), (4, 3), (9, 9, 9), 0)
    assert near(read_image(halves().convert("L")), (0, 0), (83, 83, 83), 2)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(PerceptError, match="uint8"):
        read_image(array)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_truncated_files_are_refused_or_whole(form: str, share: float, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    path = tmp_path / f"cut.{form.lower()}"
    path.write_bytes((data := stored(noise, form))[: int(len(data) * share)])
    with pytest.raises(PerceptError, match=r"cut\.\w+ is (damaged|not an image|empty)"):
        read_image(path)


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_never_escapes_as_another_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    form = ["PNG", "JPEG", "WEBP", "GIF", "TIFF"][seed % 5]
    data = bytearray(stored(halves((64, 64)), form))
    for at in rng.integers(0, len(data), 12):
        data[at] = rng.integers(0, 256)
    try:
        size = upright_size(bytes(data))
        assert read_image(bytes(data)).size == size
    except PerceptError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right, a third is not


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "is empty"),
        ("notes.jpg", b"Dear Anna,\nthe pictures come later.\n", "it is text \\('Dear Anna, the pictures"),
        ("umlaut.jpg", "Grüße aus Köln".encode(), "it is text \\('Grüße"),
        ("paper.png", b"%PDF-1.7 ...", "PDF"),
        ("junk.png", bytes(range(128, 256)), "none of JPEG"),
        ("script.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "PostScript"),
    ],
)
def test_what_is_no_picture_says_what_it_is(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PerceptError, match=reason):
        read_image(tmp_path / name)


def test_folder_missing_file_url_and_other_things(tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(PerceptError, match="there is no file"):
        read_image(tmp_path / "none.jpg")
    for address in (Path("http://x/y.jpg"), "https:/x/y.jpg", "S3:/bucket/y.jpg"):  # a Path keeps one slash of two
        with pytest.raises(PerceptError, match="is a url"):
            read_image(address)
    with pytest.raises(PerceptError, match="is a url"):
        read_image("https://example.com/cat.jpg")
    with pytest.raises(PerceptError, match="is a device, not a file"):
        read_image("/dev/zero")
    with pytest.raises(PerceptError, match="cannot be read"):
        read_image("a\0b.jpg")


def test_a_bomb_is_refused_from_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("pixels were decoded"))
    with pytest.raises(PerceptError, match=r"50000 × 50000 pixels, more than the 100000000 allowed"):
        read_image(png_header(50_000, 50_000))


def test_the_limit_is_ours_and_pillow_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    filters, data = list(warnings.filters), stored(halves(), "PNG")
    assert read_image(data).size == (40, 20)  # Pillow alone refuses more than twice its limit
    with pytest.raises(PerceptError, match="more than the 100 allowed"):
        read_image(data, max_pixels=100)
    assert Image.MAX_IMAGE_PIXELS == 100
    assert filters == list(warnings.filters)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))


def test_large_jpegs_decode_small_when_asked() -> None:
    data = stored(halves((1600, 800)), "JPEG")
    assert read_image(data).size == upright_size(data) == (1600, 800)
    assert read_image(data, at_least=100).size == (200, 100)
    assert read_image(data, at_least=101).size == (400, 200)
    assert read_image(stored(halves((1600, 800)), "PNG"), at_least=100).size == (1600, 800)


def test_a_picture_of_the_caller_is_left_as_it_is() -> None:
    given = Image.open(io.BytesIO(stored(halves((1600, 800)), "JPEG")))
    assert read_image(given, at_least=100).size == given.size == (1600, 800)


def test_many_threads_leave_limits_and_filters_as_they_were() -> None:
    good, bad = stored(halves((300, 300)), "PNG"), png_header(50_000, 50_000)
    before, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)

    def read(number: int) -> bool:
        try:
            return read_image(bad if number % 3 == 0 else good).size == (300, 300)
        except PerceptError:
            return number % 3 == 0

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(200)))
    assert before == Image.MAX_IMAGE_PIXELS
    assert filters == list(warnings.filters)


def test_a_link_to_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("nowhere.png")
    with pytest.raises(PerceptError, match="is a link to a file that does not exist"):
        read_image(tmp_path / "link.png")


def bmp(alpha: int) -> bytes:
    """A 32-bit BMP with a V4 header and a mask for alpha, all red."""
    pixels = bytes((*RED[::-1], alpha)) * 64
    head = struct.pack(
        "<IiiHHIIiiII4I", 108, 8, 8, 1, 32, 3, len(pixels), 1, 1, 0, 0, 0xFF0000, 0xFF00, 0xFF, 0xFF000000
    )
    return b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + head.ljust(108, b"\0") + pixels


def test_a_bmp_whose_alpha_was_never_filled_in_is_opaque() -> None:
    assert read_image(bmp(0)).getpixel((4, 4)) == RED
    assert read_image(bmp(255)).getpixel((4, 4)) == RED
    assert near(read_image(bmp(128)), (4, 4), (252, 132, 137), 2)


def test_twelve_bits_in_sixteen_are_dark_and_noticed_once(capsys: pytest.CaptureFixture[str]) -> None:
    _dark_notice.cache_clear()
    thermal = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    images = [read_image(stored(Image.fromarray(thermal), "PNG")) for _ in range(2)]
    assert np.asarray(images[0]).max() == 16
    assert " ".join(capsys.readouterr().err.split()).count("at most 12 of their 16 bits") == 1
    read_image(stored(Image.fromarray(thermal * 16), "PNG"))
    assert not capsys.readouterr().err


def test_what_is_returned_is_independent_of_file_and_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    once = read_image(stored(halves(), "PNG", exif=exif))
    assert read_image(once).size == once.size == (20, 40)  # it is not turned a second time
    mine = halves()
    read_image(mine).paste((0, 0, 0), (0, 0, 40, 20))
    assert np.array_equal(np.asarray(mine), np.asarray(halves()))
