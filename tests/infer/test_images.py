"""Large JPEG files are decoded at a part of their size, which hardly moves a pixel, or whole where that is asked for."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from percept.core.errors import PerceptError
from percept.data.images import read_image
from percept.data.transforms import Preprocess
from percept.infer.images import _range_notice, is_single, to_tensor


def drawing(width: int, height: int) -> bytes:
    """Return a JPEG file with edges, thin lines and strong colours, which suffer most."""
    image = Image.new("RGB", (width, height), "white")
    pen, generator = ImageDraw.Draw(image), np.random.default_rng(0)
    for _ in range(60):
        x, y, size = (int(number) for number in generator.integers(0, (width, height, height // 3)))
        colour = tuple(int(part) for part in generator.choice([0, 128, 255], 3))
        pen.ellipse((x, y, x + size, y + size), fill=colour, outline="black", width=3)
        pen.line((y, x, x, y), fill=colour, width=2)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.mark.parametrize("size", [(1600, 1200), (1100, 1700), (4000, 3000)])
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_large_file_is_decoded_in_part(size, resize) -> None:
    file, preprocess = drawing(*size), Preprocess(size=96, resize=resize)
    part = read_image(file, at_least=preprocess.at_least)
    assert min(part.size) >= 4 * 96
    assert part.width in (size[0] // 2, size[0] // 4)
    drafted, opened = (to_tensor(one, preprocess).int() for one in (file, Image.open(io.BytesIO(file))))
    apart = (drafted - opened).abs()
    assert 0 < float(apart.float().mean()) < 0.5
    assert int(apart.max()) <= 16
    assert torch.equal(to_tensor(file, replace(preprocess, draft=0)).int(), opened)


def test_a_file_below_four_times_the_size_is_read_whole() -> None:
    file, preprocess = drawing(700, 500), Preprocess(size=128)
    assert torch.equal(to_tensor(file, preprocess), to_tensor(Image.open(io.BytesIO(file)), preprocess))


def test_a_draft_that_is_none() -> None:
    with pytest.raises(PerceptError, match="Give 0"):
        Preprocess(size=96, draft=-1)


class Upload:
    """What web frameworks pass: it has `read` and nothing else."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, size: int = -1) -> bytes:
        return self.data if size < 0 else self.data[:size]


def test_an_open_file_is_one_image(tmp_path) -> None:
    data, preprocess = drawing(70, 50), Preprocess(size=32)
    (tmp_path / "a.jpg").write_bytes(data)
    expected, memory = to_tensor(data, preprocess), io.BytesIO(data)
    with open(tmp_path / "a.jpg", "rb") as file:
        for opened in (file, memory, memory, Upload(data)):  # read twice: it is rewound
            assert is_single(opened)
            assert torch.equal(to_tensor(opened, preprocess), expected)
    with pytest.raises(PerceptError, match=r"a\.jpg cannot be read: .*closed"):
        to_tensor(file, preprocess)
    with open(tmp_path / "a.jpg", encoding="latin-1") as text, pytest.raises(PerceptError, match="opened as text"):
        to_tensor(text, preprocess)
    with pytest.raises(PerceptError, match="the open file is empty"):
        to_tensor(io.BytesIO(), preprocess)


def test_a_float_tensor_of_pixels_is_noticed_once(capsys) -> None:
    _range_notice.cache_clear()
    preprocess = Preprocess(size=8)
    to_tensor(torch.randn(3, 8, 8) * 3, preprocess)
    assert capsys.readouterr().err == ""
    for _ in range(2):
        to_tensor(torch.full((3, 8, 8), 255.0), preprocess)
    assert " ".join(capsys.readouterr().err.split()).count("Give pixels as uint8") == 1
