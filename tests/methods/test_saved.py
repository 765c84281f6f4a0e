"""Saved methods: a small prompt on nano, written and opened; a different base model is refused."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from percept.cli import main
from percept.core.errors import PerceptError
from percept.core.io import load_tensors, same_tensors
from percept.data.batch import Labelled
from percept.data.source import share
from percept.eval.zeroshot import zeroshot
from percept.infer.classifier import Classifier
from percept.infer.contracts import Classifies
from percept.infer.load import load
from percept.methods import INDEX
from percept.methods.saved import method_class, open_method, own_tensors, save_method
from percept.models.clip import CLIP
from percept.optim.rules import Scale
from percept.recipes import RECIPES
from percept.train import Experiment, Settings


class Prompt(nn.Module):
    """Class vectors shifted by learned offsets, on a frozen encoder with a trained adapter of its projection."""

    base_parts = ("clip",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        classes: int = 3

    def __init__(self, config: Config, clip: CLIP) -> None:
        super().__init__()
        self.config, self.clip = config, clip.requires_grad_(False)
        self.offsets = nn.Parameter(torch.randn(config.classes, 256))
        self.clip.get_submodule("vision").add_module("adapter", nn.Linear(256, 256, bias=False))

    @classmethod
    def from_base(cls, config: Config, model: CLIP) -> "Prompt":
        return cls(config, model)

    def class_logits(self, image: Tensor) -> Tensor:
        vectors = self.clip.embed_image(image).to(self.offsets.dtype)
        return self.clip.vision.adapter(vectors) @ self.offsets.T  # type: ignore[operator]

    def forward(self, batch: Labelled) -> dict[str, Tensor]:
        return {"loss": nn.functional.cross_entropy(self.class_logits(batch.image), batch.label)}


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Prompt, Path]:
    monkeypatch.setitem(INDEX, "prompt", f"{__name__}:Prompt")
    method = Prompt(Prompt.Config(), load("nano", device="cpu", dtype="float32").model)
    save_method(tmp_path / "prompt", method, base="nano")
    return method, tmp_path / "prompt"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    settings: Settings = field(
        default_factory=lambda: Settings(steps=2, batch=2, warmup=0, dtype="float32", device="cpu")
    )


class Noise:
    """A source of random images."""

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> Labelled:
        return Labelled(image=torch.randn(2, 3, 96, 96), label=torch.tensor([0, 1])).rows(share(2, rank, world_size))


def recipe(config: RunConfig | None = None, *, command: str = "") -> Experiment:
    """Train a prompt on frozen nano."""
    config = config or RunConfig()
    base = load("nano", device="cpu", dtype="float32")
    return Experiment(
        name="trial/prompt", config=config, settings=config.settings, source=lambda _: Noise(),
        task=lambda _: Prompt(Prompt.Config(), base.model),
        save=lambda out, task, totals: save_method(out, task, base="nano"), rules=(("^offsets", Scale(2)),),
    )  # fmt: skip


def test_a_recipe_trains_a_method_on_a_frozen_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(INDEX, "prompt", f"{__name__}:Prompt")
    monkeypatch.setitem(RECIPES, "trial/prompt", f"{__name__}:recipe")
    assert main(["train", "trial/prompt", "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().err.replace("\n", "")
    assert "66,304 of them trained" in printed
    assert f"percept.load('{tmp_path / 'run'}')" in printed
    opened = open_method(tmp_path / "run", device="cpu", dtype="float32")
    frozen = load("nano", device="cpu", dtype="float32").model.state_dict()
    assert all(torch.equal(value, opened.get_submodule("clip").state_dict()[name]) for name, value in frozen.items())


def test_a_folder_holds_the_method_s_own_tensors_only(saved: tuple[Prompt, Path]) -> None:
    _, folder = saved
    assert set(load_tensors(folder / "method.safetensors")) == {"offsets", "clip.vision.adapter.weight"}
    header = json.loads((folder / "config.json").read_text())
    assert (header["method"], header["config"], header["base"]["name"]) == ("prompt", {"classes": 3}, "nano")


def test_an_opened_method_is_the_saved_one(saved: tuple[Prompt, Path]) -> None:
    method, folder = saved
    opened = open_method(folder, device="cpu", dtype="float32")
    assert isinstance(opened, Prompt)
    assert not opened.training
    assert same_tensors(own_tensors(opened), own_tensors(method))
    image = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(opened.class_logits(image), method.class_logits(image))


def test_a_different_base_model_is_refused(saved: tuple[Prompt, Path]) -> None:
    _, folder = saved
    header = json.loads((folder / "config.json").read_text())
    header["base"]["fingerprint"] = "0" * 32
    (folder / "config.json").write_text(json.dumps(header))
    with pytest.raises(PerceptError, match="different weights than nano"):
        open_method(folder, device="cpu")


PIXELS = [np.full((40, 60, 3), value, np.uint8) for value in (0, 90, 200)]


def test_load_gives_a_classifier_of_any_images(saved: tuple[Prompt, Path], tmp_path: Path) -> None:
    method, folder = saved
    classifier, base = load(folder, device="cpu", dtype="float32", batch=2), load("nano", device="cpu", dtype="float32")
    assert isinstance(classifier, Classifier)
    assert isinstance(classifier, Classifies)
    with torch.no_grad():
        expected = method.class_logits(torch.stack([base.prepare(image) for image in PIXELS]))
    torch.testing.assert_close(classifier.class_logits(PIXELS), expected)
    torch.testing.assert_close(classifier.class_logits(image for image in PIXELS), expected)
    torch.testing.assert_close(classifier.class_logits(PIXELS[1]), expected[1:2])
    labels = expected.argmax(dim=1).tolist()
    scores = zeroshot(classifier, PIXELS, labels, "abc", [["a"], ["b"], ["c"]], name="category").scores
    assert scores[0].value == 1
    with pytest.raises(PerceptError, match="no images were given"):
        classifier.class_logits([])


def test_a_classifier_in_the_fast_type_of_its_base(saved: tuple[Prompt, Path]) -> None:
    method, folder = saved
    classifier = load(folder, device="cpu", dtype="bfloat16")
    assert isinstance(classifier, Classifier)
    with torch.no_grad():
        expected = method.class_logits(torch.stack([classifier.encoder.prepare(image) for image in PIXELS]))
    torch.testing.assert_close(classifier.class_logits(PIXELS), expected, atol=0.1, rtol=0.1)


def test_the_identity_of_a_classifier_changes_with_its_own_tensors(saved: tuple[Prompt, Path], tmp_path: Path) -> None:
    method, folder = saved
    with torch.no_grad():
        method.offsets.add_(1)
    save_method(tmp_path / "other", method, base="nano")
    first, again, changed = (load(each, device="cpu").identity for each in (folder, folder, tmp_path / "other"))
    assert first == again
    assert first.image != changed.image
    assert (first.name, changed.name) == ("prompt", "other")


def test_a_method_that_does_not_classify_is_loaded_as_it_is(
    saved: tuple[Prompt, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Prompt, "class_logits")
    assert isinstance(load(saved[1], device="cpu"), Prompt)


@pytest.mark.parametrize(
    "verb",
    [["classify", "--labels", "cat,dog"], ["encode", "--out", "v.npz"], ["index"], ["features", "--layers", "1"]],
)
def test_verbs_of_encoders_refuse_a_method(
    verb: Sequence[str],
    saved: tuple[Prompt, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from PIL import Image

    Image.new("RGB", (32, 32)).save(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            [
                verb[0],
                str(tmp_path / "image.png" if verb[0] != "index" else tmp_path),
                *verb[1:],
                "--model",
                str(saved[1]),
            ]
        )
        == 2
    )
    assert "is a trained method, not an encoder" in " ".join(capsys.readouterr().err.split())


def test_eval_measures_a_classifier(
    saved: tuple[Prompt, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Narrow(Prompt):
        """As many classes as the evaluation has."""

        def class_logits(self, image: Tensor) -> Tensor:
            return super().class_logits(image).repeat(1, 34)[:, :100]

    monkeypatch.setattr(f"{__name__}.Prompt", Narrow)
    assert main(["eval", "retrieval", "--model", str(saved[1])]) == 2
    assert "embeds no texts" in capsys.readouterr().err
    out = tmp_path / "card.json"
    assert main(["eval", "zeroshot", "--count", "12", "--model", str(saved[1]), "--out", str(out)]) == 0
    card = json.loads(out.read_text())
    assert card["model"]["name"] == "prompt"
    assert {row["name"] for row in card["scores"]} >= {"category top-1", "category top-5"}


def test_a_base_model_in_a_folder_is_found_from_anywhere(
    saved: tuple[Prompt, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["convert", "nano", "--out", str(tmp_path / "base"), "--to", "percept"]) == 0
    monkeypatch.chdir(tmp_path)
    save_method(tmp_path / "other", saved[0], base="base@float32")
    monkeypatch.chdir("/")
    assert isinstance(open_method(tmp_path / "other", device="cpu"), Prompt)


def test_tensors_and_names_that_do_not_fit_are_refused(saved: tuple[Prompt, Path]) -> None:
    _, folder = saved
    header = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(header | {"config": {"classes": 4}}))
    with pytest.raises(PerceptError, match="offsets differ"):
        open_method(folder, device="cpu")
    (folder / "config.json").write_text(json.dumps(header | {"method": "promt"}))
    with pytest.raises(PerceptError, match="'prompt'"):
        open_method(folder, device="cpu")
    (folder / "config.json").write_text("[]")
    with pytest.raises(PerceptError, match="not a saved method"):
        open_method(folder, device="cpu")
    with pytest.raises(PerceptError, match="not in the index"):
        save_method(folder, nn.Linear(1, 1), base="nano")
    assert method_class("contrastive").__name__ == "Contrastive"
