"""A tiny model folder and a folder of pictures, made once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.infer import tiny


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> str:
    return str(tiny.folder(tmp_path_factory.mktemp("model")))


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Five pictures, one of them empty and one a text; a name with brackets, one in a subfolder."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("one.png", "a [red] cup.jpg", "more/three.webp")):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("not a picture")
    (folder / "notes.txt").write_text("left alone")
    return folder
