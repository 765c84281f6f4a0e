"""The layout in which PLM and Llama 3 were published: `params.json` and `consolidated.pth`, also in parts `consolidated.NN.pth`.

Keys: facebookresearch/perception_models, apps/plm/transformer.py; meta-llama/llama-models for a decoder alone. Queries and keys are
rotated in neighbouring pairs there, and in pairs half a head apart here, so their channels are reordered.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import read_json
from percept.data.transforms import Preprocess
from percept.models.config import PE, VisionConfig
from percept.models.language import DecoderConfig, RopeScaling, VLMConfig
from percept.models.zoo import DECODERS
from percept.weights.cast import release
from percept.weights.files import read_tensors
from percept.weights.layout import State
from percept.weights.layouts.official import VISION_NAMES
from percept.weights.layouts.plm import (
    DECODER,
    Config,
    PlmLayout,
    Record,
    decoder_of,
    halved,
    interleaved,
    prefixed,
    rename_all,
    same_bits,
)
from percept.weights.rename import STRANGE, Names

PARAMS = "params.json"
WEIGHTS = "consolidated.00.pth"
PART = r"consolidated(?:\.(\d+))?\.pth"
COMPANIONS = (PARAMS, "tokenizer.model", "LICENSE")
TOWER, PROJECTOR = "vision_model.", "vision_projector.projector."
BUFFERS = ("rope.freqs",)
"""Tables that are computed here."""
TIED = "output.tied_module.weight"
BLOCK = (
    (r"^layers\.", "blocks."),
    (r"\battention_norm\.", "norm_1."),
    (r"\bffn_norm\.", "norm_2."),
    (r"\battention\.wo\.", "attention.out."),
    (r"\battention\.w([qkv])\.", r"attention.\1."),
    (r"\bfeed_forward\.w1\.", "mlp.gate."),
    (r"\bfeed_forward\.w2\.", "mlp.down."),
    (r"\bfeed_forward\.w3\.", "mlp.up."),
    (r"^tok_embeddings\.", "embedding."),
    (r"^output\.", "head."),
)
BLOCK_INVERSE = (
    (r"^blocks\.", "layers."),
    (r"\bnorm_1\.", "attention_norm."),
    (r"\bnorm_2\.", "ffn_norm."),
    (r"\battention\.out\.", "attention.wo."),
    (r"\battention\.([qkv])\.", r"attention.w\1."),
    (r"\bmlp\.gate\.", "feed_forward.w1."),
    (r"\bmlp\.down\.", "feed_forward.w2."),
    (r"\bmlp\.up\.", "feed_forward.w3."),
    (r"^embedding\.", "tok_embeddings."),
    (r"^head\.", "output."),
)
NAMES_OF_DECODER = Names(BLOCK, BLOCK_INVERSE)
NAMES_OF_PROJECTOR = Names(((r"^0\.", "up."), (r"^2\.", "down.")), ((r"^up\.", "0."), (r"^down\.", "2.")))
ROTATED = r"(?:^|\.)blocks\.\d+\.attention\.([qk])\.weight$"
"""Our names of the weights whose channels are reordered."""
SIDES = (
    (r"attention\.w[qkv]\.|feed_forward\.w[13]\.|^output\.|^tok_embeddings\.", 0),
    (r"attention\.wo\.|feed_forward\.w2\.", 1),
)
"""Keys that model-parallel parts hold pieces of, and the axis along which these are joined; other keys are repeated."""


class Original(PlmLayout):
    """A folder of pickled state dicts."""

    name = "original"
    weights = WEIGHTS

    def claims(self, files: Collection[str], config: Mapping[str, Any]) -> bool:
        """True if there is a params.json."""
        return PARAMS in files

    def files(self, names: Collection[str], place: str) -> list[str]:
        """Return the parts in order, then the files that go with them.

        Raises:
            PerceptError: there is none, or a part is missing.
        """
        found = {int(match[1] or 0): name for name in names if (match := re.fullmatch(PART, name))}
        if not found:
            raise PerceptError(f"{place} holds no {WEIGHTS}. Fetch it too.")
        if lacking := sorted(set(range(max(found) + 1)) - set(found)):
            raise PerceptError(f"{place} lacks consolidated.{lacking[0]:02d}.pth. Fetch it too.")
        return [*(found[part] for part in sorted(found)), *(file for file in COMPANIONS if file in names)]

    def read_record(self, folder: Path) -> Record:
        """Return the configuration in params.json.

        Raises:
            PerceptError: it lacks an entry, or describes a model that is not built here.
        """
        facts, source = read_json(folder / PARAMS), folder / PARAMS
        try:
            model, data = facts.get("model", facts), facts.get("data", {})
            decoder = _decoder_config(model)
            if not model.get("vision_model"):
                return Record(config=decoder)
            config = VLMConfig(
                vision=_tower_config(model["vision_model"]), decoder=decoder, pooling=model.get("pooling_ratio", 1),
                tiles=1 if data.get("vision_input_type") == "vanilla" else data.get("max_num_tiles", 36),
                frames=max(1, data.get("max_video_frames", 32)), **_ids(facts),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError) as error:
            raise PerceptError(f"{source} lacks {error} or has it in a wrong form. Fetch the file again.") from None
        return Record(config=config, preprocess=Preprocess(size=config.vision.image_size))

    def read(self, folder: Path, weights: Sequence[str]) -> State:
        """Return the tensors of all parts.

        Raises:
            PerceptError: a part is damaged, or the parts do not belong together.
        """
        parts = [read_tensors(folder / file) for file in weights if re.fullmatch(PART, file)]
        state = parts[0] if len(parts) == 1 else _joined(parts, str(folder))
        return {key: value for key, value in state.items() if key not in BUFFERS}

    def to_ours(self, state: State, config: Config) -> State:
        """Rename the keys and reorder the channels of queries and keys."""
        prefix = DECODER if isinstance(config, VLMConfig) else ""
        ours, decoder = rename_all(state, lambda key: _our_name(key, prefix)), decoder_of(config)
        for key in [key for key in ours if re.search(ROTATED, key)]:
            heads = _heads(key, decoder)
            if ours[key].dim() == 2 and not len(ours[key]) % (2 * heads):  # other shapes are reported later
                stored, ours[key] = ours[key], halved(ours[key], heads)
                release(stored)
        return ours

    def to_theirs(self, state: State, config: Config) -> State:
        """Return the published keys, with the channels of queries and keys in their order.

        Raises:
            PerceptError: queries, keys and values have biases.
        """
        decoder = decoder_of(config)
        if decoder.qkv_bias:
            raise PerceptError(
                "the original layout has no keys for biases of queries, keys and values. Write it --to transformers."
            )
        return {
            key: interleaved(value, _heads(ours, decoder)) if re.search(ROTATED, ours) else value
            for ours, value in state.items()
            for key in [_their_name(ours)]
        }

    def spelled(self, state: State, config: Config) -> State:
        """Return tensors as they are under the published keys."""
        return {_their_name(key): value for key, value in state.items()}

    def write_record(self, record: Record) -> dict[str, Any]:
        """Return params.json.

        Raises:
            PerceptError: the tower is not a Perception Encoder's.
        """
        config = record.config
        if isinstance(config, DecoderConfig):
            return {PARAMS: _decoder_facts(config)}
        model = _decoder_facts(config.decoder) | {
            "pooling_ratio": config.pooling, "remove_vision_class_token": True, "vision_model": _tower_facts(config),
            "mlp_init": {"use_gaussian": True},
        }  # fmt: skip
        data = {
            "vision_input_type": "vanilla" if config.tiles == 1 else "thumb+tile", "max_num_tiles": config.tiles,
            "max_video_frames": config.frames, "image_res": config.vision.image_size,
        }  # fmt: skip
        ids = {"image_token": config.image_token, "video_token": config.video_token, "stop_ids": list(config.stop_ids)}
        return {PARAMS: {"name": record.name, "model": model, "data": data, "distributed": {}, "percept": ids}}


def _heads(key: str, config: DecoderConfig) -> int:
    """Return the heads of the queries or keys with this name."""
    match = re.search(ROTATED, key)
    return config.heads if match is not None and match[1] == "q" else config.kv_heads


def _our_name(key: str, prefix: str) -> str:
    if key == TIED:
        return f"{prefix}head.weight"
    if key.startswith(TOWER):
        return prefixed(VISION_NAMES, TOWER, "vision.")[0](key)
    if key.startswith(PROJECTOR):
        return prefixed(NAMES_OF_PROJECTOR, PROJECTOR, "projector.")[0](key)
    name = NAMES_OF_DECODER.ours(key)
    return name if name.startswith(STRANGE) else prefix + name


def _their_name(key: str) -> str:
    if key.startswith("vision."):
        return TOWER + VISION_NAMES.theirs(key.removeprefix("vision."))
    if key.startswith("projector."):
        return PROJECTOR + NAMES_OF_PROJECTOR.theirs(key.removeprefix("projector."))
    return NAMES_OF_DECODER.theirs(key.removeprefix(DECODER))


def _joined(parts: Sequence[State], source: str) -> State:
    """Join the pieces of model-parallel parts.

    Raises:
        PerceptError: the parts hold different keys, or a tensor that they repeat differs.
    """
    if any(part.keys() != parts[0].keys() for part in parts):
        raise PerceptError(
            f"the parts of {source} hold different keys, so they are not of one model. Fetch them again."
        )
    state: dict[str, Tensor] = {}
    for key, first in parts[0].items():
        axis = next((axis for pattern, axis in SIDES if re.search(pattern, key)), None)
        if axis is not None:
            state[key] = torch.cat([part[key] for part in parts], dim=axis)
        elif all(same_bits(first, part[key]) for part in parts[1:]):
            state[key] = first
        else:
            raise PerceptError(f"the parts of {source} hold different values of {key}. Fetch them again.")
    return state


def hidden_width(dim: int, multiplier: float | None, multiple: int) -> int:
    """Return the channels inside the MLP by the published rule.

    >>> hidden_width(2048, 1.5, 256), hidden_width(4096, 1.3, 1024)
    (8192, 14336)
    """
    hidden = int(2 * 4 * dim / 3)
    hidden = hidden if multiplier is None else int(multiplier * hidden)
    return multiple * -(-hidden // multiple)


def _decoder_config(model: Mapping[str, Any]) -> DecoderConfig:
    dim, heads = model["dim"], model["n_heads"]
    same = (
        c
        for c in DECODERS.values()
        if (c.width, c.layers, c.vocabulary) == (dim, model["n_layers"], model["vocab_size"])
    )
    known = next(same, None)  # the published params.json of Llama records neither of the following
    tied = model.get("weight_tying", known is not None and known.tied and "vision_model" not in model)
    factor = model.get("rope_scale_factor", model.get("rope_scaling_factor"))
    if factor is None and model.get("use_scaled_rope"):
        factor = 8 if known is None or known.rope_scaling is None else known.rope_scaling.factor
    scaling = None if factor is None or factor == 1 else RopeScaling(
        factor=float(factor), low=float(model.get("low_freq_factor", 1)), high=float(model.get("high_freq_factor", 4)),
        context=model.get("old_context_len", 8192),
    )  # fmt: skip
    head_dim = model.get("head_dim")
    return DecoderConfig(
        vocabulary=model["vocab_size"], width=dim, layers=model["n_layers"], heads=heads,
        kv_heads=model.get("n_kv_heads") or heads,
        hidden=hidden_width(dim, model.get("ffn_dim_multiplier"), model.get("multiple_of", 256)),
        head_dim=None if head_dim == dim // heads else head_dim,
        context=model.get("max_seqlen") or (131_072 if scaling else 8192), rope_base=float(model.get("rope_theta", 10_000)),
        rope_scaling=scaling, norm_eps=float(model.get("norm_eps", 1e-5)), tied=tied,
    )  # fmt: skip


def _decoder_facts(config: DecoderConfig) -> dict[str, Any]:
    scaling, head_dim = config.rope_scaling, {} if config.head_dim is None else {"head_dim": config.head_dim}
    scaled = {} if scaling is None else {
        "low_freq_factor": scaling.low, "high_freq_factor": scaling.high, "old_context_len": scaling.context,
    }  # fmt: skip
    return {
        "dim": config.width, "n_layers": config.layers, "n_heads": config.heads, "n_kv_heads": config.kv_heads,
        "vocab_size": config.vocabulary, "multiple_of": 1,
        "ffn_dim_multiplier": (config.hidden + 0.5) / int(2 * 4 * config.width / 3), "norm_eps": config.norm_eps,
        "rope_theta": config.rope_base, "rope_scale_factor": 1 if scaling is None else scaling.factor, **scaled,
        "use_scaled_rope": scaling is not None, "weight_tying": config.tied, "max_seqlen": config.context, **head_dim,
    }  # fmt: skip


def _ids(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the special ids that we recorded; the published files have the default ones."""
    ids = dict(facts.get("percept") or {})
    return ids | ({"stop_ids": tuple(ids["stop_ids"])} if "stop_ids" in ids else {})


def _tower_config(facts: Mapping[str, Any]) -> VisionConfig:
    size = facts.get("image_size", facts.get("pretrain_image_size", 448))
    if facts.get("use_ln_post", True) or facts.get("pool_type", "none") != "none":
        raise PerceptError("params.json pools or normalises the tokens of its vision tower, which is not built here.")
    return VisionConfig(
        image_size=size, patch_size=facts["patch_size"], width=facts["width"], layers=facts["layers"],
        heads=facts["heads"], hidden=int(facts["width"] * facts.get("mlp_ratio", 4.0)),
        class_token=facts.get("use_cls_token", False), absolute_positions=facts.get("use_abs_posemb", True),
        rope=facts.get("use_rope2d", True), norm_pre=facts.get("use_ln_pre", True), pool="none", norm_post=False,
        layer_scale=facts.get("ls_init_value"), drop_path=float(facts.get("drop_path") or 0.0),
    )  # fmt: skip


def _tower_facts(config: VLMConfig) -> dict[str, Any]:
    vision = config.vision
    if vision.kind != PE or vision.pool != "none" or vision.norm_post or vision.rope_grid is not None:
        raise PerceptError("the original layout holds cut towers of Perception Encoders only. Write it --to percept.")
    return {
        "image_size": vision.image_size, "patch_size": vision.patch_size, "width": vision.width, "layers": vision.layers,
        "heads": vision.heads, "mlp_ratio": (vision.mlp_width + 0.5) / vision.width, "use_cls_token": vision.class_token,
        "use_abs_posemb": vision.absolute_positions, "use_rope2d": vision.rope, "use_ln_pre": vision.norm_pre,
        "ls_init_value": vision.layer_scale, "drop_path": vision.drop_path, "use_ln_post": False, "pool_type": "none",
    }  # fmt: skip


LAYOUT = Original()
