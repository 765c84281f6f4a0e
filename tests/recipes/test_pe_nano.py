"""pe/nano: its arithmetic, and its tiny form trained and opened."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import percept
from percept.core.config import from_dict, to_dict
from percept.core.contracts import Batch
from percept.core.errors import PerceptError
from percept.core.io import load_tensors
from percept.data.tokenizers import Tokenizer
from percept.losses.claims import claim_loss
from percept.models.clip import CLIP, unit
from percept.recipes import RECIPES, pe_nano
from percept.train import fit
from percept.weights.open import open_model
from percept.world.cache import draw_cache, some_texts
from percept.world.claims import COUNT, FIRST_SIDE
from percept.world.source import Stage


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCEPT_CACHE", str(home))


def short() -> pe_nano.Config:
    config = pe_nano.tiny()
    return replace(config, settings=replace(config.settings, steps=4, log_every=1, device="cpu"))


def test_the_table_of_recipes_names_functions_that_exist() -> None:
    for where in RECIPES.values():
        module, function = where.split(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))


def test_stages_follow_the_shares() -> None:
    config = replace(short(), stages=(("words", 48, 1.0, 0.5), ("regions", 64, 1.0, 0.25), ("scenes", 96, 0.5, 0.25)))
    assert pe_nano.stages(config) == (Stage(0, 48, "words"), Stage(2, 64, "regions"), Stage(3, 96, "scenes", 0.5))
    told = pe_nano.in_words(pe_nano.stages(config))
    assert told[3] == "stage 3 of 3, scenes of 96 pixels, 50 % of the patches seen"
    with pytest.raises(PerceptError, match=r"sum to 0\.9"):
        pe_nano.Config(stages=(("words", 48, 1.0, 0.5), ("scenes", 96, 1.0, 0.4)))
    with pytest.raises(PerceptError, match="'scenes'"):
        pe_nano.Config(stages=(("scene", 48, 1.0, 1.0),))
    with pytest.raises(PerceptError, match="above 0"):
        pe_nano.Config(stages=(("words", 48, 1.0, 1.5), ("scenes", 48, 1.0, -0.5)))


def test_what_cannot_be_built_is_said_before_anything_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pe_nano, "draw_cache", None)
    config = short()
    with pytest.raises(PerceptError, match="unknown device 'quantum'"):
        pe_nano.recipe(replace(config, settings=replace(config.settings, device="quantum")))
    with pytest.raises(PerceptError, match="output_dim"):
        replace(config, vision=replace(config.vision, output_dim=None))
    with pytest.raises(PerceptError, match="width"):
        replace(config, text_width=0)


def pretraining() -> tuple[pe_nano.Pretraining, Batch, Batch]:
    """Return a model, and a batch of windows with words only and one of scenes with everything."""
    config = replace(short(), stages=(("words", 48, 1.0, 0.5), ("scenes", 96, 0.5, 0.5)))
    experiment = pe_nano.recipe(config)
    assert isinstance(experiment.model, pe_nano.Pretraining)
    return experiment.model, experiment.source.batch(0), experiment.source.batch(3)


def test_a_step_of_words_leaves_the_text_tower_alone_and_one_of_texts_trains_everything() -> None:
    model, windows, scenes = pretraining()
    assert windows.tokens is None
    words = model.training_step(windows)
    assert set(words) == {"loss", "words", "kinds", "colours"}
    words["loss"].backward()
    assert {name.split(".")[0] for name, one in model.clip.named_parameters() if one.grad is not None} == {"vision"}
    model.zero_grad()
    whole = model.training_step(scenes)
    whole["loss"].backward()
    assert all(one.grad is not None and one.grad.any() for one in model.parameters())
    parts = ("words", "kinds", "colours", "claims", "contrast", "things", "said")
    expected = torch.stack([whole[part] for part in parts]).sum() + 4 * whole["contrary"]
    torch.testing.assert_close(whole["loss"].detach(), expected)


def test_one_head_tells_what_pictures_and_texts_claim() -> None:
    """Right and wrong texts by their own claims; colours and sides are questions of their own."""
    model, _, scenes = pretraining()
    assert scenes.contrary is not None
    assert scenes.said is not None
    assert scenes.claims is not None
    with torch.no_grad():
        found = model.training_step(scenes)
        texts = unit(model.clip.encode_text(scenes.contrary.flatten(0, 2)))
        pooled = model.clip.vision(scenes.image, keep=scenes.keep).pooled
        assert pooled is not None
        image = unit(pooled)
        for name, vectors, claims in (
            ("said", texts, scenes.said.flatten(0, 2)),
            ("claims", image, scenes.claims),
        ):
            logits = model.claim_head(pe_nano.CLAIM_SCALE * vectors)
            colours = claim_loss(logits, claims, (1, FIRST_SIDE))
            sides = claim_loss(logits, claims, (FIRST_SIDE, COUNT))
            torch.testing.assert_close(found[name], colours + sides, atol=1e-4, rtol=1e-4)
    exchanged = replace(scenes, said=scenes.said.flip(2))
    assert not torch.allclose(model.training_step(exchanged)["said"], found["said"])


def test_the_settings_choose_how_much_a_tower_sees_at_once() -> None:
    for asked, expected in ((400, 400), (None, pe_nano.CPU_TOKENS)):
        config = replace(short(), settings=replace(short().settings, micro_tokens=asked))
        model = pe_nano.recipe(config).model
        assert isinstance(model, pe_nano.Pretraining)
        assert model.clip.micro_tokens == expected


def test_a_batch_without_truth_about_its_patches_has_contrast_and_words() -> None:
    model, _, scenes = pretraining()
    bare = replace(scenes, cover=None, things=None, names=None, claims=None, contrary=None)
    found, whole = model.training_step(bare), model.training_step(scenes)
    assert set(found) == {"loss", "words", "contrast", "scale", "batch_accuracy"}
    torch.testing.assert_close(found["words"], whole["words"])
    torch.testing.assert_close(found["contrast"], whole["contrast"], atol=1e-5, rtol=1e-5)


def test_parts_that_fit_the_caches_change_no_loss() -> None:
    model, _, scenes = pretraining()
    model.clip.micro_tokens = None
    whole = model.training_step(scenes)
    model.clip.micro_tokens = 5 * 72
    parts = model.training_step(scenes)
    for name in ("words", "contrast", "things", "contrary"):
        torch.testing.assert_close(parts[name], whole[name], atol=1e-5, rtol=1e-5)
    for name in ("kinds", "colours"):  # means of parts, not of patches
        torch.testing.assert_close(parts[name], whole[name], atol=0.1, rtol=0.05)


def test_patches_are_labelled_by_what_covers_them() -> None:
    cover = torch.tensor([[0, 1, -1, -2], [-1, 0, 0, -2]])
    things = torch.tensor([[[7, 3], [99, -1]], [[0, 11], [-1, -1]]])
    kinds, colours = pe_nano.patch_labels(cover, things)
    assert kinds.tolist() == [[7, 99, 100, -1], [100, 0, 0, -1]]
    assert colours.tolist() == [[3, -1, -1, -1], [-1, 11, 11, -1]]


def test_words_that_come_often_or_are_special_weigh_nothing_or_little() -> None:
    config = short()
    folder = draw_cache(config.data, pe_nano.cache_home())
    words = Tokenizer.train(some_texts(folder, 200_000), vocab_size=config.vocabulary, context=config.context)
    weights = pe_nano.some_weights(folder, words)
    assert weights.shape == (words.vocab_size,)
    assert not weights[[0, words.start_id, words.end_id]].any()
    common, rare = (float(weights[words.encode(text)[0]]) for text in (" a", " wrench"))
    assert common < 0.5 < 3 < rare


def test_the_configuration_survives_json() -> None:
    for config in (pe_nano.Config(), pe_nano.tiny()):
        assert from_dict(pe_nano.Config, to_dict(config)) == config


def test_the_size_is_the_one_promised() -> None:
    config = pe_nano.Config()
    words = Tokenizer.__new__(Tokenizer)  # one of full size takes long to train
    words.context, words.vocab_size = config.context, config.vocabulary
    with torch.device("meta"):
        model = CLIP(pe_nano.clip_config(config, words))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert 6e6 < count < 8.5e6
    assert 2 * count < 20 * 2**20  # bytes as shipped, 16 bits each


def test_tiny_trains_and_opens_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    experiment = pe_nano.recipe(short(), command="percept train pe/nano --tiny")
    first = experiment.source.batch(0)
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
    assert torch.equal(resumed.source.batch(0).tensors()["image"], first.tensors()["image"])
    assert fit(resumed, tmp_path / "parts").step == 4
    whole, parts = (load_tensors(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_another_seed_starts_from_other_weights() -> None:
    config = short()
    other = replace(config, settings=replace(config.settings, seed=1))
    one, two, three = (pe_nano.recipe(which).model.state_dict() for which in (config, config, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["clip.vision.patch.weight"], three["clip.vision.patch.weight"])


def test_patches_divide_every_size() -> None:
    config = short()
    with pytest.raises(PerceptError, match=r"vision\.image_size of 96 pixels does not divide into patches of 7"):
        replace(config, vision=replace(config.vision, patch_size=7))
    with pytest.raises(PerceptError, match="a stage of 50 pixels"):
        replace(config, stages=(("scenes", 50, 1.0, 1.0),))
