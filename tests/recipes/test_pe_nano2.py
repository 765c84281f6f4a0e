"""pe/nano2: the tiny form trains, is opened, and knows the words of its drawings."""

from dataclasses import replace

import pytest
import torch

import percept
from percept.core.errors import PerceptError
from percept.methods.pretraining.joined import JoinedBatch
from percept.recipes import pe_nano2
from percept.train import Placement, fit
from tests.data.test_drawings import table


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))


def config(path) -> pe_nano2.Config:
    tiny = pe_nano2.tiny()
    return replace(tiny, data=(str(path),), settings=replace(tiny.settings, device="cpu"))


def test_the_tiny_form_trains_and_is_opened(tmp_path) -> None:
    fit(pe_nano2.recipe(config(table(tmp_path))), tmp_path / "run")
    encoder = percept.load(tmp_path / "run")
    assert encoder.tokenizer is not None
    assert "thing" in encoder.tokenizer.words
    assert encoder.preprocess.size == 96
    assert encoder.text(["a cat"]).shape == (1, 256)


def test_a_batch_holds_world_drawings_and_signs(tmp_path) -> None:
    experiment = pe_nano2.recipe(config(table(tmp_path)))
    batch = experiment.source(Placement(device=torch.device("cpu"))).batch(0)
    assert isinstance(batch, JoinedBatch)
    assert len(batch) == 8
    assert batch.pictures is not None
    assert batch.captions is not None
    assert len(batch.pictures) == len(batch.captions) == 8


def test_shares_of_processes_are_equal_and_make_up_the_batch(tmp_path) -> None:
    inputs = pe_nano2.Inputs(replace(config(table(tmp_path)), drawings=0.3, signs=0.2))  # 5 drawings, 3 signs
    source = inputs.source(Placement(device=torch.device("cpu"), world_size=2))
    whole, *shares = source.batch(0), *(source.batch(0, rank=rank, world_size=2) for rank in range(2))
    assert [len(each.pictures) for each in shares if each.pictures is not None] == [4, 4]
    assert whole.pictures is not None
    torch.testing.assert_close(torch.cat([each.pictures for each in shares]), whole.pictures)  # type: ignore[arg-type]
    with pytest.raises(PerceptError, match="do not divide into 3 equal shares"):
        inputs.source(Placement(device=torch.device("cpu"), world_size=3))
    settings = replace(inputs.config.settings, batch=1)
    with pytest.raises(PerceptError, match="a batch of 1 has no drawings"):
        replace(inputs.config, settings=settings)


@pytest.mark.parametrize("wrong", [{"drawings": 0.9, "signs": 0.1}, {"drawings": 0.0}])
def test_impossible_settings_are_refused(wrong) -> None:
    with pytest.raises(PerceptError):
        replace(pe_nano2.tiny(), **wrong)


def test_drawings_have_to_be_given() -> None:
    with pytest.raises(PerceptError, match="--data"):
        pe_nano2.recipe(pe_nano2.Config())


def test_an_encoder_to_begin_with_has_to_be_given() -> None:
    with pytest.raises(PerceptError, match="--init with a folder"):
        pe_nano2.recipe(pe_nano2.Config(data=("rows.csv",)))
