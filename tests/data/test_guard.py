"""The guard around decoders: plain words, silence, and nothing left behind in the process or its children."""

import logging
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.guard import Fault, reading
from percept.data.images import read_image
from tests.data.test_images import stored
from tests.data.tiffs import tiff


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("image file is truncated"), "x.png is damaged or cut short: image file is truncated"),
        (ValueError("invalid literal for int() with base 10: b'\\xb210'"), "x.png is damaged or cut short: its content is not"),
        (SyntaxError("broken PNG file (chunk b'IDAT')"), "its content is not valid"),
        (OSError("decoder error -2"), "its content is not valid"),
        (KeyError(7), "its content is not valid"),
        (MemoryError(), "x.png needs more memory than is free"),
        (Fault("is a parrot"), "x.png is a parrot"),
        (PerceptError("as it was"), "^as it was$"),
    ],
)  # fmt: skip
def test_every_error_becomes_one_sentence_about_the_file(error: Exception, words: str) -> None:
    with pytest.raises(PerceptError, match=words), reading("x.png"):
        raise error


def test_what_is_global_is_restored_after_errors_and_nesting() -> None:
    before, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    inside = []
    with pytest.raises(PerceptError), reading("a"), reading("b"):
        raise OSError(inside.append(Image.MAX_IMAGE_PIXELS))
    assert inside == [None]
    assert before == Image.MAX_IMAGE_PIXELS
    assert filters == list(warnings.filters)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forked_while_others_read_starts_with_everything_restored() -> None:
    inside, done = threading.Event(), threading.Event()

    def reads() -> None:
        with reading("slow"):
            inside.set()
            done.wait(10)

    before = Image.MAX_IMAGE_PIXELS
    thread = threading.Thread(target=reads)
    thread.start()
    inside.wait(10)
    child = os.fork()
    if child == 0:
        data = stored(Image.new("RGB", (8, 8)), "PNG")
        restored = before == Image.MAX_IMAGE_PIXELS and before is not None
        read_image(data)
        os._exit(0 if restored and before == Image.MAX_IMAGE_PIXELS else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert Image.MAX_IMAGE_PIXELS is None  # the parent still reads
    done.set()
    thread.join(10)
    assert status == 0
    assert before == Image.MAX_IMAGE_PIXELS


def test_pillow_logs_nothing_about_a_file(caplog: pytest.LogCaptureFixture) -> None:
    level = logging.getLogger("PIL").level
    data = tiff(np.zeros((8, 8, 9), np.uint8), photometric=2)
    with pytest.raises(PerceptError, match="9 per pixel, RGB"):
        read_image(data)
    assert not caplog.records
    assert logging.getLogger("PIL").level == level


def test_the_decoder_of_tiff_prints_nothing(tmp_path: Path) -> None:
    """In a process of its own: libtiff writes to the real standard error."""
    stripes = Image.fromarray(np.indices((64, 64)).sum(0).astype(np.uint8) % 7 * 30).convert("1")
    data = bytearray(stored(stripes, "TIFF", compression="group4"))
    data[8:40] = bytes(range(100, 132))
    (tmp_path / "bad.tif").write_bytes(bytes(data))
    code = """
import sys
from PIL import Image
from percept.core.errors import PerceptError
from percept.data.images import read_image
try:
    print(read_image(sys.argv[1]).size)
except PerceptError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "bad.tif"], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    assert run.stdout.strip()
