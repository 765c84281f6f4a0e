"""The stages of the Perception Encoder alone and in a row, and the ablations built on them."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import percept
from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError
from percept.core.io import load_tensors
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.methods.pretraining.distill import Distillation, TaughtText
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.recipes import pe_core, pe_figure2, pe_stages, pe_video_captions
from percept.recipes.pe_cost import training_operations
from percept.recipes.pe_distill import Distill, distill
from percept.recipes.pe_sizes import POINTS
from percept.recipes.pe_stages import Cooldown, Video, cooldown, video
from percept.train import Placement, Settings, fit
from percept.train.chain import fit_chain
from percept.weights.folder import save_folder
from percept.world.cache import WorldData
from tests.recipes.pictures import captioned, picture

PLACE = Placement(device=torch.device("cpu"))
SETTINGS = Settings(steps=2, batch=4, learning_rate=1e-3, warmup=0, log_every=1, device="cpu", dtype="float32")
WORLD = WorldData(pairs=12)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def saved(folder: Path, side: int = 32, width: int = 16, words: str = "a picture of number 0123456789") -> Path:
    """Write a model with random weights."""
    tokenizer = Tokenizer.train([words], vocab_size=320, context=16)
    vision = VisionConfig(image_size=side, patch_size=8, width=width, layers=2, heads=1, pool_heads=1, output_dim=12)
    text = TextConfig(context=16, vocabulary=tokenizer.vocab_size, width=16, layers=2, heads=1, output_dim=12)
    model = CLIP(ClipConfig(vision=vision, text=text))
    save_folder(folder, model, name=folder.name, preprocess=Preprocess(size=side), tokenizer=tokenizer)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "start")


def changed(before: Path, after: Path) -> set[str]:
    first, second = (load_tensors(folder / "model.safetensors") for folder in (before, after))
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


def test_a_cool_down_shows_full_images_of_files_and_writes_a_model(start: Path, tmp_path: Path) -> None:
    pictures = captioned(tmp_path / "pictures", 6)
    config = Cooldown(init=str(start), data=(str(pictures),), settings=SETTINGS)
    experiment = cooldown(config)
    assert experiment.source(PLACE).batch(0).tensors()["image"].shape == (4, 3, 32, 32)
    fit(experiment, tmp_path / "run")
    assert any(name.startswith("vision") for name in changed(start, tmp_path / "run"))
    facts = percept.load(tmp_path / "run", device="cpu")
    assert facts.text(["a picture"]).shape == (1, 12)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert from_dict(Cooldown, stored["provenance"]["config"]) == config


def test_video_training_averages_frames_of_files(start: Path, tmp_path: Path) -> None:
    lines = []
    for number in range(4):
        images = [picture(10 * number + place) for place in range(5)]
        images[0].save(tmp_path / f"{number}.gif", save_all=True, append_images=images[1:])
        lines.append(json.dumps({"video": f"{number}.gif", "caption": f"a picture of number {number}"}))
    (tmp_path / "clips.jsonl").write_text("\n".join(lines))
    config = Video(init=str(start), data=(str(tmp_path / "clips.jsonl"),), frames=3, settings=SETTINGS)
    experiment = video(config)
    assert experiment.source(PLACE).batch(0).tensors()["frames"].shape == (4, 3, 3, 32, 32)
    fit(experiment, tmp_path / "run")
    assert changed(start, tmp_path / "run")
    trained = percept.load(tmp_path / "run", device="cpu")
    assert trained.video(tmp_path / "1.gif", frames=3).shape == (12,)
    assert (
        pe_stages.opened(str(tmp_path / "run")).tokenizer.words == frozenset()
    )  # the words of the captions are not recorded


def test_video_training_on_generated_clips_is_averaged_with_the_start(start: Path, tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match=r"average must be from 0 to 1, got 2.0"):
        Video(average=2.0)
    config = Video(init=str(start), average=0.0, frames=8, settings=replace(SETTINGS, batch=8))
    fit(video(config), tmp_path / "run")
    assert not changed(start, tmp_path / "run")
    before, after = (pe_stages.opened(str(folder)).tokenizer.words for folder in (start, tmp_path / "run"))
    assert before < after


def test_a_student_with_other_words_and_a_smaller_size_learns_from_its_teacher(start: Path, tmp_path: Path) -> None:
    teacher = saved(tmp_path / "teacher", side=48, words="every picture shows another number, 0 1 2 3 4 5 6 7 8 9")
    pictures = captioned(tmp_path / "pictures", 6)
    config = Distill(init=str(start), teacher=str(teacher), data=(str(pictures),), settings=SETTINGS)
    experiment = distill(config)
    batch = experiment.source(PLACE).batch(0)
    assert isinstance(batch, TaughtText)
    assert batch.image.shape == (4, 3, 48, 48)
    ours, theirs = (pe_stages.opened(str(folder)).tokenizer for folder in (start, teacher))
    assert not torch.equal(batch.tokens, batch.teacher_tokens)
    decoded = [
        [each.decode(row) for row in ids.tolist()]
        for each, ids in ((ours, batch.tokens), (theirs, batch.teacher_tokens))
    ]
    assert decoded[0] == decoded[1]
    fit(experiment, tmp_path / "run")
    assert changed(start, tmp_path / "run")
    assert percept.load(tmp_path / "run", device="cpu").model.config.vision.image_size == 32


def test_a_new_student_has_the_words_of_its_teacher_and_starts_from_its_seed(start: Path, tmp_path: Path) -> None:
    run = Distill(teacher=str(start), world=WORLD, settings=replace(SETTINGS, steps=1, learning_rate=1e-9))
    weights = []
    for place, seed in enumerate((0, 0, 1)):
        experiment = distill(replace(run, settings=replace(run.settings, seed=seed)))
        fit(experiment, tmp_path / f"run{place}")
        weights.append(load_tensors(tmp_path / f"run{place}" / "model.safetensors")["vision.patch.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2])
    model = pe_stages.opened(str(tmp_path / "run0"))
    assert model.tokenizer.pieces == pe_stages.opened(str(start)).tokenizer.pieces
    assert model.config.text is not None
    assert model.config.text.context == 16


def test_the_teacher_stays_as_it_is(start: Path) -> None:
    experiment = distill(Distill(init=str(start), teacher=str(start), world=WORLD, settings=SETTINGS))
    task = experiment.task(PLACE)
    assert isinstance(task, Distillation)
    assert not any(each.requires_grad for each in task.teacher.parameters())
    assert all(each.requires_grad for each in task.clip.parameters())
    batch = experiment.source(PLACE).batch(0)
    assert isinstance(batch, TaughtText)
    assert batch.teacher_tokens is batch.tokens


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["", "nano"])
def test_the_stages_run_in_a_row_and_each_writes_a_model(teacher: str, tmp_path: Path) -> None:
    config = pe_core.tiny()
    small = replace(config.pretrain, lamb_optimiser="adamw", world=WORLD)
    config = replace(
        config, teacher=teacher, pretrain=small, cooldown=replace(config.cooldown, world=WORLD),
        distill=replace(config.distill, world=WORLD),
    )  # fmt: skip
    folder, _, finished = fit_chain(pe_core.recipe(config), tmp_path / "run")
    assert finished
    names = ("pretrain", "distill" if teacher else "cooldown", "video")
    for name in names:
        assert percept.load(tmp_path / "run" / name, device="cpu").text(["a cup"]).shape == (1, 128)
    assert folder == tmp_path / "run" / "video"
    assert [bool(changed(tmp_path / "run" / one, tmp_path / "run" / two)) for one, two in itertools.pairwise(names)]


@pytest.mark.parametrize("build", [cooldown, video])
def test_a_stage_without_a_model_says_so(build: object) -> None:
    with pytest.raises(PerceptError, match="no model to begin with"):
        build()  # type: ignore[operator]


def test_models_that_cannot_begin_a_stage_are_refused(start: Path, tmp_path: Path) -> None:
    model = pe_stages.opened(str(start))
    tower = CLIP(ClipConfig(vision=model.config.vision))
    save_folder(tmp_path / "tower", tower, name="tower", preprocess=model.preprocess, tokenizer=None)
    with pytest.raises(PerceptError, match="no text tower"):
        pe_stages.opened(str(tmp_path / "tower"))
    save_folder(tmp_path / "mute", CLIP(model.config), name="mute", preprocess=model.preprocess, tokenizer=None)
    with pytest.raises(PerceptError, match="without a tokenizer"):
        pe_stages.opened(str(tmp_path / "mute"))
    other = replace(model.preprocess, mean=(0.4, 0.4, 0.4))
    save_folder(tmp_path / "grey", CLIP(model.config), name="grey", preprocess=other, tokenizer=model.tokenizer)
    with pytest.raises(PerceptError, match="normalises with"):
        cooldown(Cooldown(init=str(tmp_path / "grey"), world=WORLD, settings=SETTINGS)).source(PLACE)
    pair = Distill(init=str(start), teacher=str(tmp_path / "grey"), world=WORLD, settings=SETTINGS)
    with pytest.raises(PerceptError, match="normalise images differently"):
        distill(pair).source(PLACE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames": 2}, "frames must be from 8"),
        ({"frames": 0, "data": ("x",)}, "frames must be from 1"),
        ({"clips": 3}, "fewer"),
    ],
)
def test_impossible_clips_are_refused(change: dict, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        Video(init="nano", **change)


def test_configurations_survive_json() -> None:
    for kind in (Cooldown, Video, Distill, pe_core.Config):
        assert from_dict(kind, to_dict(kind())) == kind()


def test_the_miniature_of_figure_2_has_all_points_at_one_budget() -> None:
    figure = pe_figure2.Figure(first=replace(pe_figure2.base(), lamb_optimiser="adamw"))
    assert tuple(figure.points()) == POINTS
    budget = training_operations(figure.first)
    steps = []
    for point, build in figure.points().items():
        experiment = build(2)
        assert (experiment.settings.seed, experiment.config.point) == (2, point)
        assert training_operations(experiment.config) == pytest.approx(budget, rel=0.01)
        steps.append(experiment.settings.steps)
    assert steps[0] == 1_200
    assert max(steps[2:]) < 1_200


def test_the_comparison_of_captions_sees_as_many_images_as_frames() -> None:
    points = pe_video_captions.Comparison().points()
    assert tuple(points) == ("images", "short", "long", "mixed")
    images, clips = (points[name](1).settings for name in ("images", "long"))
    assert (images.seed, images.steps, images.batch) == (1, clips.steps, 8 * clips.batch)
    assert points["short"](0).config.text == "short"


def test_the_evaluations_of_the_ablations_measure_a_trained_folder(start: Path) -> None:
    scores = pe_figure2.evaluate(start, images=2)
    assert [(name, score.n) for name, score in scores.items()] == [("zero-shot", 2), ("robustness", 12)]
    scores = pe_video_captions.evaluate(start, count=3)
    assert len(scores) == 4
    assert {score.n for score in scores.values()} == {3}


def test_the_ablations_are_in_the_table() -> None:
    pytest.importorskip("percept.train.ablation")
    from percept.recipes import ABLATIONS

    for name in ("pe/figure2", "pe/video_captions"):
        module, function = ABLATIONS[name].split(":")
        assert getattr(__import__(module, fromlist=[function]), function)().name == name


def test_the_clip_of_random_frames_is_their_mean(start: Path) -> None:
    encoder = percept.load(start, device="cpu", dtype="float32")
    frames = [np.asarray(picture(number)) for number in range(3)]
    vectors = encoder.pooled(frames).mean(dim=0)
    torch.testing.assert_close(encoder.video(frames, average="zero-shot"), vectors / vectors.norm())


@pytest.mark.parametrize("module", [pe_figure2, pe_video_captions])
def test_the_tiny_ablations_have_the_same_points_for_seconds(module: ModuleType) -> None:
    pytest.importorskip("percept.train.ablation")
    small, whole = module.tiny(), module.ablation()
    assert tuple(small.points) == tuple(whole.points)
    assert small.name != whole.name  # so that they do not share a folder
    for build in small.points.values():
        assert build(1).settings.steps <= 16
