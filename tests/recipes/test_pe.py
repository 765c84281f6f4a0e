"""pe/pretrain: the switches and points of the ablation, its published settings, its cost, and runs on the world and on files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import percept
from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError
from percept.core.io import load_tensors
from percept.data.augment import Masking
from percept.recipes import pe, pe_data
from percept.recipes.pe import SWITCHES
from percept.recipes.pe_cost import at_budget, image_operations, text_operations, training_operations
from percept.recipes.pe_sizes import DISTILLATION, POINTS, PRETRAINING, SIZES, VIDEO
from percept.train import Placement, Settings, fit
from percept.world.augment import NONE
from percept.world.cache import WorldData
from percept.world.source import WorldSource
from tests.recipes.pictures import captioned

PLACE = Placement(device=torch.device("cpu"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def config(**changes: object) -> pe.Config:
    return pe.Config(**{"lamb_optimiser": "adamw", **changes})  # type: ignore[arg-type]


def short(**changes: object) -> pe.Config:
    settings = replace(pe.Config().settings, steps=3, batch=4, warmup=1, log_every=1, device="cpu", dtype="float32")
    return config(size="pico", vocabulary=400, world=WorldData(pairs=12), settings=settings, **changes)


def test_every_point_adds_the_step_it_is_named_after() -> None:
    expected = (*SWITCHES,)
    for number, point in enumerate(POINTS):
        assert [switch for switch in SWITCHES if config(point=point).on(switch)] == list(expected[:number])
    assert (
        *("vanilla", "progressive", "batch", "lamb", "resolution", "rope", "attention_pool", "augmentation", "pe_core"),
    ) == POINTS
    assert not config(point="pe_core", rope=False).on("rope")
    assert config(point="vanilla", rope=True).on("rope")


def test_what_each_switch_changes() -> None:
    """Table of the ablation, arXiv:2504.13181, figure 2: L/14."""
    at = {point: config(size="L", point=point, published=True) for point in POINTS}
    assert at["vanilla"].sides() == (224,)
    assert at["progressive"].sides() == (98, 154, 224)
    assert [stage.first for stage in at["progressive"].stages()] == [0, 147_667, 295_333]
    assert at["progressive"].plan().batch * 2 == at["batch"].plan().batch == 131_072
    assert at["batch"].plan().steps == at["vanilla"].plan().steps
    assert (at["batch"].plan().learning_rate, at["lamb"].plan().learning_rate) == (5e-4, 2e-3)
    assert at["resolution"].sides() == (98, 154, 224, 336)
    starts = [stage.first / 443_000 for stage in at["resolution"].stages()]
    assert starts == pytest.approx([0, 10 / 24, 18 / 24, 22 / 24], abs=1e-5)
    assert [at[point].model(9).vision.rope for point in ("resolution", "rope")] == [False, True]
    assert [at[point].model(9).vision.pool for point in ("rope", "attention_pool")] == ["class", "attention"]
    assert [at[point].training(PLACE).mask_share for point in ("augmentation", "pe_core")] == [0, 1 / 16]
    assert config(size="L").lamb_optimiser != pe.Config(point="vanilla").lamb_optimiser == "lamb"


def test_the_last_point_has_the_shapes_of_the_published_models() -> None:
    for name, size in SIZES.items():
        text = size.model.text
        assert text is not None
        assert config(size=name).model(text.vocabulary) == size.model
        assert size.sides[-1] == size.model.vision.image_size
        assert all(side % size.model.vision.patch_size == 0 for side in size.sides)
        vanilla = config(size=name, point="vanilla").model(text.vocabulary).vision
        assert (vanilla.pool, vanilla.class_token, vanilla.rope) == ("class", True, False)


def test_the_published_settings() -> None:
    """Tables 18 and 19: 58 billion samples for B and L, 86 for G, 22 million clips, 4.4 billion for distillation."""
    samples = {name: config(size=name, published=True).plan() for name in ("B", "L", "G")}
    assert [round(each.steps * each.batch / 1e9) for each in samples.values()] == [58, 58, 86]
    assert {(each.learning_rate, each.warmup, each.weight_decay) for each in samples.values()} == {(2e-3, 2_000, 0.05)}
    assert {each.betas for each in samples.values()} == {(0.9, 0.95)}
    assert round(VIDEO.steps * VIDEO.batch / 1e6) == 22
    assert round(DISTILLATION.steps * DISTILLATION.batch / 1e9, 1) == 4.4
    assert (VIDEO.learning_rate, DISTILLATION.learning_rate, PRETRAINING["L"].learning_rate) == (1e-6, 1e-6, 5e-4)
    with pytest.raises(PerceptError, match="no published settings for nano"):
        config(published=True)


def test_the_cost_follows_the_paper() -> None:
    """Relative operations of figure 2: 1.0, 0.5, 1.1, 1.1, 1.2, …; the text tower is counted here."""
    costs = [
        training_operations(config(size="L", point=point, published=True, vocabulary=49_408), text_tokens=32)
        for point in POINTS
    ]
    relative = [cost / costs[0] for cost in costs]
    assert relative == pytest.approx([1, 0.5, 1.1, 1.1, 1.2, 1.2, 1.2, 1.2, 1.2], rel=0.21)
    first = config(size="pico", point="vanilla")
    for point in POINTS:
        equal = at_budget(config(size="pico", point=point), training_operations(first))
        assert training_operations(equal) == pytest.approx(training_operations(first), rel=0.01)


def test_operations_are_those_of_the_matrix_products() -> None:
    model = SIZES["pico"].model
    width, hidden, tokens = 128, 512, 1 + (32 // 8) ** 2
    block = tokens * (4 * width**2 + 2 * width * hidden) + 2 * tokens**2 * width
    patches = (tokens - 1) * 3 * 8**2 * width
    pool = (tokens + 1) * 3 * width**2 + width**2 + 8 * width**2 + 2 * tokens * width
    by_hand = 2 * (4 * block + patches + pool + width * 128)
    assert image_operations(model.vision, 32) == pytest.approx(by_hand, rel=0.02)  # type: ignore[arg-type]
    assert model.text is not None
    block = 20 * (4 * width**2 + 2 * width * hidden) + 2 * 20**2 * width
    assert text_operations(model.text, 20) == pytest.approx(2 * (2 * block + width * 128), rel=0.02)


def test_the_configuration_survives_json() -> None:
    for each in (pe.Config(), config(point="lamb", rope=True), pe.tiny()):
        assert from_dict(pe.Config, to_dict(each)) == each


def test_settings_without_effect_are_refused(tmp_path: Path) -> None:
    lion = replace(pe.Config().settings, optimiser="lion")
    with pytest.raises(PerceptError, match="optimiser=lion has no effect, because lamb is on"):
        pe.Config(settings=lion)
    with pytest.raises(PerceptError, match="because published is on"):
        pe.Config(settings=lion, size="B", published=True, lamb=False)
    assert pe.Config(settings=lion, lamb=False).plan().optimiser == "lion"
    assert pe.Config(settings=lion, point="vanilla").plan().optimiser == "lion"
    assert pe.Config(settings=lion, lamb_optimiser="lion").plan().learning_rate == pytest.approx(4 * lion.learning_rate)
    with pytest.raises(PerceptError, match="text_from takes that of nano"):
        pe.Config(text_from="nano", tokenizer=tmp_path / "tokenizer.json")


def test_masks_that_do_not_fit_an_image_size_are_refused_at_once() -> None:
    with pytest.raises(PerceptError, match="whole blocks"):
        config(method=replace(pe.Config().method, mask_block=5))
    assert config(point="vanilla", method=replace(pe.Config().method, mask_block=5)).sides() == (64,)


def test_the_generated_world_is_augmented_by_the_switch_only() -> None:
    run = short()
    for point, how in (("attention_pool", NONE), ("augmentation", run.world.augment)):
        source = pe.recipe(replace(run, point=point)).source(PLACE)  # type: ignore[arg-type]
        assert isinstance(source, WorldSource)
        assert source.data.augment == how
    assert [tuple(source.batch(step).image.shape) for step in (0, 2)] == [(8, 3, 24, 24), (8, 3, 48, 48)]


@pytest.mark.parametrize("point", ["vanilla", "pe_core"])
def test_a_point_trains_opens_and_resumes_to_the_same_weights(point: str, tmp_path: Path) -> None:
    run = short(point=point)
    fit(pe.recipe(run, command="percept train pe/pretrain"), tmp_path / "whole")
    encoder = percept.load(tmp_path / "whole", device="cpu")
    assert encoder.text(["a red cup"]).shape == (1, 128)
    assert encoder.model.config.vision.image_size == run.sides()[-1]
    for _ in range(2):
        fit(pe.recipe(run), tmp_path / "parts", minutes=0.0 if _ == 0 else None)
    whole, parts = (load_tensors(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert "mask_token" not in whole


def test_own_files_come_at_the_size_of_each_stage_with_the_paper_s_augmentation(tmp_path: Path) -> None:
    captioned(tmp_path / "pictures", 9)
    run = short(data=(str(tmp_path / "pictures"),))
    experiment = pe.recipe(run)
    source = experiment.source(PLACE)
    assert isinstance(source, pe_data.Staged)
    assert [tuple(source.batch(step).image.shape) for step in (0, 2)] == [(8, 3, 24, 24), (8, 3, 48, 48)]  # type: ignore[attr-defined]
    again = pe.recipe(run).source(PLACE).batch(2)
    assert torch.equal(again.tensors()["image"], source.batch(2).tensors()["image"])
    plain = pe.recipe(replace(run, augmentation=False)).source(PLACE).batch(2)
    assert not torch.equal(again.tensors()["image"], plain.tensors()["image"])
    fit(experiment, tmp_path / "run")
    tokenizer = percept.load(tmp_path / "run", device="cpu").tokenizer
    assert tokenizer is not None
    assert tokenizer.decode(tokenizer("a picture of number 3")[0].tolist()) == "a picture of number 3"


def test_captions_come_from_the_field_that_is_named_and_an_error_names_the_option(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "rows.csv").write_text("path,words_of_it\na.png,a black square\n")
    data = pe_data.Data(data=(str(tmp_path / "rows.csv"),))
    tokenizer = percept.load("nano").tokenizer
    assert tokenizer is not None
    settings = Settings(steps=1, batch=1)
    with pytest.raises(PerceptError, match=r"fields with text: words_of_it\. Give images .*--captions") as raised:
        pe_data.files(data, tokenizer, settings, 8, True)
    assert "captions=" not in str(raised.value)
    named = replace(data, captions=("words_of_it",))
    batch = pe_data.files(named, tokenizer, settings, 8, True).batch(0)
    assert tokenizer.decode(batch.tokens[0].tolist()) == "a black square"  # type: ignore[attr-defined]
    assert list(pe_data.captions_of(named)) == ["a black square"]
    with pytest.raises(PerceptError, match=r"holds no videos .*Give clips"):
        pe_data.files(data, tokenizer, settings, 8, True, frames=4)


def test_a_mixture_of_files_keeps_its_weights(tmp_path: Path) -> None:
    for name in ("one", "two"):
        captioned(tmp_path / name, 4)
    run = short(data=(f"{tmp_path / 'one'}:3", str(tmp_path / "two")))
    source = pe.recipe(run).source(PLACE)
    assert isinstance(source, pe_data.Staged)
    keys = source.sources[0].keys(0)  # type: ignore[attr-defined]
    assert sum(key.startswith("0") for key in keys) >= 5
    with pytest.raises(PerceptError, match="positive number"):
        short(data=("rows.jsonl:0",))


def test_a_vocabulary_file_is_used_and_clip_s_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captioned(tmp_path / "pictures", 3)
    run = short(data=(str(tmp_path / "pictures"),))
    trained = pe.tokenizer_of(run, SIZES["pico"])
    trained.save(tmp_path / "tokenizer.json")
    monkeypatch.setattr(pe_data, "find_vocabulary", lambda: None)
    for size in ("pico", "B"):
        read = pe.tokenizer_of(replace(run, tokenizer=tmp_path / "tokenizer.json"), SIZES[size])
        assert read.pieces == trained.pieces
    own = pe.tokenizer_of(replace(run, size="B"), SIZES["B"])
    assert own.context == 32
    monkeypatch.setattr(pe_data, "find_vocabulary", lambda: tmp_path / "tokenizer.json")
    assert pe.tokenizer_of(replace(run, size="B"), SIZES["B"]).pieces == trained.pieces


def test_the_masking_is_that_of_the_data() -> None:
    assert pe.Config().method.masking(16) == Masking(patch=16, ratio=0.4, block=1)


def test_a_run_can_begin_with_a_trained_text_tower_and_its_vocabulary() -> None:
    nano = percept.load("nano", dtype="float32")
    task = pe.recipe(short(point="vanilla", text_from="nano")).task(PLACE)
    assert isinstance(task, pe.pe.Pretraining)
    assert task.clip.text is not None
    assert nano.model.text is not None
    for name, value in nano.model.text.state_dict().items():
        torch.testing.assert_close(task.clip.text.state_dict()[name], value)
    assert task.clip.config.vision.output_dim == nano.dim
    with pytest.raises(PerceptError):
        pe.recipe(short(text_from="nowhere")).task(PLACE)
