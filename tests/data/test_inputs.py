"""Where bytes come from: files, standard input and pipes; everything else is refused by name."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.files import find_images, read_list
from percept.data.images import read_image
from percept.data.inputs import check_file, is_pipe
from percept.data.magic import image_format, is_transport_stream, looks_like
from tests.data.test_images import stored

PNG = stored(Image.new("RGB", (12, 8), "red"), "PNG")
CODE = """
import sys
from percept.core.errors import PerceptError
from percept.data.files import find_images, read_each
from percept.data.images import read_image
try:
    files = find_images(sys.argv[1:])
    for image in [*read_each(files, read_image), *read_each(files, read_image)]:
        print(getattr(image, "reason", None) or image.size)
except PerceptError as error:
    print("error:", error)
"""


def outcome(arguments: list[str], data: bytes, folder: Path) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], input=data, capture_output=True, cwd=folder, check=True
    )
    return run.stdout.decode().splitlines()


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input_is_an_image_or_a_list_of_paths(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    assert outcome([name], PNG, tmp_path) == ["(12, 8)"] * 2  # a pipe can be read once, but may be named again
    listed = ["(12, 8)", "there is no file none.png"] * 2
    assert outcome([name], b"a.png\r\n\nnone.png\n", tmp_path) == listed
    assert outcome([name], b"a.png\0none.png\0", tmp_path) == listed


def test_a_list_is_named_with_an_at_sign(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(PNG)
    (tmp_path / "@file.png").write_bytes(PNG)
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa b.png\n")
    assert read_list(tmp_path / "list.txt") == [Path("a b.png")]
    assert outcome(["@list.txt"], b"", tmp_path) == ["(12, 8)"] * 2
    assert outcome(["@file.png"], b"", tmp_path) == ["(12, 8)"] * 2  # a file of that name comes first
    assert outcome(["@none.txt"], b"", tmp_path) == ["error: there is no file none.txt"]
    with pytest.raises(PerceptError, match="is not a list of paths: it holds PNG"):
        find_images(f"@{tmp_path / 'a b.png'}")


def test_a_pipe_of_the_shell_is_read(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, PNG)
    os.close(write)
    name = f"/dev/fd/{read}"
    assert is_pipe(name)
    assert read_image(name).size == read_image(name).size == (12, 8)
    assert find_images(name) == [Path(name)]
    os.close(read)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    for path in (tmp_path / "x.png", "/dev/zero"):
        with pytest.raises(PerceptError, match="is a device, not a file"):
            read_image(path)


def test_a_file_named_dash_has_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "-").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    assert check_file("./-") == len(PNG)


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (PNG, "PNG"), (b"\xff\xd8\xff\xe0", "JPEG"), (b"P5 4 4", "PNM"), (b"P1\n# c\n4 4", "PNM"), (b"P1 is a name", None),
        (b"BM\x36\0\0\0", "BMP"), (b"BMW is a car", None), (b"RIFF\0\0\0\0WEBPVP8 ", "WEBP"), (b"RIFF\0\0\0\0AVI LIST", None),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"), (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF"), (b"\0\0\0\x1cftypheic", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "HEIF"), (b"\0\0\0\x1cftypisom", None), (b"", None),
    ],
)  # fmt: skip
def test_formats_by_their_first_bytes(data: bytes, form: str | None) -> None:
    assert image_format(data) == form


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"), (b"\0\0\x01\0\x01\0", "icon"), (b"\xff\x0a\xfa", "JPEG XL"), (b"8BPS\0\1", "Photoshop"),
        (b"\0\0\0\x1cftypisom", "video"), (b"G" + bytes(187), None), ((b"G" + bytes(187)) * 9, "video"), (b"words", "text"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(data: bytes, words: str | None) -> None:
    meaning = looks_like(data)
    assert (meaning is None) if words is None else (meaning is not None and words in meaning)


@pytest.mark.parametrize("length", [188, 192, 204])
def test_transport_streams_are_known_by_their_sync_bytes(length: int) -> None:
    packet = np.random.default_rng(0).bytes(length)
    stream = b"".join(
        (bytes(4) if length == 192 else b"") + b"G" + packet[: length - (5 if length == 192 else 1)] for _ in range(9)
    )
    assert is_transport_stream(stream)
    assert is_transport_stream(stream[100:])  # begun inside a packet
    assert is_transport_stream(stream[: 3 * length])
    assert not is_transport_stream(b"const G = 1;" * 90)  # a G every 12 and so every 204 bytes
    assert not is_transport_stream(b"export const GG = 'GGGG';\n" * 100)
    assert not is_transport_stream(b"G")
    assert not is_transport_stream(stream[:length])  # one packet is not a row
