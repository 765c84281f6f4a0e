"""The layout of the published checkpoints: `NAME.pt`, a pickled state dict, perhaps wrapped and prefixed."""

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.core.io import load_tensors

SHARED = (
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\bln_1\.", "norm_1."),
    (r"\bln_2\.", "norm_2."),
    (r"\bls_1\.", "scale_1."),
    (r"\bls_2\.", "scale_2."),
    (r"\battn\.in_proj_(weight|bias)$", r"attention.qkv.\1"),
    (r"\battn\.out_proj\.", "attention.out."),
    (r"\bmlp\.c_fc\.", "mlp.up."),
    (r"\bmlp\.c_proj\.", "mlp.down."),
    (r"^positional_embedding$", "positions"),
)
VISION = (
    (r"^attn_pool\.attn\.in_proj_(weight|bias)$", r"pool.qkv.\1"),
    (r"^attn_pool\.attn\.out_proj\.", "pool.out."),
    (r"^attn_pool\.layernorm\.", "pool.norm."),
    (r"^attn_pool\.", "pool."),
    *SHARED,
    (r"^conv1\.", "patch."),
    (r"^class_embedding$", "class_token"),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm_post."),
    (r"^proj$", "projection"),
)
TEXT = (
    *SHARED,
    (r"^token_embedding\.", "embedding."),
    (r"^ln_final\.", "norm."),
    (r"^text_projection$", "projection"),
)


def _rename(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _our_name(key: str, has_text: bool) -> str:
    if key.startswith("visual."):
        return "vision." + _rename(key.removeprefix("visual."), VISION)
    if not has_text:
        return "vision." + _rename(key, VISION)
    return "log_scale" if key == "logit_scale" else "text." + _rename(key, TEXT)


def unwrap(state: dict[str, Any]) -> dict[str, Tensor]:
    """Take a state dict out of its wrappers (`state_dict`, `weights`) and strip the prefix `module.`."""
    for wrapper in ("state_dict", "weights"):
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def from_official(state: dict[str, Any], *, has_text: bool) -> dict[str, Tensor]:
    """Rename the keys of a published state dict to ours.

    Args:
        has_text: the model has a text tower; a vision-only model takes the `visual.` keys or the bare ones.
    """
    state = unwrap(state)
    if not has_text and any(key.startswith("visual.") for key in state):
        state = {key: value for key, value in state.items() if key.startswith("visual.")}
    return {_our_name(key, has_text): value for key, value in state.items()}


def to_official(model: nn.Module, *, has_text: bool) -> dict[str, str]:
    """Return {our parameter name: published key}, for writing and for comparing with published key lists."""
    return {name: _published_name(name, has_text) for name in model.state_dict()}


INVERSE = (
    (r"\bblocks\.", "transformer.resblocks."),
    (r"\bnorm_([12])\.", r"ln_\1."),
    (r"\bscale_([12])\.", r"ls_\1."),
    (r"\bpool\.qkv\.", "attn_pool.attn.in_proj_"),
    (r"\bpool\.out\.", "attn_pool.attn.out_proj."),
    (r"\bpool\.norm\.", "attn_pool.layernorm."),
    (r"\bpool\.", "attn_pool."),
    (r"\battention\.qkv\.", "attn.in_proj_"),
    (r"\battention\.out\.", "attn.out_proj."),
    (r"\bmlp\.up\.", "mlp.c_fc."),
    (r"\bmlp\.down\.", "mlp.c_proj."),
    (r"\bpositions$", "positional_embedding"),
    (r"^vision\.patch\.", "vision.conv1."),
    (r"\bclass_token$", "class_embedding"),
    (r"\bnorm_(pre|post)\.", r"ln_\1."),
    (r"^vision\.projection$", "vision.proj"),
    (r"^text\.projection$", "text.text_projection"),
    (r"^text\.embedding\.", "text.token_embedding."),
    (r"^text\.norm\.", "text.ln_final."),
    (r"^log_scale$", "logit_scale"),
    (r"^text\.", ""),
)


def _published_name(name: str, has_text: bool) -> str:
    name = _rename(name, INVERSE)
    return re.sub(r"^vision\.", "visual." if has_text else "", name)


def read_official(path: Path | str, *, has_text: bool) -> dict[str, Tensor]:
    """Read a published checkpoint (.pt, or the same keys as safetensors) and rename its keys to ours.

    Raises:
        PerceptError: no such file, not a weight file, or a pickle that holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise PerceptError(f"there is no weight file {path}")
    if path.suffix == ".safetensors":
        return from_official(load_tensors(path), has_text=has_text)
    try:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):  # what is odd about it is refused below
            archive = file.read(4) == b"PK\x03\x04"  # files of torch before 1.6 are none, and cannot be mapped
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PerceptError(
            f"{path} is not a complete file of weights alone ({reason}); nothing in it was run"
        ) from None
    if not isinstance(state, dict):
        raise PerceptError(f"{path} holds a {type(state).__name__}, not a dictionary of weights")
    return from_official(state, has_text=has_text)
