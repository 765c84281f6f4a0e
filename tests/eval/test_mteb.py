"""The adapter for mteb, with a stand-in for the parts of mteb that it uses; benchmarks/mteb_local runs the real one."""

import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from percept.core.errors import PerceptError
from percept.eval import mteb
from tests.infer import tiny


class Meta:
    """`mteb.models.ModelMeta`."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    @classmethod
    def create_empty(cls, values: dict[str, Any]) -> "Meta":
        return cls(values)

    def model_copy(self, update: dict[str, Any]) -> "Meta":
        return Meta({**self.values, **update})


class Scoring:
    """`mteb.models.model_meta.ScoringFunction`."""

    COSINE = "cosine"


@pytest.fixture
def registry(monkeypatch) -> dict[str, Meta]:
    """Put modules with these names in place of mteb."""
    known: dict[str, Meta] = {}
    modules = {
        name: ModuleType(name)
        for name in ("mteb", "mteb.models", "mteb.models.model_implementations", "mteb.models.model_meta")
    }
    top, models, implementations, meta = modules.values()
    vars(implementations)["MODEL_REGISTRY"] = known
    vars(meta)["ScoringFunction"] = Scoring
    vars(models).update(ModelMeta=Meta, model_implementations=implementations, model_meta=meta)
    vars(top)["models"] = models
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return known


IMAGES = [torch.full((3, 30, 20), value, dtype=torch.uint8) for value in (0, 120, 250)]
TEXTS = ["a red cup", "a dog", "a cat"]


def test_without_mteb_the_module_imports_and_says_what_is_missing(monkeypatch):
    code = "import percept.eval.mteb, sys; print('mteb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(PerceptError, match="mteb is not installed"):
        mteb.register("nano")


def test_a_registered_model_opens_as_mteb_opens_it(registry, tmp_path):
    folder = str(tiny.folder(tmp_path / "model"))
    name = mteb.register(folder, dtype="float32")
    values = registry[name].values
    assert (name, values["embed_dim"], values["modalities"], values["max_tokens"]) == (
        "percept/tiny",
        20,
        ["image", "text"],
        16,
    )
    model = values["loader"](name, revision=values["revision"], device="cpu", **values["loader_kwargs"])
    assert model.mteb_model_meta.values["revision"] == values["revision"]
    with pytest.raises(PerceptError, match="Register the model again"):
        values["loader"](name, revision="other", **values["loader_kwargs"])


def test_batches_become_the_vectors_of_the_encoder(registry):
    encoder = tiny.encoder()
    model = mteb.MtebEncoder("mine", model=encoder)
    common = {"task_metadata": None, "hf_split": "test", "hf_subset": "default"}
    images, texts = encoder.image(IMAGES), encoder.text(TEXTS)
    found = model.encode([{"image": IMAGES[:2], "id": ["a", "b"]}, {"image": IMAGES[2:], "id": ["c"]}], **common)
    assert torch.allclose(found, images, atol=1e-6)
    assert torch.allclose(model.encode([{"text": TEXTS}], **common), texts, atol=1e-6)
    both = model.encode([{"text": TEXTS, "image": IMAGES}], **common)
    assert torch.allclose(both, torch.nn.functional.normalize(images + texts, dim=1), atol=1e-5)
    assert model.encode([], **common).shape == (0, 20)
    with pytest.raises(PerceptError, match="the task has audio"):
        model.encode([{"audio": [1]}], **common)


def test_similarities_are_cosines_of_arrays_and_of_single_vectors(registry):
    model = mteb.MtebEncoder("mine", model=tiny.encoder())
    one, two = torch.randn(3, 20), torch.randn(3, 20)
    expected = torch.cosine_similarity(one[:, None], two[None], dim=-1)
    assert torch.allclose(model.similarity(one.numpy(), two), expected, atol=1e-6)
    assert torch.allclose(model.similarity_pairwise(one, two.numpy()), expected.diagonal(), atol=1e-6)
    assert model.similarity(one[0], two[0]).shape == (1, 1)


def test_a_model_without_texts_is_refused(registry, tmp_path):
    with pytest.raises(PerceptError, match="has no text tower, which mteb"):
        mteb.register(str(tiny.folder(tmp_path / "model", text=False)))
