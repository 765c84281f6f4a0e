"""What the first bytes of a file announce."""

import re

IMAGES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"qoif": "QOI",
    **{b"P%d" % kind: "PNM" for kind in range(1, 7)},
}
"""First bytes of image files that can be read; WebP, AVIF and HEIF are recognised further on."""

PNM_START = re.compile(rb"P[1-6]\s+[0-9#]")

OTHERS = {
    b"%PDF": "a PDF file",
    b"PK\x03\x04": "a zip archive",
    b"%!PS": "PostScript",
    b"\xff\x0a": "a JPEG XL file",
    b"\0\0\0\x0cJXL ": "a JPEG XL file",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 file",
    b"\xff\x4f\xff\x51": "a JPEG 2000 file",
    b"\0\0\x01\0": "an icon (ICO)",
    b"8BPS": "a Photoshop file",
    b"\x1f\x8b": "a gzip archive",
    b"\x1a\x45\xdf\xa3": "a video",
}

HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")


def image_format(data: bytes) -> str | None:
    """Return the image format that a file's first bytes announce; None if they announce no image.

    >>> image_format(b"GIF89a..."), image_format(b"text")
    ('GIF', None)
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _brand(data)
    form = next((form for start, form in IMAGES.items() if data.startswith(start)), None)
    if (form == "BMP" and as_text(data[:200]) is not None) or (form == "PNM" and not PNM_START.match(data)):
        return None  # text may begin with these letters
    return form


def _brand(data: bytes) -> str | None:
    brands = data[8 : min(200, max(16, int.from_bytes(data[:4], "big")))]
    if data[8:12] in (b"avif", b"avis"):
        return "AVIF"
    if data[8:12] in HEIF_BRANDS:
        return "AVIF" if b"avif" in brands or b"avis" in brands else "HEIF"
    return None


def looks_like(data: bytes) -> str | None:
    """Say what a file that is not an image looks like from its beginning; None if it is not known.

    >>> looks_like(b"%PDF-1.7")
    'it is a PDF file'
    """
    for start, meaning in OTHERS.items():
        if data.startswith(start):
            return f"it is {meaning}"
    if data[4:8] == b"ftyp" or data[:4] + data[8:12] == b"RIFFAVI " or is_transport_stream(data):
        return "it is a video"
    if (text := as_text(data[:200])) is not None:
        return f"it is text ({' '.join(text.split())[:30]!r} ...)"
    return None


def as_text(data: bytes) -> str | None:
    """Return `data` as text if it is UTF-8 (the last character may be cut) without control characters, else None."""
    text = data.decode("utf-8", errors="ignore")
    whole = len(text.encode()) >= len(data) - 3
    return text if whole and all(letter.isprintable() or letter.isspace() for letter in text) else None


def is_transport_stream(data: bytes) -> bool:
    """True if the bytes are an MPEG transport stream: packets of 188, 192 or 204 bytes, each with 0x47 in the same place.

    At least five packets in a row are looked at, or all of a smaller file; a recording may begin inside a packet.

    >>> is_transport_stream((b"G" + bytes(187)) * 5), is_transport_stream(b"const G = 1;" * 90)
    (True, False)
    """
    if as_text(data[:1000]) is not None:
        return False
    for length in (188, 192, 204):
        packets = min(8, len(data) // length - 1)
        for first in range(length) if packets >= 4 else (0, 4):
            marks = data[first : first + length * (packets + 1) : length]
            if len(marks) >= 2 and marks.strip(b"G") == b"":
                return True
    return False
