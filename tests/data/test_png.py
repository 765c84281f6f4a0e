"""PNG: metadata, whatever is wrong with it, never costs an image; pixels that are missing do."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from percept.core.errors import PerceptError
from percept.data.images import read_image, upright_size
from percept.data.png import pixel_chunks
from tests.data.test_images import stored

GRADIENT = Image.radial_gradient("L").convert("RGB").resize((64, 48))
PNG = stored(GRADIENT, "PNG")
PLACES = {"in front of the pixels": 33, "behind the pixels": len(PNG) - 12}


def chunk(kind: bytes, body: bytes, *, wrong: bool = False) -> bytes:
    checksum = zlib.crc32(kind + body) ^ wrong
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def with_chunk(place: int, piece: bytes) -> bytes:
    return PNG[:place] + piece + PNG[place:]


def same(data: bytes) -> bool:
    return np.array_equal(np.asarray(read_image(data)), np.asarray(GRADIENT)) and upright_size(data) == GRADIENT.size


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "iCCP"])
def test_large_metadata_is_passed_over(kind: str) -> None:
    info = PngImagePlugin.PngInfo()
    if kind == "zTXt":
        info.add_text("workflow", "x" * 1_100_000, zip=True)
    if kind == "iTXt":
        info.add_itxt("workflow", "x" * 1_100_000, zip=True)
    profile = os.urandom(1_100_000) if kind == "iCCP" else None
    assert same(stored(GRADIENT, "PNG", pnginfo=info, icc_profile=profile))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"tEXt", b"k\0v"), (b"pHYs", struct.pack(">IIB", 1, 1, 1)), (b"eXIf", b"II*\0\x08\0\0\0\0\0"), (b"gAMA", bytes(4)),
        (b"tIME", bytes(7)), (b"bKGD", bytes(6)), (b"juNk", b""),
    ],
)  # fmt: skip
def test_a_wrong_checksum_of_an_ancillary_chunk_does_not_matter(kind: bytes, body: bytes, place: str) -> None:
    assert same(with_chunk(PLACES[place], chunk(kind, body, wrong=True)))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "kind",
    [
        "gAMA",
        "pHYs",
        "cHRM",
        "sRGB",
        "tRNS",
        "bKGD",
        "hIST",
        "sBIT",
        "eXIf",
        "iCCP",
        "zTXt",
        "iTXt",
        "acTL",
        "fcTL",
        "fdAT",
    ],
)
def test_a_short_ancillary_chunk_does_not_matter(kind: str, place: str) -> None:
    for body in (b"", b"\0", b"\0\0"):
        assert same(with_chunk(PLACES[place], chunk(kind.encode(), body)))


def test_the_orientation_is_kept_wherever_it_is_written() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = PngImagePlugin.PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=True)
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "x" * 200_000)
    for options in ({"exif": exif}, {"exif": exif, "pnginfo": info}, {"pnginfo": xmp}):
        data = stored(GRADIENT, "PNG", **options)
        assert read_image(data).size == upright_size(data) == (48, 64)


def test_a_plain_file_is_not_copied() -> None:
    assert pixel_chunks(PNG) is PNG


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (PNG[:20], "the header of the PNG is not valid"),
        (PNG[:8], "ends before its size"),
        (PNG[:29] + b"\0\0\0\0" + PNG[33:], "the header of the PNG is not valid"),
        (PNG[: len(PNG) // 2], "damaged or cut short"),
        (PNG[:8] + chunk(b"CgBI", bytes(4)) + PNG[8:], "Apple's own form"),
    ],
)
def test_damage_that_costs_pixels_is_named(data: bytes, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        read_image(data)


def test_an_end_chunk_is_not_needed_and_chunks_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert same(PNG[:-12])
    monkeypatch.setattr("percept.data.png.CHUNKS", 10)
    with pytest.raises(PerceptError, match="more than 10 chunks"):
        read_image(with_chunk(33, chunk(b"tEXt", b"k\0v") * 10))


def test_the_size_is_known_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    behind = with_chunk(PLACES["behind the pixels"], chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    assert read_image(behind).size == (48, 64)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("pixels were decoded"))
    assert upright_size(behind) == (48, 64)
    assert upright_size(PNG) == (64, 48)
