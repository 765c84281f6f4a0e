"""Perception language models and decoders in every layout: round trips to the bit, strictness, names, what is missing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor

import percept
from percept.core.errors import PerceptError
from percept.core.io import load_tensors, same_tensors, save_tensors, write_json
from percept.data.transforms import Preprocess
from percept.models.language import DecoderConfig, RopeScaling, VLMConfig
from percept.models.vlm import VLM
from percept.models.zoo import ASSISTANTS
from percept.nn.context import Context
from percept.nn.grouped import GroupedAttention
from percept.nn.rope_1d import rope_1d
from percept.weights import assistant as opening
from percept.weights import hub
from percept.weights.assistant import locate_assistant, open_decoder, open_vlm, pick_files, read_assistant
from percept.weights.assistant_files import write_assistant
from percept.weights.cast import trainable
from percept.weights.layouts.plm import build_empty, halved, interleaved
from percept.weights.layouts.plm_original import LAYOUT as ORIGINAL
from tests.golden import speaking
from tests.infer import tiny
from tests.models import talking

LAYOUTS = ["percept", "transformers", "original"]
ONE_LAYER = {"vision": replace(talking.TOWER, layers=1), "decoder": replace(talking.DECODER, layers=1)}


def written(path: Path, layout: str, model: VLM, **options: object) -> Path:
    return write_assistant(path, model.state_dict(), model.config, name="toy", layout=layout, **options)  # pyright: ignore[reportArgumentType]


def config_of(tied: bool, class_token: bool) -> VLMConfig:
    tower = replace(talking.TOWER, class_token=class_token, layer_scale=0.1 if tied else None)
    return replace(talking.TALKING, vision=tower, decoder=replace(talking.DECODER, tied=tied))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("tied", "class_token"), [(True, True), (False, False)])
def test_round_trips_are_equal_to_the_bit(
    tmp_path: Path, layout: str, dtype: torch.dtype, tied: bool, class_token: bool
) -> None:
    model = talking.vlm(**vars(config_of(tied, class_token)))
    state = {name: value.to(dtype) for name, value in model.state_dict().items()}
    state["vision.patch.weight"][0, 0, 0, 0] = -0.0
    state["projector.up.bias"][0] = float("nan")
    first = write_assistant(tmp_path / "1", state, model.config, name="toy", layout=layout)
    read = read_assistant(locate_assistant(first))
    assert same_tensors(read.state, state)
    config = read.record.config
    assert isinstance(config, VLMConfig)
    frames = 2 if layout == "transformers" else config.frames  # transformers has no place for it
    assert replace(config, vision=config.vision.canonical(), frames=frames) == replace(
        model.config, vision=model.config.vision.canonical()
    )
    second = write_assistant(tmp_path / "2", read.state, config, name="toy", layout=layout)
    files = {file.name for file in first.iterdir()}
    assert files == {file.name for file in second.iterdir()}
    again = [opening.LAYOUTS[layout].read(folder, [opening.LAYOUTS[layout].weights]) for folder in (first, second)]
    assert same_tensors(*again)


def test_all_layouts_give_one_model(tmp_path: Path) -> None:
    model, prompt, tiles = talking.vlm(), talking.prompt(2), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = model(prompt, tiles=tiles)
    for layout in LAYOUTS:
        found = percept.assistant(written(tmp_path / layout, layout, model), device="cpu").logits(prompt, tiles)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_original_layout_rotates_neighbouring_channels(tmp_path: Path) -> None:
    """The published attention, written with complex numbers, on the stored weights."""
    model = talking.vlm()
    folder = written(tmp_path, "original", model)
    stored = torch.load(folder / "consolidated.00.pth", weights_only=True)
    attention = cast(GroupedAttention, model.decoder.get_submodule("blocks.0.attention"))
    x, rates = torch.randn(1, 5, 16), model.decoder.frequencies(torch.device("cpu"))
    turn = torch.polar(torch.ones(5, 2), torch.arange(5)[:, None] * rates)[:, None]
    q, k = (
        torch.view_as_real(
            torch.view_as_complex((x @ stored[f"layers.0.attention.w{part}.weight"].T).unflatten(-1, (-1, 2, 2))) * turn
        ).flatten(-2)
        for part in "qk"
    )
    ours, keys, _ = attention.project(x, Context(rope=rope_1d(torch.arange(5), rates)))
    for theirs, mine in ((q, ours), (k, keys)):
        groups = theirs.shape[2]
        for head in range(groups):
            products = [part @ part.transpose(-1, -2) for part in (theirs[0, :, head], mine[0, head])]
            torch.testing.assert_close(*products)


def test_reordering_channels_is_undone() -> None:
    weight = torch.randn(24, 3)
    assert torch.equal(interleaved(halved(weight, 3), 3), weight)
    assert not torch.equal(halved(weight, 3), weight)


@pytest.mark.parametrize(
    ("layout", "key", "shown"),
    [
        ("percept", "decoder.blocks.1.mlp.up.weight", "decoder.blocks.1.mlp.up.weight"),
        (
            "transformers",
            "model.language_model.layers.1.mlp.up_proj.weight",
            "model.language_model.layers.1.mlp.up_proj",
        ),
        ("transformers", "model.vision_tower.timm_model.blocks.0.attn.qkv.bias", "timm_model.blocks.0.attn.qkv.bias"),
        ("transformers", "model.multi_modal_projector.linear_2.bias", "multi_modal_projector.linear_2.bias"),
        ("original", "layers.1.feed_forward.w3.weight", "layers.1.feed_forward.w3.weight"),
        ("original", "vision_model.transformer.resblocks.0.attn.in_proj_bias", "resblocks.0.attn.in_proj_bias"),
    ],
)
def test_what_is_missing_unexpected_or_misshapen_is_listed(tmp_path: Path, layout: str, key: str, shown: str) -> None:
    folder = written(tmp_path, layout, talking.vlm())
    file = folder / opening.LAYOUTS[layout].weights
    stored = dict(load_tensors(file) if layout != "original" else torch.load(file, weights_only=True))
    stored = {name: value.clone() for name, value in stored.items()}
    changes: list[tuple[dict[str, Tensor], str]] = [
        ({name: value for name, value in stored.items() if name != key}, f"missing: .*{shown}"),
        (stored | {f"{key}2": stored[key].clone()}, f"unexpected: .*{key}2"),
        (stored | {key: stored[key][:3].clone()}, f"{shown}.* \\[3.*instead of"),
    ]
    for state, words in changes:
        save_tensors(file, state) if file.suffix == ".safetensors" else torch.save(state, file)
        with pytest.raises(PerceptError, match=words):
            percept.assistant(folder)


def test_a_tied_head_may_be_stored_but_has_to_be_the_embedding(tmp_path: Path) -> None:
    model = talking.vlm()
    folder = written(tmp_path, "original", model)
    file = folder / "consolidated.00.pth"
    stored = dict(torch.load(file, weights_only=True))
    for name in ("output.weight", "output.tied_module.weight"):
        torch.save(stored | {name: stored["tok_embeddings.weight"]}, file)
        assert same_tensors(open_vlm(folder).state_dict(), model.state_dict())
        torch.save(stored | {name: stored["tok_embeddings.weight"].clone()}, file)
        assert same_tensors(open_vlm(folder).state_dict(), model.state_dict())
    torch.save(stored | {"output.weight": stored["tok_embeddings.weight"] + 1}, file)
    with pytest.raises(PerceptError, match="output layer is the token embedding, but stores different"):
        open_vlm(folder)


def test_incomplete_downloads_are_named(tmp_path: Path) -> None:
    model = talking.vlm()
    sharded = written(tmp_path / "hf", "transformers", model, shard_bytes=8_000)
    shards = sorted(sharded.glob("model-*-of-*.safetensors"))
    kept = shards[1].read_bytes()
    shards[1].write_bytes(kept[: len(kept) // 2])
    with pytest.raises(PerceptError, match=f"{shards[1].name} is not a complete safetensors file"):
        percept.assistant(sharded)
    shards[1].unlink()
    with pytest.raises(PerceptError, match=f"not next to it: {shards[1].name}"):
        percept.assistant(sharded)
    (sharded / "model.safetensors.index.json").unlink()
    with pytest.raises(PerceptError, match=r"parts of weights, but no model\.safetensors\.index\.json"):
        percept.assistant(sharded)
    original = written(tmp_path / "original", "original", model)
    file = original / "consolidated.00.pth"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(PerceptError, match=r"consolidated\.00\.pth is not a complete file of weights"):
        percept.assistant(original)
    file.rename(original / "consolidated.01.pth")
    with pytest.raises(PerceptError, match=r"lacks consolidated\.00\.pth"):
        percept.assistant(original)
    (original / "consolidated.01.pth").unlink()
    with pytest.raises(PerceptError, match=r"holds no consolidated\.00\.pth"):
        percept.assistant(original)
    own = written(tmp_path / "own", "percept", model)
    (own / "model.safetensors").unlink()
    with pytest.raises(PerceptError, match=r"has no model\.safetensors"):
        percept.assistant(own)


def test_pickles_that_hold_code_are_not_run(tmp_path: Path) -> None:
    folder = written(tmp_path, "original", talking.vlm())
    torch.save({"layers": Preprocess(size=3)}, folder / "consolidated.00.pth")
    with pytest.raises(PerceptError, match="nothing in it was run"):
        percept.assistant(folder)


def test_parts_of_model_parallel_weights_are_joined(tmp_path: Path) -> None:
    model = talking.decoder(tied=False)
    whole = write_assistant(tmp_path, model.state_dict(), model.config, name="toy", layout="original")
    file = whole / "consolidated.00.pth"
    stored = torch.load(file, weights_only=True)
    cuts = [
        {
            key: value if value.dim() == 1 else value.chunk(2, dim=int("wo." in key or "w2." in key))[part].clone()
            for key, value in stored.items()
        }
        for part in range(2)
    ]
    for part, cut in enumerate(cuts):
        torch.save(cut, whole / f"consolidated.{part:02d}.pth")
    assert same_tensors(open_decoder(whole).state_dict(), model.state_dict())
    cuts[1]["norm.weight"] = cuts[1]["norm.weight"] + 1
    torch.save(cuts[1], whole / "consolidated.01.pth")
    with pytest.raises(PerceptError, match=r"different values of norm\.weight"):
        open_decoder(whole)


@pytest.mark.parametrize(("layout", "changes"), [
    ("transformers", {}), ("transformers", {"qkv_bias": True, "rope_scaling": None}), ("transformers", {"tied": False}),
    ("original", {}), ("original", {"tied": False, "rope_scaling": None}), ("percept", {"head_dim": 6}),
])  # fmt: skip
def test_decoders_alone_open_as_the_language_half(tmp_path: Path, layout: str, changes: dict) -> None:
    model = talking.decoder(**changes)
    folder = write_assistant(tmp_path, model.state_dict(), model.config, name="toy", layout=layout)
    opened = open_decoder(folder)
    assert same_tensors(opened.state_dict(), model.state_dict())
    assert opened.config == model.config
    with pytest.raises(PerceptError, match="language model without an image tower"):
        percept.assistant(folder)


def test_the_decoder_of_a_perception_language_model_can_be_taken(tmp_path: Path) -> None:
    model = talking.vlm()
    opened = open_decoder(written(tmp_path, "percept", model), dtype=torch.bfloat16)
    assert opened.embedding.weight.dtype == torch.bfloat16
    torch.testing.assert_close(opened.embedding.weight, model.decoder.embedding.weight.detach().bfloat16())


def test_the_published_params_of_llama_are_understood(tmp_path: Path) -> None:
    """Which record neither that 1B and 3B are tied nor by how much they scale."""
    published = {
        "dim": 2048, "n_layers": 16, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "ffn_dim_multiplier": 1.5,
        "multiple_of": 256, "norm_eps": 1e-05, "rope_theta": 500000.0, "use_scaled_rope": True,
    }  # fmt: skip
    write_json(tmp_path / "params.json", published)
    config = ORIGINAL.read_record(tmp_path).config
    assert isinstance(config, DecoderConfig)
    assert (config.tied, config.hidden, config.rope_scaling) == (True, 8192, RopeScaling(factor=32.0))
    write_json(
        tmp_path / "params.json",
        {**published, "dim": 4096, "n_layers": 32, "ffn_dim_multiplier": 1.3, "multiple_of": 1024},
    )
    config = ORIGINAL.read_record(tmp_path).config
    assert isinstance(config, DecoderConfig)
    assert (config.tied, config.hidden, config.rope_scaling) == (False, 14336, RopeScaling(factor=8.0))


PLM_8B = {
    "name": "plm", "distributed": {"model_dtype": "bf16"},
    "model": {
        "dim": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "vocab_size": 128256, "ffn_dim_multiplier": 1.3,
        "multiple_of": 1024, "norm_eps": 1e-05, "rope_theta": 500000.0, "weight_tying": False, "max_seqlen": 11520,
        "pooling_ratio": 2, "vision_model": {
            "image_size": 448, "patch_size": 14, "width": 1536, "layers": 47, "heads": 16, "use_cls_token": False,
            "use_abs_posemb": True, "mlp_ratio": 5.833333334, "ls_init_value": 0.1, "drop_path": 0.1,
            "use_ln_post": False, "pool_type": "none",
        },
    },
    "data": {"max_num_tiles": 36, "max_video_frames": 32, "vision_input_type": "thumb+tile"},
}  # fmt: skip


def test_the_published_params_of_plm_are_those_of_the_table(tmp_path: Path) -> None:
    write_json(tmp_path / "params.json", PLM_8B)
    config, named = ORIGINAL.read_record(tmp_path).config, ASSISTANTS["Perception-LM-8B"].config
    assert named is not None
    assert config == replace(named, video_token=None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "mistral"}, "'mistral'"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rotary positions by 'yarn'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"quantization_config": {"bits": 4}}, "quantised weights"),
        ({"num_hidden_layers": 500}, "503 blocks, but"),
    ],
)
def test_models_that_are_not_built_here_are_refused(tmp_path: Path, changes: dict, words: str) -> None:
    folder = speaking.folder(tmp_path)
    write_json(folder / "config.json", speaking.config(text_config={**speaking.CONFIG["text"], **changes}))
    with pytest.raises(PerceptError, match=words):
        percept.assistant(folder)


def test_other_towers_and_damaged_configurations_are_refused(tmp_path: Path) -> None:
    folder = speaking.folder(tmp_path)
    for changes, words in (
        ({"vision_config": {"architecture": "vit_base_patch16_224"}}, "vision tower 'vit_base_patch16_224'"),
        ({"vision_use_cls_token": False}, "class token in one place only"),
        ({"vision_config": {}}, "lacks 'architecture'"),
        ({"text_config": {"model_type": "llama"}}, "lacks 'vocab_size'"),
    ):
        write_json(folder / "config.json", speaking.config(**changes))
        with pytest.raises(PerceptError, match=words):
            percept.assistant(folder)


def test_a_folder_of_models_names_them(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(PerceptError, match="has neither a config"):
        percept.assistant(tmp_path)
    for stage in ("stage1", "stage2"):
        speaking.folder(tmp_path / stage)
    with pytest.raises(PerceptError, match=r"holds no model itself.* one of them: \S+stage1, \S+stage2\."):
        percept.assistant(tmp_path)


def test_encoders_and_assistants_name_each_other(tmp_path: Path) -> None:
    encoder, model = tiny.folder(tmp_path / "encoder"), talking.vlm()
    for name in ("nano", "PE-Core-L14-336", "hf://facebook/PE-Core-L14-336", encoder):
        with pytest.raises(PerceptError, match=r"is an encoder.*percept\.load\("):
            percept.assistant(name)
    folders = [written(tmp_path / layout, layout, model) for layout in LAYOUTS]
    for name in ("Perception-LM-1B", "hf://facebook/Perception-LM-3B", *folders):
        with pytest.raises(PerceptError, match=r"gives answers and no vectors.*percept\.assistant\("):
            percept.load(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Perception-LM-2B", "did you mean 'Perception-LM"),
        ("Perception-LM-1B@bfloat61", "unknown type or device"),
        ("./nothing", "unknown perception language model"),
        ("", "names no model"),
    ],
)
def test_names_that_are_refused(name: str, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        percept.assistant(name)


def test_files_and_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").touch()
    with pytest.raises(PerceptError, match="is not a folder"):
        percept.assistant(tmp_path / "x.pt")
    with pytest.raises(PerceptError, match=r"neither a config\.json nor a params\.json"):
        percept.assistant(tmp_path)
    (tmp_path / "params.json").write_text("{")
    (tmp_path / "consolidated.00.pth").touch()
    with pytest.raises(PerceptError, match="is not a json file"):
        percept.assistant(tmp_path)


@pytest.fixture
def repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub whose repositories are folders; every file that is fetched is also listed in fetched.txt."""
    root, cache = tmp_path / "hub", set[Path]()

    def fetch(repository: str, file: str, revision: str | None) -> Path:
        cache.add(root / repository / file)
        with (tmp_path / "fetched.txt").open("a") as lines:
            lines.write(f"{file}\n")
        return root / repository / file

    def cached(repository: str, file: str, revision: str | None = None) -> Path | None:
        return root / repository / file if root / repository / file in cache else None

    def files(repository: str, revision: str | None) -> list[str]:
        place = root / repository
        return [str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()]

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "hub_reachable", lambda: True)
    monkeypatch.setattr(hub, "repository_files", files)
    monkeypatch.setattr(hub, "fetch_file", fetch)
    monkeypatch.setattr(hub, "cached_file", cached)
    return root


def test_the_licence_is_shown_before_the_first_download_only(
    repositories: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = repositories / "facebook/Perception-LM-1B"
    speaking.folder(place)
    (place / "LICENSE").write_text("FAIR Noncommercial Research License, version 1")
    (place / "original").mkdir()
    (place / "original/params.json").write_text("{}")
    model = percept.assistant("Perception-LM-1B", device="cpu", dtype="float32")
    assert model.name == "Perception-LM-1B"
    shown = capsys.readouterr().err
    for words in ("research only, no commercial use", "License, version 1", "fetching model.safetensors"):
        assert words in " ".join(shown.split())
    assert shown.index("version 1") < shown.index("fetching")
    fetched = (repositories.parent / "fetched.txt").read_text().split()
    assert fetched[0] == "LICENSE"
    assert set(fetched) == {"LICENSE", "model.safetensors", "config.json"}
    percept.assistant("Perception-LM-1B", device="cpu", dtype="float32")
    assert capsys.readouterr().err == ""
    assert (repositories.parent / "fetched.txt").read_text().split() == fetched


@pytest.mark.parametrize("layout", ["transformers", "original", "percept"])
def test_repositories_of_others(repositories: Path, layout: str) -> None:
    model = talking.vlm()
    written(repositories / "somebody/model" / ("original" if layout == "original" else ""), layout, model,
            preprocess=Preprocess(size=16))  # fmt: skip
    opened = percept.assistant("hf://somebody/model", device="cpu", dtype="float32")
    assert same_tensors(opened.model.state_dict(), model.state_dict())


def test_without_a_network_it_says_how_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hub, "cached_file", lambda *_: None)
    with pytest.raises(PerceptError, match="hf download facebook/Perception-LM-1B --local-dir FOLDER"):
        percept.assistant("Perception-LM-1B")


def test_what_transformers_reads_is_recorded(tmp_path: Path) -> None:
    folder = written(tmp_path, "transformers", talking.vlm(), preprocess=Preprocess(size=16, mean=(0.1, 0.2, 0.3)))
    facts = json.loads((folder / "config.json").read_text())
    assert facts["architectures"] == ["PerceptionLMForConditionalGeneration"]
    assert facts["vision_config"]["model_args"]["ref_feat_shape"] == [4, 4]
    assert facts["text_config"]["rope_parameters"]["rope_type"] == "llama3"
    assert percept.assistant(folder).preprocess == Preprocess(size=16, mean=(0.1, 0.2, 0.3))


def test_pick_files_prefers_the_layout_at_the_root() -> None:
    names = {"config.json", "model.safetensors", "original/params.json", "original/consolidated.00.pth", "README.md"}
    assert pick_files(names, "x") == ["model.safetensors", "config.json"]
    inner = {name for name in names if "/" in name}
    assert pick_files(inner, "x") == ["original/consolidated.00.pth", "original/params.json"]


def test_a_layout_that_cannot_hold_the_model_says_so(tmp_path: Path) -> None:
    model = talking.decoder(qkv_bias=True)
    cases: list[tuple[Callable[[], object], str]] = [
        (
            lambda: write_assistant(tmp_path / "a", model.state_dict(), model.config, name="q", layout="original"),
            "no keys for biases",
        ),
        (
            lambda: write_assistant(tmp_path / "b", model.state_dict(), model.config, name="q", layout="orignal"),
            "did you mean 'original'",
        ),
        (lambda: write_assistant(tmp_path / "c", model.state_dict(), model.config, name="a/b"), "not a plain name"),
    ]
    for call, words in cases:
        with pytest.raises(PerceptError, match=words):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["projector_norm", "projector_positions", "projector_frames"])
def test_norm_and_positions_of_the_projector_are_kept_by_our_layout_alone(tmp_path: Path, part: str) -> None:
    model = talking.vlm(**{part: True})
    read = read_assistant(locate_assistant(written(tmp_path / "ours", "percept", model)))
    assert same_tensors(read.state, model.state_dict())
    for layout in ("transformers", "original"):
        with pytest.raises(PerceptError, match="percept layout"):
            written(tmp_path / layout, layout, model)


def test_sizes_beyond_a_tensor_are_refused() -> None:
    with pytest.raises(PerceptError, match="cannot be built"):
        build_empty(replace(talking.DECODER, vocabulary=2**62), "x")


def test_metrics_and_provenance_travel_with_our_folder(tmp_path: Path) -> None:
    folder = written(tmp_path, "percept", talking.vlm(), provenance={"seed": 3}, metrics={"colour": 0.9})
    record = read_assistant(locate_assistant(folder)).record
    assert (record.name, record.provenance, record.metrics) == ("toy", {"seed": 3}, {"colour": 0.9})
    assert load_tensors(folder / "model.safetensors").keys() == talking.vlm().state_dict().keys()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_changes_a_copy_and_never_the_file(tmp_path: Path, layout: str) -> None:
    folder = written(tmp_path, layout, talking.vlm(), dtype=torch.bfloat16)
    before = (folder / opening.LAYOUTS[layout].weights).read_bytes()
    model = trainable(open_vlm(folder)).train()
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    model(talking.prompt(1), tiles=torch.randn(1, 3, 16, 16)).square().mean().backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert not same_tensors(model.bfloat16().state_dict(), open_vlm(folder).state_dict())
    assert (folder / opening.LAYOUTS[layout].weights).read_bytes() == before


def test_weights_may_be_given_for_a_name(tmp_path: Path) -> None:
    folder = written(tmp_path / "x", "original", talking.vlm())
    opened = percept.assistant("Perception-LM-1B", weights=folder, device="cpu")
    assert (opened.name, opened.setting.dtype) == ("Perception-LM-1B", torch.float32)
    with pytest.raises(PerceptError, match="is not a folder"):
        percept.assistant("Perception-LM-1B", weights=folder / "consolidated.00.pth")
