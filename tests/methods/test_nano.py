"""Pretraining of nano: which losses a batch gives, and that parts change none of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from percept.losses.claims import claim_loss
from percept.methods.pretraining import nano
from percept.models.clip import unit
from percept.recipes import pe_nano
from percept.train import Placement
from percept.world.batch import WorldBatch
from percept.world.claims import COUNT, FIRST_SIDE

Drawn = tuple[nano.Pretraining, WorldBatch, WorldBatch]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """A task, a batch of windows with words only, and a batch of scenes with everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERCEPT_CACHE", str(Path(tmp_path_factory.mktemp("cache"))))
        tiny, place = pe_nano.tiny(), Placement(device=torch.device("cpu"))
        config = replace(
            tiny, settings=replace(tiny.settings, steps=4), stages=(("words", 48, 1.0, 0.5), ("scenes", 96, 0.5, 0.5))
        )
        torch.manual_seed(0)
        experiment = pe_nano.recipe(config)
        source, task = experiment.source(place), experiment.task(place)
    assert isinstance(task, nano.Pretraining)
    windows, scenes = source.batch(0), source.batch(3)
    assert isinstance(windows, WorldBatch)
    assert isinstance(scenes, WorldBatch)
    return task, windows, scenes


def test_a_step_of_words_leaves_the_text_tower_alone_and_one_of_texts_trains_everything(drawn: Drawn) -> None:
    task, windows, scenes = drawn
    assert windows.tokens is None
    task.zero_grad()
    words = task(windows)
    assert set(words) == {"loss", "words", "kinds", "colours"}
    words["loss"].backward()
    assert {name.split(".")[0] for name, each in task.clip.named_parameters() if each.grad is not None} == {"vision"}
    task.zero_grad()
    whole = task(scenes)
    whole["loss"].backward()
    assert all(each.grad is not None and each.grad.any() for each in task.parameters())
    parts = ("words", "kinds", "colours", "claims", "contrast", "things", "said")
    expected = torch.stack([whole[part] for part in parts]).sum() + 4 * whole["contrary"]
    torch.testing.assert_close(whole["loss"].detach(), expected)


def test_one_head_classifies_what_images_and_texts_claim(drawn: Drawn) -> None:
    """Right and wrong texts by their own claims; colours and sides are groups of their own."""
    task, _, scenes = drawn
    assert scenes.contrary is not None
    assert scenes.said is not None
    assert scenes.claims is not None
    with torch.no_grad():
        values = task(scenes)
        texts = unit(task.clip.encode_text(scenes.contrary.flatten(0, 2)))
        pooled = task.clip.vision(scenes.image, keep=scenes.keep).pooled
        assert pooled is not None
        image = unit(pooled)
        for name, vectors, claims in (
            ("said", texts, scenes.said.flatten(0, 2)),
            ("claims", image, scenes.claims),
        ):
            logits = task.claim_head(nano.CLAIM_SCALE * vectors)
            colours = claim_loss(logits, claims, (1, FIRST_SIDE))
            sides = claim_loss(logits, claims, (FIRST_SIDE, COUNT))
            torch.testing.assert_close(values[name], colours + sides, atol=1e-4, rtol=1e-4)
    exchanged = replace(scenes, said=scenes.said.flip(2))
    assert not torch.allclose(task(exchanged)["said"], values["said"])


def test_a_batch_without_truth_about_its_patches_has_contrast_and_words(drawn: Drawn) -> None:
    task, _, scenes = drawn
    bare = replace(scenes, cover=None, things=None, names=None, claims=None, contrary=None)
    values, whole = task(bare), task(scenes)
    assert set(values) == {
        "loss", "words", "contrast", "scale", "batch_accuracy", "image_cosine", "text_cosine",
    }  # fmt: skip
    torch.testing.assert_close(values["words"], whole["words"])
    torch.testing.assert_close(values["contrast"], whole["contrast"], atol=1e-5, rtol=1e-5)


def test_parts_that_fit_the_caches_change_no_loss(drawn: Drawn) -> None:
    task, _, scenes = drawn
    values = {}
    for micro_tokens in (None, 5 * 72):
        task.config = nano.Config(micro_tokens=micro_tokens)
        values[micro_tokens] = task(scenes)
    whole, parts = values.values()
    for name in ("words", "contrast", "things", "contrary"):
        torch.testing.assert_close(parts[name], whole[name], atol=1e-5, rtol=1e-5)
    for name in ("kinds", "colours"):  # means of parts, not of patches
        torch.testing.assert_close(parts[name], whole[name], atol=0.1, rtol=0.05)


def test_patches_are_labelled_by_what_covers_them() -> None:
    cover = torch.tensor([[0, 1, -1, -2], [-1, 0, 0, -2]])
    things = torch.tensor([[[7, 3], [99, -1]], [[0, 11], [-1, -1]]])
    kinds, colours = nano.patch_labels(cover, things)
    assert kinds.tolist() == [[7, 99, 100, -1], [100, 0, 0, -1]]
    assert colours.tolist() == [[3, -1, -1, -1], [-1, 11, 11, -1]]
