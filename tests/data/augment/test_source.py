"""Augmentation in sources: what batches hold, the same for any number of workers, new in each epoch."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data import mix, open_source
from percept.data.augment import Augment, Masking
from percept.data.batch import ImageText, Labelled
from percept.data.sources.batches import ImageCaptions, ViewsCaptions, ViewsText
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from tests.data.augment.test_augment import noise

SIZE = Preprocess(size=16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(6):
        place = tmp_path / "data" / f"class_{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        noise(40 + number, 30, number).save(place / f"{number}.png")
        (place / f"{number}.txt").write_text(f"caption {number}")
    return tmp_path / "data"


def opened(folder: Path, **arguments: Any) -> Any:
    return open_source(folder, **{"batch": 6, "preprocess": SIZE, "augment": Augment(), **arguments})


def test_batches_are_the_same_for_any_number_of_workers_and_ranks(folder: Path) -> None:
    alone = [opened(folder).batch(step).image for step in range(3)]
    with opened(folder, workers=2) as source:
        for step, image in enumerate(alone):
            assert torch.equal(source.batch(step).image, image)
    halves = [opened(folder).batch(1, rank=rank, world_size=2).image for rank in range(2)]
    assert torch.equal(torch.cat(halves), alone[1])


def test_a_sample_changes_with_the_epoch_and_the_seed(folder: Path) -> None:
    source, other = opened(folder), opened(folder, seed=1)
    first, second = (dict(zip(source.keys(step), source.batch(step).image, strict=True)) for step in (0, 1))
    assert first.keys() == second.keys()
    assert all(not torch.equal(first[key], second[key]) for key in first)
    again = dict(zip(other.keys(0), other.batch(0).image, strict=True))
    assert all(not torch.equal(first[key], again[key]) for key in first)


def test_pixels_are_those_of_the_view(folder: Path) -> None:
    source = opened(folder, seed=3)
    for key, image in zip(source.keys(0), source.batch(0).image, strict=True):
        opened_image = Image.open(folder / key).convert("RGB")
        seed = derive(derive(derive(3, "sample", 0, key), "augment"), "view", 0)
        view = Augment().draw(opened_image.size, (16, 16), seed)
        expected = SIZE.normalise(view(opened_image))
        assert (image - expected).abs().max() <= 0.5 / 127.5 + 1e-5  # the batch is not rounded to 8 bits


def test_what_batches_hold(folder: Path) -> None:
    tokenizer = Tokenizer.train(["caption 1"], vocab_size=270, context=12)
    assert isinstance(opened(folder).batch(0), ImageCaptions)
    assert isinstance(opened(folder, tokenizer=tokenizer).batch(0), ImageText)
    labelled = opened(folder, target="label").batch(0)
    assert isinstance(labelled, Labelled)
    assert labelled.image.shape == (6, 3, 16, 16)
    two = opened(folder, augment=Augment(views=2)).batch(0)
    assert isinstance(two, ViewsCaptions)
    assert two.image.shape == (6, 2, 3, 16, 16)
    assert two.hidden is None
    assert not torch.equal(two.image[:, 0], two.image[:, 1])
    assert torch.equal(two.image[:, 0], opened(folder).batch(0).image)
    mask = Masking(patch=4, ratio=0.5)
    masked = opened(folder, tokenizer=tokenizer, augment=Augment(mask=mask)).batch(0)
    assert isinstance(masked, ViewsText)
    assert masked.image.shape == (6, 3, 16, 16)
    assert masked.hidden is not None
    assert masked.hidden.shape == (6, 16)
    assert masked.hidden.sum(dim=1).tolist() == [8] * 6
    both = opened(folder, augment=Augment(views=2, mask=mask)).batch(0)
    assert both.hidden is not None
    assert both.hidden.shape == (6, 2, 16)
    assert len(both.first(4)) == 4
    assert len(both.first(4).text) == 4


def test_what_does_not_go_together_is_refused(folder: Path) -> None:
    with pytest.raises(PerceptError, match="squash"):
        opened(folder, preprocess=Preprocess(size=16, resize="pad"))
    with pytest.raises(PerceptError, match="several views"):
        opened(folder, target="label", augment=Augment(views=2))
    with pytest.raises(PerceptError, match="augment= has no effect"):
        opened(folder, target="row", preprocess=None)
    with pytest.raises(PerceptError, match="different batches"):
        mix([opened(folder), opened(folder, augment=Augment(views=2))], [1, 1], batch=2)


def test_all_frames_of_a_video_have_one_view(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.asarray(noise(64, 48)), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (tmp_path / "a.txt").write_text("a still clip")
    frames = opened(tmp_path, frames=4, batch=1).batch(0).frames[0]
    assert frames.shape == (4, 3, 16, 16)
    assert (frames - frames[:1]).abs().max() < 0.1  # the clip is still, so all frames are alike, up to its encoding
    plain = opened(tmp_path, frames=4, batch=1, augment=None).batch(0).frames[0]
    assert (frames - plain).abs().mean() > 0.05
    with pytest.raises(PerceptError, match="several views"):
        opened(tmp_path, frames=4, augment=Augment(views=2))
