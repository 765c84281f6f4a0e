"""The layout of the timm library: a vision tower as `timm.models.eva.Eva`, and the config.json that builds it.

Keys: huggingface/pytorch-image-models, timm/models/eva.py. Differs from the official layout: query and key-value of the
pooling head are separate, the projection is a linear layer with a bias, class token and positions have leading axes of 1.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import bits, read_object
from percept.data.transforms import FREE, Preprocess
from percept.models.config import PE, TowerConfig
from percept.models.zoo import CONFIGS
from percept.weights.layout import Header, Layout, State
from percept.weights.rename import STRANGE, Names, renamed

CONFIG = "config.json"

OURS = (
    (r"^patch_embed\.proj\.", "patch."),
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "positions"),
    (r"^norm\.", "norm_post."),
    (r"^attn_pool\.latent$", "pool.probe"),
    (r"^attn_pool\.proj\.", "pool.out."),
    (r"^attn_pool\.", "pool."),
    (r"\bnorm([12])\.", r"norm_\1."),
    (r"\bgamma_([12])$", r"scale_\1.gamma"),
    (r"\battn\.qkv\.", "attention.qkv."),
    (r"\battn\.proj\.", "attention.out."),
    (r"\bmlp\.fc1\.", "mlp.up."),
    (r"\bmlp\.fc2\.", "mlp.down."),
    (r"^head\.weight$", "projection"),
    (r"^head\.bias$", "projection_bias"),
)
THEIRS = (
    (r"^patch\.", "patch_embed.proj."),
    (r"^class_token$", "cls_token"),
    (r"^positions$", "pos_embed"),
    (r"^norm_post\.", "norm."),
    (r"\bnorm_([12])\.", r"norm\1."),
    (r"\bscale_([12])\.gamma$", r"gamma_\1"),
    (r"\battention\.qkv\.", "attn.qkv."),
    (r"\battention\.out\.", "attn.proj."),
    (r"\bmlp\.up\.", "mlp.fc1."),
    (r"\bmlp\.down\.", "mlp.fc2."),
    (r"^pool\.probe$", "attn_pool.latent"),
    (r"^pool\.out\.", "attn_pool.proj."),
    (r"^pool\.", "attn_pool."),
    (r"^projection$", "head.weight"),
    (r"^projection_bias$", "head.bias"),
)
TIMM_NAMES = Names(OURS, THEIRS)
NAMES = {
    "vit_pe_core_tiny_patch16_384": "PE-Core-T16-384",
    "vit_pe_core_small_patch16_384": "PE-Core-S16-384",
    "vit_pe_core_base_patch16_224": "PE-Core-B16-224",
    "vit_pe_core_large_patch14_336": "PE-Core-L14-336",
    "vit_pe_core_gigantic_patch14_448": "PE-Core-G14-448",
    "vit_pe_lang_large_patch14_448": "PE-Lang-L14-448",
    "vit_pe_lang_gigantic_patch14_448": "PE-Lang-G14-448",
    "vit_pe_spatial_tiny_patch16_512": "PE-Spatial-T16-512",
    "vit_pe_spatial_small_patch16_512": "PE-Spatial-S16-512",
    "vit_pe_spatial_base_patch16_512": "PE-Spatial-B16-512",
    "vit_pe_spatial_large_patch14_448": "PE-Spatial-L14-448",
    "vit_pe_spatial_gigantic_patch14_448": "PE-Spatial-G14-448",
}
"""timm's architecture: the released model with the same tower."""
ANY = "vit_pe_core_tiny_patch16_384"
"""The architecture whose arguments can describe every other tower of the family."""


def from_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of a timm tower to those of our vision tower; a head bias of zeros is dropped.

    Raises:
        PerceptError: query and key-value of the pooling head, one tensor here, do not fit together.
    """
    whole = {f"attn_pool.qkv.{part}" for part in ("weight", "bias")}  # timm's class has this only in two parts
    surplus = {STRANGE + key: value for key, value in state.items() if key in whole}
    state = {key: value for key, value in state.items() if key not in whole}
    for part in ("weight", "bias"):
        q, kv = f"attn_pool.q.{part}", f"attn_pool.kv.{part}"
        if q in state and kv in state:
            state[f"attn_pool.qkv.{part}"] = _joined(state.pop(q), state.pop(kv), part)
    if (head := state.get("head.weight")) is not None and head.dim() == 2:
        bias = state.get("head.bias")
        state["head.weight"] = head.T.contiguous()
        if bias is not None and bias.dtype == head.dtype and not bits(bias).any():  # as `to_timm` writes it
            del state["head.bias"]
    ours = renamed(state, TIMM_NAMES.ours) | surplus
    for name, axes in (("class_token", 2), ("positions", 1)):
        if name in ours and ours[name].shape[:axes] == (1,) * axes:
            ours[name] = ours[name].reshape(ours[name].shape[axes:])
    return ours


def _joined(q: Tensor, kv: Tensor, part: str) -> Tensor:
    if q.dtype == kv.dtype and q.dim() and kv.dim() and q.shape[1:] == kv.shape[1:]:
        return torch.cat([q, kv])
    kinds = [f"{str(half.dtype).removeprefix('torch.')} {list(half.shape)}" for half in (q, kv)]
    raise PerceptError(
        f"attn_pool.q.{part} is {kinds[0]} and attn_pool.kv.{part} is {kinds[1]}, which form one tensor here; store both in "
        "one number type and width first"
    )


def to_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename our vision tower's keys to timm's; a projection without bias gets one of zeros."""
    state = dict(state)
    pooled = {part: state.pop(f"pool.qkv.{part}", None) for part in ("weight", "bias")}
    theirs = renamed(state, TIMM_NAMES.theirs)
    for part, whole in pooled.items():
        if whole is not None:
            width = len(whole) // 3
            theirs[f"attn_pool.q.{part}"], theirs[f"attn_pool.kv.{part}"] = whole[:width], whole[width:]
    if (head := theirs.get("head.weight")) is not None and head.dim() == 2:
        theirs["head.weight"] = head.T.contiguous()
        theirs.setdefault("head.bias", head.new_zeros(head.shape[1]))
    for name, axes in (("cls_token", 2), ("pos_embed", 1)):
        if name in theirs:
            theirs[name] = theirs[name].reshape(*(1,) * axes, *theirs[name].shape)
    return theirs


def timm_name(config: TowerConfig) -> str | None:
    """Return timm's architecture of exactly this tower; None if it has none."""
    if config.kind != PE:
        return None
    plain = _plain(config)
    return next((theirs for theirs, ours in NAMES.items() if _plain(CONFIGS[ours].vision) == plain), None)


def _plain(config: TowerConfig) -> TowerConfig:
    return replace(config, output_bias=False, drop_path=0.0)


def check_resize(preprocess: Preprocess, layout: str) -> None:
    """Refuse to write a resize mode that only our own layout can express.

    Raises:
        PerceptError: images keep their aspect ratio without padding.
    """
    if preprocess.resize in FREE:
        raise PerceptError(
            f"the {layout} layout has no name for resize={preprocess.resize!r}; write it --to percept, or change resize in "
            "preprocess.json to squash, crop or pad (and take patch and tokens out)"
        )


def normalisation(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mean and standard deviation that a configuration sets."""
    return {key: tuple(map(float, facts[key])) for key in ("mean", "std") if facts.get(key)}


def without_zero_bias(theirs: State, ours: Collection[str]) -> State:
    """Leave out the head bias of zeros that `to_timm` adds to a projection without a bias."""
    added = "vision.projection_bias" not in ours
    return {key: value for key, value in theirs.items() if not (added and key.endswith("head.bias"))}


def timm_config(config: TowerConfig, preprocess: Preprocess) -> dict[str, Any]:
    """Return the config.json with which timm builds this tower.

    Raises:
        PerceptError: a tower that timm's class cannot express, or a resize mode that has no name there.
    """
    check_resize(preprocess, "timm")
    name = timm_name(config)
    size = config.image_size
    facts = {
        "architecture": name or ANY,
        "num_classes": config.output_dim or 0,
        "num_features": config.width,
        "pretrained_cfg": {
            "input_size": [3, size, size],
            "fixed_input_size": True,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": {"squash": "squash", "crop": "center", "pad": "border"}[preprocess.resize],
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "num_classes": config.output_dim or 0,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    return facts if name else {**facts, "model_args": timm_arguments(config)}


def timm_arguments(config: TowerConfig) -> dict[str, Any]:
    """Return the arguments with which timm's class builds this tower.

    Raises:
        PerceptError: a tower that timm's class cannot express.
    """
    if not (config.rope and config.norm_pre and config.absolute_positions and config.pool in ("attention", "none")):
        raise PerceptError(
            "timm's Perception Encoder has rotary and learned positions, a first norm, and attention pooling or none; "
            "this model differs: write it with --to percept or --to official"
        )
    if config.pool == "attention" and config.output_dim is None:
        raise PerceptError("timm's pooling head ends in a projection, which this model lacks; write it --to percept")
    return {
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        "embed_dim": config.width,
        "depth": config.layers,
        "num_heads": config.heads,
        "mlp_ratio": config.mlp_width / config.width,
        "class_token": config.class_token,
        "global_pool": "map" if config.pool == "attention" else "",
        "attn_pool_num_heads": config.pool_heads,
        "init_values": config.layer_scale,
        "use_post_transformer_norm": config.norm_post,
        "use_fc_norm": False,
        "ref_feat_shape": [getattr(config, "rope_grid", None) or config.grid] * 2,
        "rope_grid_offset": 1.0 if config.class_token else 0.0,
    }


class Timm(Layout):
    """A vision tower under bare keys."""

    name = "timm"
    marks = ("blocks.", "patch_embed.")
    weight_files = ("model.safetensors", "pytorch_model.bin")
    config_files = (CONFIG,)
    written_file = "model.safetensors"
    holds_text = False

    def claims(self, files: Collection[str], config: Mapping[str, Any]) -> bool:
        """True if config.json names an architecture."""
        return "architecture" in config

    def to_ours(self, state: State) -> State:
        """Rename the keys; see `from_timm`."""
        return {f"vision.{key}": value for key, value in from_timm(state).items()}

    def to_theirs(self, state: State) -> State:
        """Rename the keys of the vision tower and leave out the text tower; see `to_timm`."""
        return to_timm(
            {key.removeprefix("vision."): value for key, value in state.items() if key.startswith("vision.")}
        )

    def spelled(self, state: State, stored: Collection[str]) -> State:
        """Return some of our tensors as timm has them, without a bias that we do not have."""
        return without_zero_bias(self.to_theirs(state), state)

    def read_header(self, file: Path) -> Header:
        """Return the mean and standard deviation in config.json."""
        facts = read_object(file.with_name(CONFIG))
        chosen = facts.get("pretrained_cfg", facts)
        return Header(preprocess_changes=normalisation(chosen if isinstance(chosen, dict) else {}))

    def write_header(self, header: Header) -> dict[str, Any]:
        """Return config.json; see `timm_config`."""
        assert header.config is not None
        assert header.preprocess is not None
        return {CONFIG: timm_config(header.config.vision, header.preprocess)}


LAYOUT = Timm()
