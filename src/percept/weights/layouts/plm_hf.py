"""The layout of transformers: config.json and (sharded) safetensors of `PerceptionLMForConditionalGeneration`, and of Llama and Qwen2.

Keys: huggingface/transformers, models/perception_lm, models/llama, models/qwen2; the vision tower is timm's.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.core.io import read_json, read_object
from percept.data.transforms import Preprocess
from percept.models.config import PE, VisionConfig
from percept.models.language import DecoderConfig, RopeScaling, VLMConfig
from percept.models.zoo import CONFIGS
from percept.weights.files import INDEX, read_tensors
from percept.weights.layout import State
from percept.weights.layouts.plm import DECODER, Config, PlmLayout, Record, prefixed, rename_all, split_prefix
from percept.weights.layouts.timm import NAMES, from_timm, normalisation, timm_arguments, to_timm
from percept.weights.rename import STRANGE, Names

CONFIG, GENERATION, PROCESSOR = "config.json", "generation_config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
SHARD = r"model-(\d+)-of-(\d+)\.safetensors"
COMPANIONS = (
    CONFIG, GENERATION, PROCESSOR, "processor_config.json", "video_preprocessor_config.json", "chat_template.jinja",
    "chat_template.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "LICENSE",
)  # fmt: skip
MODEL_TYPE = "perception_lm"
DECODERS = ("llama", "qwen2")
"""Values of model_type of decoders that are read."""
LARGE, GIGANTIC = "vit_pe_core_large_patch14_336", "vit_pe_core_gigantic_patch14_448"
TOWER, LANGUAGE, PROJECTOR = "vision_tower.timm_model.", "language_model.", "multi_modal_projector."

BLOCK = (
    (r"^layers\.", "blocks."),
    (r"\binput_layernorm\.", "norm_1."),
    (r"\bpost_attention_layernorm\.", "norm_2."),
    (r"\bself_attn\.o_proj\.", "attention.out."),
    (r"\bself_attn\.([qkv])_proj\.", r"attention.\1."),
    (r"\bmlp\.(gate|up|down)_proj\.", r"mlp.\1."),
    (r"^embed_tokens\.", "embedding."),
)
BLOCK_INVERSE = (
    (r"^blocks\.", "layers."),
    (r"\bnorm_1\.", "input_layernorm."),
    (r"\bnorm_2\.", "post_attention_layernorm."),
    (r"\battention\.out\.", "self_attn.o_proj."),
    (r"\battention\.([qkv])\.", r"self_attn.\1_proj."),
    (r"\bmlp\.(gate|up|down)\.", r"mlp.\1_proj."),
    (r"^embedding\.", "embed_tokens."),
)
NAMES_OF_DECODER = Names(BLOCK, BLOCK_INVERSE)
NAMES_OF_PROJECTOR = Names(
    ((r"^linear_1\.", "up."), (r"^linear_2\.", "down.")), ((r"^up\.", "linear_1."), (r"^down\.", "linear_2."))
)


class Transformers(PlmLayout):
    """A folder that transformers writes and reads."""

    name = "transformers"
    weights = WEIGHTS[0]

    def claims(self, files: Collection[str], config: Mapping[str, Any]) -> bool:
        """True if config.json names one of the models that are read."""
        return config.get("model_type") in (MODEL_TYPE, *DECODERS)

    def files(self, names: Collection[str], place: str) -> list[str]:
        """Return the weight file or its index, then the files that go with it.

        Raises:
            PerceptError: there are no weights, or shards without their index.
        """
        for weights in (stored for file in WEIGHTS for stored in (file, file + INDEX)):
            if weights in names:
                return [weights, *(file for file in COMPANIONS if file in names)]
        shards = sorted(name for name in names if re.fullmatch(SHARD, name))
        if shards:
            raise PerceptError(
                f"{place} holds {len(shards)} parts of weights, but no {WEIGHTS[0]}{INDEX}. Fetch it too."
            )
        raise PerceptError(f"{place} holds no weights ({WEIGHTS[0]}, also in parts). Fetch them too.")

    def read_record(self, folder: Path) -> Record:
        """Return the configuration in config.json and the normalisation in preprocessor_config.json.

        Raises:
            PerceptError: the model has a part that is not built here.
        """
        facts, source = read_json(folder / CONFIG), str(folder / CONFIG)
        try:
            if facts["model_type"] != MODEL_TYPE:
                return Record(config=decoder_config(facts, source))
            config = _vlm_config(facts, folder)
        except (KeyError, TypeError, AttributeError) as error:
            raise PerceptError(f"{source} lacks {error} or has it in a wrong form. Fetch the file again.") from None
        shown = read_object(folder / PROCESSOR)
        changes = normalisation({ours: shown.get(f"image_{ours}") for ours in ("mean", "std")})
        return Record(config=config, preprocess=Preprocess(size=config.vision.image_size, **changes))

    def read(self, folder: Path, weights: Sequence[str]) -> State:
        """Return the tensors of the weight file, or of all files of its index."""
        return read_tensors(folder / weights[0])

    def to_ours(self, state: State, config: Config) -> State:
        """Rename the keys; the vision tower as that of timm."""
        bare = rename_all(state, lambda key: key.removeprefix("model."))
        if isinstance(config, DecoderConfig):
            return rename_all(bare, _decoder_name)
        tower, rest = split_prefix(bare, TOWER)
        ours = {f"vision.{key}": value for key, value in from_timm(tower).items()}
        return ours | rename_all(rest, _our_name)

    def to_theirs(self, state: State, config: Config) -> State:
        """Return the keys of transformers."""
        if isinstance(config, DecoderConfig):
            return {_outward(key, "model."): value for key, value in state.items()}
        tower, rest = split_prefix(state, "vision.")
        projector, decoder = split_prefix(rest, "projector.")
        _, back = prefixed(NAMES_OF_PROJECTOR, f"model.{PROJECTOR}", "")
        theirs = {f"model.{TOWER}{key}": value for key, value in to_timm(tower).items()}
        theirs |= {back(key): value for key, value in projector.items()}
        return theirs | {
            _outward(key.removeprefix(DECODER), f"model.{LANGUAGE}"): value for key, value in decoder.items()
        }

    def write_record(self, record: Record) -> dict[str, Any]:
        """Return config.json, generation_config.json and preprocessor_config.json.

        Raises:
            PerceptError: the tower is not one of timm's.
        """
        config = record.config
        if isinstance(config, DecoderConfig):
            return {CONFIG: {"architectures": [_class_of(config)], **decoder_facts(config)}}
        preprocess = record.preprocess or Preprocess(size=config.vision.image_size)
        return {
            CONFIG: _vlm_facts(config),
            GENERATION: {"eos_token_id": list(config.stop_ids)},
            PROCESSOR: {
                "image_processor_type": "PerceptionLMImageProcessorFast",
                "image_mean": list(preprocess.mean), "image_std": list(preprocess.std),
                "max_num_tiles": config.tiles, "tile_size": config.vision.image_size,
                "vision_input_type": "vanilla" if config.tiles == 1 else "thumb+tile",
            },
        }  # fmt: skip


def _decoder_name(key: str) -> str:
    """Return our name of a key of a decoder alone, without the prefix `model.`."""
    return "head.weight" if key == "lm_head.weight" else NAMES_OF_DECODER.ours(key)


def _our_name(key: str) -> str:
    """Return our name of a key of projector or decoder."""
    if key == "lm_head.weight":
        return f"{DECODER}head.weight"
    for names, theirs, ours in ((NAMES_OF_DECODER, LANGUAGE, DECODER), (NAMES_OF_PROJECTOR, PROJECTOR, "projector.")):
        if key.startswith(theirs):
            return prefixed(names, theirs, ours)[0](key)
    return STRANGE + key


def _outward(key: str, prefix: str) -> str:
    """Return the key of transformers for a name of our decoder."""
    return "lm_head.weight" if key == "head.weight" else prefix + NAMES_OF_DECODER.theirs(key)


def decoder_config(facts: Mapping[str, Any], source: str) -> DecoderConfig:
    """Return the configuration of a decoder as transformers records it.

    Raises:
        PerceptError: it has a part that is not built here.
    """
    kind = facts["model_type"]
    refused = {
        f"model_type {kind!r}": kind not in DECODERS,
        f"hidden_act {facts.get('hidden_act')!r}": facts.get("hidden_act", "silu") != "silu",
        "mlp_bias": facts.get("mlp_bias", False),
        "attention_bias": facts.get("attention_bias", False) and kind == "llama",
        "a sliding window": facts.get("use_sliding_window", False),
        "quantised weights": "quantization_config" in facts,
    }
    if names := [name for name, present in refused.items() if present]:
        raise PerceptError(
            f"{source} has {', '.join(names)}, which is not read here. Use Llama 3 or Qwen2.5 in 16 or 32 bits."
        )
    head_dim = facts.get("head_dim")
    rope = facts.get("rope_parameters") or facts.get("rope_scaling") or {}
    return DecoderConfig(
        vocabulary=facts["vocab_size"], width=facts["hidden_size"], layers=facts["num_hidden_layers"],
        heads=facts["num_attention_heads"], kv_heads=facts.get("num_key_value_heads") or facts["num_attention_heads"],
        hidden=facts["intermediate_size"], head_dim=None if head_dim == facts["hidden_size"] // facts["num_attention_heads"] else head_dim,
        context=facts.get("max_position_embeddings", 8192),
        rope_base=float(rope.get("rope_theta") or facts.get("rope_theta") or 10_000.0),
        rope_scaling=_scaling(rope, source), norm_eps=facts.get("rms_norm_eps", 1e-6), qkv_bias=kind == "qwen2",
        tied=facts.get("tie_word_embeddings", False),
    )  # fmt: skip


def _scaling(rope: Mapping[str, Any], source: str) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise PerceptError(
            f"{source} scales rotary positions by {kind!r}, which is not read here. llama3 and default are."
        )
    return RopeScaling(
        factor=float(rope["factor"]), low=float(rope["low_freq_factor"]), high=float(rope["high_freq_factor"]),
        context=rope["original_max_position_embeddings"],
    )  # fmt: skip


def decoder_facts(config: DecoderConfig) -> dict[str, Any]:
    """Return the configuration of a decoder as transformers records it."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_base}
    if (scaling := config.rope_scaling) is not None:
        rope |= {
            "rope_type": "llama3", "factor": scaling.factor, "low_freq_factor": scaling.low,
            "high_freq_factor": scaling.high, "original_max_position_embeddings": scaling.context,
        }  # fmt: skip
    return {
        "model_type": "qwen2" if config.qkv_bias else "llama", "vocab_size": config.vocabulary,
        "hidden_size": config.width, "intermediate_size": config.hidden, "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads, "num_key_value_heads": config.kv_heads, "head_dim": config.head_width,
        "max_position_embeddings": config.context, "rope_parameters": rope, "rope_theta": config.rope_base,
        "rms_norm_eps": config.norm_eps, "hidden_act": "silu", "tie_word_embeddings": config.tied,
    }  # fmt: skip


def _class_of(config: DecoderConfig) -> str:
    return "Qwen2ForCausalLM" if config.qkv_bias else "LlamaForCausalLM"


def _vlm_config(facts: Mapping[str, Any], folder: Path) -> VLMConfig:
    text = dict(facts["text_config"])
    text.setdefault("tie_word_embeddings", facts.get("tie_word_embeddings", False))
    vision = _tower_config(facts["vision_config"], str(folder / CONFIG))
    if facts.get("vision_use_cls_token", True) != vision.class_token:
        raise PerceptError(f"{folder / CONFIG} has a class token in one place only. Correct vision_use_cls_token.")
    generation, shown = read_object(folder / GENERATION), read_object(folder / PROCESSOR)
    stops = generation.get("eos_token_id", facts.get("eos_token_id", text.get("eos_token_id")))
    stops = [stops] if isinstance(stops, int) else stops or []
    tiles = 1 if shown.get("vision_input_type") == "vanilla" else shown.get("max_num_tiles", 36)
    return VLMConfig(
        vision=vision, decoder=decoder_config(text, str(folder / CONFIG)), pooling=facts.get("projector_pooling_ratio", 1),
        image_token=facts.get("image_token_id", 128_002), video_token=facts.get("video_token_id"),
        stop_ids=tuple(stops), tiles=tiles,
    )  # fmt: skip


def _tower_config(facts: Mapping[str, Any], source: str) -> VisionConfig:
    """Return the vision tower of a timm architecture with changed arguments."""
    name, changes = facts["architecture"], facts.get("model_args") or {}
    if name not in NAMES:
        raise PerceptError(f"{source} has a vision tower {name!r}, which is not built here. Perception Encoders are.")
    base = CONFIGS[NAMES[name]].vision
    if changes.get("use_post_transformer_norm", False) or changes.get("global_pool", "") != "":
        raise PerceptError(f"{source} pools or normalises the tokens of its vision tower, which is not built here.")
    width, size = changes.get("embed_dim", base.width), changes.get("img_size", base.image_size)
    size, patch = size if isinstance(size, int) else size[0], changes.get("patch_size", base.patch_size)
    ratio = changes.get("mlp_ratio", base.mlp_width / base.width)
    rope_grid = changes.get("ref_feat_shape", [base.grid])[0]
    return VisionConfig(
        image_size=size, patch_size=patch, rope_grid=None if rope_grid == size // patch else rope_grid,
        width=width, layers=changes.get("depth", base.layers), heads=changes.get("num_heads", base.heads),
        hidden=int(width * ratio), class_token=changes.get("class_token", base.class_token), pool="none", norm_post=False,
        layer_scale=changes.get("init_values", base.layer_scale),
    )  # fmt: skip


def _vlm_facts(config: VLMConfig) -> dict[str, Any]:
    vision = config.vision
    if vision.kind != PE or vision.pool != "none" or vision.norm_post:
        raise PerceptError(
            "the transformers layout holds cut towers of Perception Encoders only. Write it to percept's own."
        )
    tokens = {} if config.video_token is None else {"video_token_id": config.video_token}
    return {
        "architectures": ["PerceptionLMForConditionalGeneration"], "model_type": MODEL_TYPE,
        "vision_config": {
            "model_type": "timm_wrapper", "architecture": LARGE if vision.class_token else GIGANTIC,
            "do_pooling": False, "num_classes": 0, "model_args": timm_arguments(vision),
        },
        "text_config": decoder_facts(config.decoder), "vision_use_cls_token": vision.class_token,
        "projector_pooling_ratio": config.pooling, "image_token_id": config.image_token, **tokens,
        "tie_word_embeddings": config.decoder.tied,
    }  # fmt: skip


LAYOUT = Transformers()
