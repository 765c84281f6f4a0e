"""Saved methods: a small prompt on nano, written and opened; a different base model is refused."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.core.io import load_tensors, same_tensors
from percept.data.batch import Labelled
from percept.infer.load import load
from percept.methods import INDEX
from percept.methods.saved import method_class, open_method, own_tensors, save_method
from percept.models.clip import CLIP


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
        adapted = self.clip.vision.adapter(self.clip.embed_image(image))  # type: ignore[operator]
        return adapted @ self.offsets.T

    def forward(self, batch: Labelled) -> dict[str, Tensor]:
        return {"loss": nn.functional.cross_entropy(self.class_logits(batch.image), batch.label)}


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Prompt, Path]:
    monkeypatch.setitem(INDEX, "prompt", f"{__name__}:Prompt")
    method = Prompt(Prompt.Config(), load("nano", device="cpu", dtype="float32").model)
    save_method(tmp_path / "prompt", method, base="nano")
    return method, tmp_path / "prompt"


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
