"""pe/nano: its arithmetic, and its tiny form trained and opened."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import percept
from percept.cli.train import config_type
from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError
from percept.core.io import load_tensors
from percept.data.tokenizers import Tokenizer
from percept.methods.pretraining import nano
from percept.models.clip import CLIP
from percept.recipes import RECIPES, pe_nano
from percept.train import Experiment, Placement, fit
from percept.train.chain import Chain
from percept.weights.open import open_model
from percept.world.cache import cache_home, draw_cache, some_texts

PLACE = Placement(device=torch.device("cpu"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCEPT_CACHE", str(home))


def short() -> pe_nano.Config:
    config = pe_nano.tiny()
    return replace(config, settings=replace(config.settings, steps=4, log_every=1, device="cpu"))


ROWS = {"init": "MODEL", "data": ("rows.jsonl",)}
NEEDS: dict[str, dict] = {
    "pe/nano2": {"data": ("rows.csv",), "init": "nano"},
    "plm/stage1": ROWS,
    "plm/stage2": ROWS,
    "plm/stage3": ROWS,
    "plm/finetune": ROWS,
    "pe/cooldown": {"init": "MODEL"},
    "pe/video": {"init": "MODEL"},
    "pe/finetune": {"data": "photos"},
}
"""What recipes need that have no model or no data of their own."""


def test_every_recipe_of_the_table_builds_an_experiment_of_its_name() -> None:
    for name, where in RECIPES.items():
        module, function = where.split(":")
        build = getattr(__import__(module, fromlist=[function]), function)
        planned = build(config_type(build)(**NEEDS.get(name, {})))
        assert planned.name == name
        if isinstance(planned, Chain):
            continue
        assert isinstance(planned, Experiment)
        plan = getattr(planned.config, "plan", lambda planned=planned: planned.config.settings)
        assert plan() == planned.settings


def test_what_cannot_be_built_is_said_before_anything_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pe_nano, "draw_cache", None)
    monkeypatch.setattr(pe_nano.Tokenizer, "train", None)
    config = short()
    with pytest.raises(PerceptError, match="unknown device 'quantum'"):
        pe_nano.recipe(replace(config, settings=replace(config.settings, device="quantum")))
    with pytest.raises(PerceptError, match="output_dim"):
        replace(config, vision=replace(config.vision, output_dim=None))
    with pytest.raises(PerceptError, match="width"):
        replace(config, text_width=0)
    with pytest.raises(PerceptError, match="sketch"):
        replace(config, data=replace(config.data, style="sketsh"))


def test_a_recipe_is_built_without_drawing_or_tokenising(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(*arguments: object) -> None:
        raise AssertionError("something was drawn")

    monkeypatch.setattr(pe_nano, "draw_cache", drawn)
    experiment = pe_nano.recipe()
    assert experiment.stages[0] == "stage 1 of 3, regions of 48 pixels, 100 % of the patches seen"
    with pytest.raises(AssertionError, match="something was drawn"):
        experiment.source(PLACE)


def built(config: pe_nano.Config) -> nano.Pretraining:
    task = pe_nano.recipe(config).task(PLACE)
    assert isinstance(task, nano.Pretraining)
    return task


def test_the_method_s_configuration_chooses_how_much_a_tower_sees_at_once() -> None:
    for wanted, expected in ((400, 400), (None, pe_nano.CPU_TOKENS)):
        config = replace(short(), method=nano.Config(micro_tokens=wanted))
        assert built(config).config.micro_tokens == expected
    with pytest.raises(PerceptError, match="micro_tokens=0"):
        nano.Config(micro_tokens=0)


def test_words_that_come_often_or_are_special_weigh_nothing_or_little() -> None:
    config = short()
    task = built(config)
    texts = some_texts(draw_cache(config.data, cache_home()), 200_000)
    words = Tokenizer.train(texts, vocab_size=config.vocabulary, context=config.context)
    assert task.weights.shape == (words.vocab_size,)
    assert not task.weights[[0, words.start_id, words.end_id]].any()
    common, rare = (float(task.weights[words.encode(text)[0]]) for text in (" a", " wrench"))
    assert common < 0.5 < 3 < rare


def test_the_configuration_survives_json() -> None:
    for config in (pe_nano.Config(), pe_nano.tiny()):
        assert from_dict(pe_nano.Config, to_dict(config)) == config


def test_the_size_is_the_one_promised() -> None:
    config = pe_nano.Config()
    with torch.device("meta"):
        model = CLIP(pe_nano.clip_config(config, config.vocabulary))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert 6e6 < count < 8.5e6
    assert 2 * count < 20 * 2**20  # bytes as shipped, 16 bits each


def test_tiny_trains_and_opens_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    experiment = pe_nano.recipe(short(), command="percept train pe/nano --tiny")
    first = experiment.source(PLACE).batch(0)
    assert fit(experiment, tmp_path / "whole").step == 4
    opened = open_model(tmp_path / "whole")
    assert opened.provenance["command"] == "percept train pe/nano --tiny"
    assert (opened.provenance["steps"], opened.provenance["samples"]) == (4, 128)
    assert from_dict(pe_nano.Config, opened.provenance["config"]) == short()
    assert opened.tokenizer is not None
    assert opened.tokenizer.vocab_size == opened.model.config.text.vocabulary  # type: ignore[union-attr]

    encoder = percept.load(tmp_path / "whole", device="cpu", dtype="float32")
    vectors = encoder.text(["a red cup", "two blue cars"])
    assert vectors.shape == (2, 64)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))

    fit(pe_nano.recipe(short()), tmp_path / "parts", minutes=0.0)
    resumed = pe_nano.recipe(short())
    assert torch.equal(resumed.source(PLACE).batch(0).tensors()["image"], first.tensors()["image"])
    assert fit(resumed, tmp_path / "parts").step == 4
    whole, parts = (load_tensors(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_another_seed_starts_from_other_weights(tmp_path: Path) -> None:
    config = short()
    other = replace(config, settings=replace(config.settings, seed=1))
    one, two, three = ({}, {}, {})
    for state, which in ((one, config), (two, config), (three, other)):
        run = pe_nano.recipe(replace(which, settings=replace(which.settings, steps=1, learning_rate=1e-12)))
        saved = replace(run, save=lambda folder, task, totals, state=state: state.update(task.state_dict()))
        fit(saved, tmp_path / f"{id(state)}")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["clip.vision.patch.weight"], three["clip.vision.patch.weight"])


def test_patches_divide_every_size() -> None:
    config = short()
    with pytest.raises(PerceptError, match="does not divide into patches of 7"):
        replace(config, vision=replace(config.vision, patch_size=7))
    with pytest.raises(PerceptError, match=r"50 pixels \(stage 'scenes'\)"):
        replace(config, stages=(("scenes", 50, 1.0, 1.0),))
