"""The layout of the published checkpoints: `NAME.pt`, a pickled state dict, possibly wrapped and prefixed.

Keys: facebookresearch/perception_models, core/vision_encoder/pe.py.
"""

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.weights.layout import Layout, State
from percept.weights.rename import Names, renamed
from percept.weights.unwrap import unwrap

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
INVERSE = (
    (r"^blocks\.", "transformer.resblocks."),
    (r"\bnorm_([12])\.", r"ln_\1."),
    (r"\bscale_([12])\.", r"ls_\1."),
    (r"\battention\.qkv\.", "attn.in_proj_"),
    (r"\battention\.out\.", "attn.out_proj."),
    (r"\bmlp\.up\.", "mlp.c_fc."),
    (r"\bmlp\.down\.", "mlp.c_proj."),
    (r"^positions$", "positional_embedding"),
)
VISION_INVERSE = (
    *INVERSE,
    (r"^pool\.qkv\.", "attn_pool.attn.in_proj_"),
    (r"^pool\.out\.", "attn_pool.attn.out_proj."),
    (r"^pool\.norm\.", "attn_pool.layernorm."),
    (r"^pool\.", "attn_pool."),
    (r"^patch\.", "conv1."),
    (r"^class_token$", "class_embedding"),
    (r"^norm_(pre|post)\.", r"ln_\1."),
    (r"^projection$", "proj"),
)
TEXT_INVERSE = (
    *INVERSE,
    (r"^projection$", "text_projection"),
    (r"^embedding\.", "token_embedding."),
    (r"^norm\.", "ln_final."),
)
VISION_NAMES, TEXT_NAMES = Names(VISION, VISION_INVERSE), Names(TEXT, TEXT_INVERSE)


def _our_name(key: str, has_text: bool) -> str:
    if key.startswith("visual."):
        return "vision." + VISION_NAMES.ours(key.removeprefix("visual."))
    if not has_text:
        return "vision." + VISION_NAMES.ours(key)
    return "log_scale" if key == "logit_scale" else "text." + TEXT_NAMES.ours(key)


def from_official(state: dict[str, Any], *, has_text: bool) -> dict[str, Tensor]:
    """Rename the keys of a published state dict to ours.

    Args:
        state: may be wrapped and prefixed, see `unwrap`.
        has_text: the model has a text tower; a vision-only model takes the `visual.` keys or the bare ones.

    Raises:
        PerceptError: two keys map to one name, or several dictionaries hold weights.
    """
    state = unwrap(state)
    if not has_text and any(key.startswith("visual.") for key in state):
        state = {key: value for key, value in state.items() if key.startswith("visual.")}
    return renamed(state, lambda key: _our_name(key, has_text))


def to_official(model: nn.Module, *, has_text: bool) -> dict[str, str]:
    """Return {our parameter name: published key}, for writing and for comparing with published key lists."""
    return {name: published_name(name, has_text) for name in model.state_dict()}


def published_name(name: str, has_text: bool) -> str:
    """Return the published key of one of our parameters."""
    if name == "log_scale":
        return "logit_scale"
    if name.startswith("text."):
        return TEXT_NAMES.theirs(name.removeprefix("text."))
    return ("visual." if has_text else "") + VISION_NAMES.theirs(name.removeprefix("vision."))


class Official(Layout):
    """The vision tower is prefixed with `visual.` if, and only if, there is a text tower."""

    name = "official"
    marks = ("visual.transformer.", "transformer.resblocks.", "visual.conv1.", "conv1.")
    weight_files = ("{name}.safetensors", "{name}.pt")
    written_file = "{name}.pt"

    def to_ours(self, state: State) -> State:
        """Rename the keys; see `from_official`."""
        return from_official(state, has_text=any(key.startswith("visual.") for key in state))

    def to_theirs(self, state: State) -> State:
        """Rename the keys.

        Raises:
            PerceptError: the projection has a bias.
        """
        if "vision.projection_bias" in state:
            raise PerceptError(
                "the official layout has no key for the bias of this model's projection; write it --to timm, open_clip or "
                "percept"
            )
        has_text = any(key.startswith("text.") for key in state)
        return {published_name(key, has_text): value for key, value in state.items()}

    def spelled(self, state: State, stored: Collection[str]) -> State:
        """Return some of our tensors under the published names, prefixed as those of the file are."""
        prefixed = any(key.startswith("visual.") for key in stored)
        return {published_name(key, prefixed): value for key, value in state.items()}


LAYOUT = Official()
