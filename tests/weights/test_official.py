"""Published checkpoints: every wrapping is understood, nothing in a file is ever run."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import same_tensors, save_tensors
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.weights.files import read_tensors
from percept.weights.fit import load_strict
from percept.weights.layouts.official import from_official, to_official
from tests.models.small import VISION, clip


def published(model: CLIP) -> dict[str, Tensor]:
    names = to_official(model, has_text=model.text is not None)
    return {names[ours]: value for ours, value in model.state_dict().items()}


WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "weights": lambda state: {"weights": state},
    "both": lambda state: {"state_dict": {"weights": state}},
    "nested": lambda state: {"model": {"state_dict": {"weights": state}, "epoch": 3}},
    "beside an empty one": lambda state: {"state_dict": {}, "model": state},
    "among an empty one": lambda state: {"state_dict": {}, **state},
    "module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "compiled": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "compiled in parallel": lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
    "an average of weights": lambda state: {"state_dict_ema": state, "epoch": 3},
    "model_state_dict": lambda state: {
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {0: torch.ones(2)}},
    },
    "module": lambda state: {"module": state},
    "module.module.": lambda state: {f"module.module.{key}": value for key, value in state.items()},
    "model.": lambda state: {f"model.{key}": value for key, value in state.items()},
    "a trainer's model.": lambda state: {"state_dict": {f"model.module.{key}": v for key, v in state.items()}},
    "FSDP": lambda state: {f"_fsdp_wrapped_module.{key}": value for key, value in state.items()},
    "FSDP of every block": lambda state: {
        key.replace("resblocks.0.", "resblocks.0._fsdp_wrapped_module."): value for key, value in state.items()
    },
    "activation checkpointing": lambda state: {
        key.replace("resblocks.1.", "resblocks.1._checkpoint_wrapped_module."): value for key, value in state.items()
    },
    "all of them": lambda state: {
        f"module.model._fsdp_wrapped_module._orig_mod.{key}": value for key, value in state.items()
    },
    "a compiled part": lambda state: {
        key.replace("visual.", "visual._orig_mod."): value for key, value in state.items()
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrapped_files_give_the_model_back(tmp_path: Path, wrapping: str) -> None:
    model = clip(layer_scale=0.1)
    torch.save(WRAPPINGS[wrapping](published(model)), tmp_path / "model.pt")
    assert same_tensors(from_official(read_tensors(tmp_path / "model.pt"), has_text=True), model.state_dict())


def test_safetensors_and_files_of_old_torch(tmp_path: Path) -> None:
    model = clip()
    save_tensors(tmp_path / "model.safetensors", published(model))
    assert same_tensors(from_official(read_tensors(tmp_path / "model.safetensors"), has_text=True), model.state_dict())
    torch.save(published(model), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert same_tensors(from_official(read_tensors(tmp_path / "old.pt"), has_text=True), model.state_dict())


def test_a_vision_tower_is_taken_out_of_a_pair(tmp_path: Path) -> None:
    model = clip()
    torch.save(published(model), tmp_path / "pair.pt")
    alone = CLIP(ClipConfig(vision=VISION))
    load_strict(alone, from_official(read_tensors(tmp_path / "pair.pt"), has_text=False), source="pair.pt")
    assert same_tensors(alone.vision.state_dict(), model.vision.state_dict())
    torch.save(published(alone), tmp_path / "bare.pt")
    assert "conv1.weight" in published(alone)
    assert same_tensors(from_official(read_tensors(tmp_path / "bare.pt"), has_text=False), alone.state_dict())


def test_the_names_of_both_towers_are_kept_apart() -> None:
    keys = published(clip()).keys()
    assert {"visual.positional_embedding", "positional_embedding", "visual.attn_pool.probe", "logit_scale"} <= keys
    assert "transformer.resblocks.0.attn.in_proj_weight" in keys
    assert "visual.transformer.resblocks.2.mlp.c_proj.bias" in keys


class Payload:
    """Writes a file when it is unpickled by a careless reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("plain", [False, True])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path, plain: bool) -> None:
    witness, file = tmp_path / "witness", tmp_path / "evil.pt"
    if plain:
        file.write_bytes(pickle.dumps({"visual.proj": Payload(witness)}))
    else:
        torch.save({"visual.proj": Payload(witness)}, file)
    with pytest.raises(PerceptError, match="nothing in it was run"):
        from_official(read_tensors(file), has_text=True)
    assert not witness.exists()
    if not plain:  # the payload does what it should where nobody guards against it
        torch.load(file, weights_only=False)
        assert witness.exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, share: float) -> None:
    torch.save(published(clip()), tmp_path / "model.pt")
    data = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(data[: int(share * len(data))])
    with pytest.raises(PerceptError, match="not a complete file of weights"):
        from_official(read_tensors(tmp_path / "model.pt"), has_text=True)


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("weights, honestly")
    with pytest.raises(PerceptError, match="begins neither as safetensors nor as what torch"):
        from_official(read_tensors(tmp_path / "text.pt"), has_text=True)
    (tmp_path / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    with pytest.raises(PerceptError, match="a pointer of Git LFS"):
        from_official(read_tensors(tmp_path / "pointer.pt"), has_text=True)
    (tmp_path / "odd.pt").write_bytes(pickle.dumps({"a": torch.zeros(2).numpy()}))
    with pytest.raises(PerceptError, match=r"\(damaged, or more than tensors\)"):
        from_official(read_tensors(tmp_path / "odd.pt"), has_text=True)
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(PerceptError, match="holds a list"):
        from_official(read_tensors(tmp_path / "list.pt"), has_text=True)
    with pytest.raises(PerceptError, match="no weight file"):
        from_official(read_tensors(tmp_path / "absent.pt"), has_text=True)


def test_weights_of_another_model_are_refused_with_the_difference() -> None:
    with pytest.raises(PerceptError, match=r"(?s)of a different shape.*vision\.projection") as caught:
        load_strict(clip(), clip(output_dim=12, width=32).state_dict(), source="other.pt")
    assert "missing" not in str(caught.value)
