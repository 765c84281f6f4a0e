"""Every layout and back: all bits are kept, unfit tensors are refused, and the error names them."""

import json
import pickle
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.io import same_tensors, save_tensors
from percept.data.transforms import Preprocess
from percept.models.clip import CLIP
from percept.models.config import TOWERS, ClipConfig, Kind, TextConfig, VisionConfig
from percept.models.zoo import CONFIGS
from percept.nn.posembed import resize_positions
from percept.weights.cast import CHUNK, cast, is_mapped, stored_type
from percept.weights.files import read_tensors, write_tensors
from percept.weights.fit import check_fit, load_strict
from percept.weights.folder import save_folder
from percept.weights.layouts import find_layout, pick_files, readable, recognise
from percept.weights.layouts import timm as timm_layout
from percept.weights.layouts.timm import ANY, timm_config
from percept.weights.locate import locate
from percept.weights.open import Weights, open_model, read_weights
from percept.weights.resize import sized_config, sized_state
from percept.weights.write import write_weights
from tests.golden.filling import manifest
from tests.models.second import ConvConfig, facts
from tests.models.small import clip

FORMS = [
    ("official", ".pt"),
    ("official", ".safetensors"),
    ("timm", ".safetensors"),
    ("timm", ".pt"),
    ("open_clip", ""),
]


def tiny(name: str) -> ClipConfig:
    """A released model with everything that tells its keys, and no more than a few thousand parameters."""
    config = CONFIGS[name]
    vision = replace(
        config.vision, image_size=24, patch_size=8, width=32, layers=2, heads=2,
        hidden=None if config.vision.hidden is None else 40,
        output_dim=None if config.vision.output_dim is None else 12,
    )  # fmt: skip
    text = None if config.text is None else replace(config.text, context=7, vocabulary=30, width=16, layers=2, heads=2)
    return ClipConfig(vision=vision, text=None if text is None else replace(text, output_dim=12))


def filled(config: ClipConfig) -> CLIP:
    torch.manual_seed(1)
    model = CLIP(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return model


def write(target: Path, model: CLIP, layout: str) -> Path:
    size = model.config.vision.image_size
    return write_weights(
        target, model.state_dict(), layout=layout, name="tiny", config=model.config, preprocess=Preprocess(size=size)
    )


def read(path: Path, config: ClipConfig) -> Weights:
    """Read a weight file, or the one in a folder."""
    file = locate(path).path
    assert file is not None
    return read_weights(file, config=config)


def at_size(model: CLIP, size: int) -> tuple[ClipConfig, dict[str, Tensor]]:
    config = sized_config(model.config, size)
    return config, sized_state(config, model.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("layout", "suffix"), FORMS)
@pytest.mark.parametrize("name", CONFIGS)
def test_round_trips_are_equal_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, layout: str, suffix: str, dtype: torch.dtype
) -> None:
    model = filled(tiny(name)).to(dtype)
    monkeypatch.setitem(CONFIGS, "small", model.config)
    monkeypatch.setitem(timm_layout.NAMES, "vit_small_one", "small")
    config = replace(model.config, text=None) if layout == "timm" else model.config
    if layout == "open_clip" and config.text is None:
        with pytest.raises(PerceptError, match="--to timm"):
            write(tmp_path / "out", model, layout)
        assert not (tmp_path / "out").exists()
        return
    write(tmp_path / f"out{suffix}", model, layout)
    found = read(tmp_path / f"out{suffix}", config)
    kept = {key: value for key, value in model.state_dict().items() if layout != "timm" or key.startswith("vision.")}
    assert same_tensors(found.state, kept)
    assert (found.layout, found.config) == (layout, config)
    load_strict(CLIP(found.config), found.state, source="out")


ONE_OF_EACH_KIND = ("PE-Core-S16-384", "PE-Lang-L14-448-Tiling", "PE-Spatial-S16-512")


@pytest.mark.parametrize(("name", "layout"), [(name, layout) for name in ONE_OF_EACH_KIND for layout in readable()])
def test_a_released_model_is_known_by_its_shapes(
    name: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIGS[name]
    if layout == "open_clip" and config.text is None:
        pytest.skip("open_clip holds pairs only")
    with torch.device("meta"):
        state = CLIP(config).state_dict()
    state = {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in state.items()}  # no memory
    theirs = find_layout(layout).to_theirs(state)
    assert recognise(theirs, source=name).name == layout
    (tmp_path / f"{name}.pt").touch()
    monkeypatch.setattr("percept.weights.open.read_tensors", lambda _: theirs)
    found = read_weights(tmp_path / f"{name}.pt")
    assert found.config == (replace(config, text=None) if layout == "timm" else config)
    assert found.name == name


def test_no_two_released_models_have_the_same_shapes_but_the_tiling_twins() -> None:
    sizes: dict[str, list[str]] = {}
    for name in CONFIGS:
        sizes.setdefault(json.dumps(manifest(name)), []).append(name)
    twins = [names for names in sizes.values() if len(names) > 1]
    assert twins == [["PE-Lang-L14-448", "PE-Lang-L14-448-Tiling"], ["PE-Lang-G14-448", "PE-Lang-G14-448-Tiling"]]


def test_files_of_ours_say_what_model_they_hold(tmp_path: Path) -> None:
    model = filled(tiny("PE-Core-G14-448"))
    for layout, suffix in product(("official", "timm"), (".safetensors", ".pt")):
        write(tmp_path / f"{layout}{suffix}", model, layout)
        found = read_weights(tmp_path / f"{layout}{suffix}")
        assert found.name == "tiny"
        assert found.config.vision == model.config.vision
        assert (found.config.text is None) == (layout == "timm")
    (tmp_path / "official.pt.json").unlink()  # a published file is nothing but its tensors
    with pytest.raises(PerceptError, match=r"no released model has its shapes.*with NAME\.pt\.json next to it"):
        read_weights(tmp_path / "official.pt")


def test_a_head_with_a_bias_keeps_it_and_the_published_layout_refuses_it(tmp_path: Path) -> None:
    config = tiny("PE-Core-T16-384")
    config = replace(config, vision=replace(config.vision, output_bias=True), text=None)
    model = filled(config).eval()
    write(tmp_path / "timm.safetensors", model, "timm")
    found = read_weights(tmp_path / "timm.safetensors", config=tiny("PE-Core-T16-384"))
    assert found.config == config
    assert same_tensors(found.state, model.state_dict())
    again = CLIP(found.config).eval()
    load_strict(again, found.state, source="timm")
    image = torch.randn(2, 3, 24, 24)
    assert torch.equal(again.encode_image(image), model.encode_image(image))
    plain = CLIP(replace(config, vision=replace(config.vision, output_bias=False))).eval()
    load_strict(plain, {k: v for k, v in found.state.items() if k != "vision.projection_bias"}, source="timm")
    bias = found.state["vision.projection_bias"]
    torch.testing.assert_close(plain.encode_image(image) + bias, model.encode_image(image))
    with pytest.raises(PerceptError, match="no key for the bias"):
        write(tmp_path / "official.pt", model, "official")


def test_a_vision_tower_is_taken_out_of_a_pair_of_any_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = clip()
    monkeypatch.setitem(CONFIGS, "small", model.config)
    monkeypatch.setitem(timm_layout.NAMES, "vit_small_one", "small")
    alone = ClipConfig(vision=model.config.vision)
    for layout, suffix in FORMS:
        write(tmp_path / f"{layout}{suffix}", model, layout)
        found = read(tmp_path / f"{layout}{suffix}", alone)
        assert {key.split(".")[0] for key in found.state} == {"vision"}
        load_strict(CLIP(alone), found.state, source=layout)


def test_files_of_a_tower_for_a_model_with_text_give_the_tower_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = clip()
    write(tmp_path / "timm.safetensors", model, "timm")
    theirs = find_layout("official").to_theirs(model.state_dict())
    tower = {key: value for key, value in theirs.items() if key.startswith("visual.")}
    torch.save(tower, tmp_path / "prefixed.pt")
    torch.save({key.removeprefix("visual."): value for key, value in tower.items()}, tmp_path / "bare.pt")
    for file in ("timm.safetensors", "prefixed.pt", "bare.pt"):
        found = read_weights(tmp_path / file, config=model.config)
        assert found.config.text is None
        assert same_tensors(CLIP(found.config).state_dict() | found.state, found.state)
        assert "vision tower only" in capsys.readouterr().err


# ---- positions


def test_positions_are_resized_only_when_asked(tmp_path: Path) -> None:
    model = filled(tiny("PE-Core-T16-384"))
    write(tmp_path / "model.safetensors", model, "official")
    larger = replace(model.config, vision=replace(model.config.vision, image_size=40))
    stored = read_weights(tmp_path / "model.safetensors", config=larger)
    with pytest.raises(PerceptError, match=r"(?s)vision\.positions \[10, 32\] instead of \[26, 32\].*image_size="):
        load_strict(CLIP(stored.config), stored.state, source="model")
    asked = read_weights(tmp_path / "model.safetensors", config=larger, image_size=40)
    assert asked.config == larger
    assert asked.preprocess.size == 40
    old = model.state_dict()["vision.positions"]
    expected = resize_positions(old, (3, 3), (5, 5), prefix=1)
    assert torch.equal(asked.state.pop("vision.positions"), expected)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in asked.state.items())
    same = read_weights(tmp_path / "model.safetensors", config=larger, image_size=24)
    assert torch.equal(same.state["vision.positions"], old)


def test_a_released_model_of_another_size_is_known_when_its_size_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = filled(tiny("PE-Core-T16-384"))
    monkeypatch.setitem(CONFIGS, "small", model.config)
    _, state = at_size(model, 40)
    torch.save(find_layout("official").to_theirs(state), tmp_path / "a.pt")
    with pytest.raises(PerceptError, match=r"is small for images of a different size; give image_size=40"):
        read_weights(tmp_path / "a.pt")
    found = read_weights(tmp_path / "a.pt", image_size=40)
    assert (found.name, found.config.vision.image_size, found.preprocess.size) == ("small", 40, 40)
    assert same_tensors(found.state, state)
    assert len(read_weights(tmp_path / "a.pt", image_size=32).state["vision.positions"]) == 17


def test_resized_once_is_interpolated_at_every_pass() -> None:
    model = filled(tiny("PE-Core-T16-384")).eval()
    config, state = at_size(model, 40)
    resized = CLIP(config).eval()
    load_strict(resized, state, source="resized")
    image = torch.randn(1, 3, 40, 40)
    torch.testing.assert_close(resized.encode_image(image), model.encode_image(image))


@pytest.mark.parametrize("size", [20, 25, 39, 100])
def test_a_size_that_patches_do_not_divide_is_refused(size: int, tmp_path: Path) -> None:
    model = filled(tiny("PE-Core-T16-384"))
    save_folder(tmp_path, model, name="tiny", preprocess=Preprocess(size=24), tokenizer=None)
    write(tmp_path / "model.pt", model, "official")
    words = f"image_size={size} does not divide into patches of 8 pixels; give {size // 8 * 8} or {size // 8 * 8 + 8}"
    with pytest.raises(PerceptError, match=words):
        open_model(tmp_path, image_size=size)
    with pytest.raises(PerceptError, match=words):
        read_weights(tmp_path / "model.pt", image_size=size)


def test_a_folder_of_ours_is_resized_when_asked(tmp_path: Path) -> None:
    model = filled(tiny("PE-Core-T16-384"))
    save_folder(tmp_path, model, name="tiny", preprocess=Preprocess(size=24, mean=(0.1, 0.2, 0.3)), tokenizer=None)
    opened = open_model(tmp_path, image_size=40)
    assert opened.model.vision.positions is not None
    assert opened.model.vision.positions.shape == (26, 32)
    assert opened.preprocess == Preprocess(size=40, mean=(0.1, 0.2, 0.3))
    assert opened.image_identity != open_model(tmp_path).image_identity


# ---- what cannot be written


def test_towers_that_a_layout_cannot_hold(tmp_path: Path) -> None:
    for change in ({"rope": False}, {"norm_pre": False}, {"absolute_positions": False}, {"pool": "average"}):
        with pytest.raises(PerceptError, match="--to percept or --to official"):
            write(tmp_path / "out", clip(**change), "timm")
    with pytest.raises(PerceptError, match="ends in a projection"):
        write(tmp_path / "out", CLIP(ClipConfig(vision=replace(clip().config.vision, output_dim=None))), "timm")
    with pytest.raises(PerceptError, match="none for one of these sizes"):
        write(tmp_path / "out", clip(), "open_clip")
    with pytest.raises(PerceptError, match="give a folder"):
        write(tmp_path / "out.safetensors", clip(), "open_clip")
    with pytest.raises(PerceptError, match=r"ends in \.ckpt"):
        write_tensors(tmp_path / "out.ckpt", {"a": torch.zeros(1)})
    with pytest.raises(PerceptError, match="did you mean 'timm'"):
        write(tmp_path / "out.pt", clip(), "tim")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", ["official", "timm", "open_clip"])
def test_a_tower_of_another_kind_is_written_in_our_own_layout_only(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOWERS, "conv", Kind(**facts()))
    tower = ConvConfig(image_size=16, patch_size=4, width=16, layers=2, output_dim=12)
    with pytest.raises(PerceptError, match="vision towers of Perception Encoders only; write it --to percept"):
        write(tmp_path / "out", CLIP(ClipConfig(vision=tower)), layout)
    assert not list(tmp_path.iterdir())


def test_arguments_for_timm_describe_the_tower() -> None:
    vision = VisionConfig(
        image_size=40, patch_size=8, width=32, layers=3, heads=2, hidden=48, class_token=False, layer_scale=0.1,
        pool_heads=4, output_dim=6,
    )  # fmt: skip
    config = timm_config(vision, Preprocess(size=40))
    assert config["architecture"] == ANY
    assert config["model_args"] == {
        "img_size": 40, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "mlp_ratio": 1.5,
        "class_token": False, "global_pool": "map", "attn_pool_num_heads": 4, "init_values": 0.1,
        "use_post_transformer_norm": True, "use_fc_norm": False, "ref_feat_shape": [5, 5], "rope_grid_offset": 0.0,
    }  # fmt: skip
    released = timm_config(CONFIGS["PE-Lang-L14-448-Tiling"].vision, Preprocess(size=448))
    assert released["architecture"] == "vit_pe_lang_large_patch14_448"
    assert "model_args" not in released


def test_written_files_own_their_tensors(tmp_path: Path) -> None:
    whole = torch.randn(1000, 8)
    write_tensors(tmp_path / "part.pt", {"part": whole[:2]})
    assert (tmp_path / "part.pt").stat().st_size < 4000
    write_tensors(tmp_path / "parts.safetensors", {"one": whole[:2], "two": whole[1:3], "turned": whole.T})
    read = read_tensors(tmp_path / "parts.safetensors")
    assert torch.equal(read["two"], whole[1:3])
    assert torch.equal(read["turned"], whole.T)


# ---- bad input


def test_a_file_in_no_known_layout_lists_what_it_could_be(tmp_path: Path) -> None:
    save_tensors(tmp_path / "model.safetensors", {"encoder.layers.0.mlp.fc1.weight": torch.zeros(2)})
    with pytest.raises(PerceptError) as caught:
        read_weights(tmp_path / "model.safetensors")
    text = str(caught.value)
    assert "encoder.layers.0.mlp.fc1.weight" in text
    assert all(name in text for name in readable())
    save_tensors(tmp_path / "model.safetensors", {"vision_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(2)})
    with pytest.raises(PerceptError, match="in transformers' layout, which is not read"):
        read_weights(tmp_path / "model.safetensors")


def test_the_checkpoint_of_an_unfinished_run_is_named(tmp_path: Path) -> None:
    state = {
        "master.clip.vision.patch.weight": torch.zeros(2),
        "state.clip.vision.patch.weight exp_avg": torch.zeros(2),
    }
    save_tensors(tmp_path / "checkpoint.safetensors", state)
    with pytest.raises(
        PerceptError, match="checkpoint of an unfinished training run; repeat its percept train command"
    ):
        read_weights(tmp_path / "checkpoint.safetensors")


def strictly(file: Path, config: ClipConfig | None) -> None:
    found = read_weights(file, config=config)
    check_fit(CLIP(found.config), found.state, source=str(file), spelled=found.spelled)


@pytest.mark.parametrize("layout", readable())
def test_differences_are_told_in_the_names_of_the_file(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = filled(tiny("PE-Core-T16-384"))
    monkeypatch.setitem(CONFIGS, "small", model.config)
    theirs = find_layout(layout).to_theirs(model.state_dict())
    without = {key: value for key, value in model.state_dict().items() if key != "vision.projection"}
    head = max(theirs.keys() - find_layout(layout).to_theirs(without).keys())  # before it, timm has a bias
    width = theirs.pop(head).shape
    pooled = [key for key in theirs if "attn_pool.q.weight" in key]
    torch.save(
        {key: value for key, value in theirs.items() if key not in pooled} | {"foo": torch.zeros(2)}, tmp_path / "a.pt"
    )
    for config in (None, model.config):
        with pytest.raises(PerceptError) as caught:
            strictly(tmp_path / "a.pt", config)
        assert [line for line in str(caught.value).splitlines() if line.startswith("  ")] == [
            f"  missing: {', '.join([*pooled, head])}",
            "  unexpected: foo",
        ]
    assert "Against" not in str(caught.value)
    torch.save(theirs | {head: torch.zeros(width[0], width[1] + 1)}, tmp_path / "b.pt")
    with pytest.raises(PerceptError) as caught:
        read_weights(tmp_path / "b.pt")
    assert "Against small, the nearest:" in str(caught.value)
    assert f"{head} {[width[0], width[1] + 1]} instead of {list(width)}" in str(caught.value)


def test_halves_of_a_tensor_that_do_not_fit_together(tmp_path: Path) -> None:
    theirs = find_layout("timm").to_theirs(filled(tiny("PE-Core-T16-384")).state_dict())
    key = "attn_pool.q.weight"
    for other, words in (
        (theirs[key].half(), "float16 .* float32"),
        (torch.zeros(32, 5), r"\[32, 5\]"),
        (torch.tensor(1.0), ""),
    ):
        torch.save(theirs | {key: other}, tmp_path / "a.pt")
        with pytest.raises(PerceptError, match=f"{words}.*store both in one number type and width"):
            read_weights(tmp_path / "a.pt")


def test_a_head_bias_keeps_its_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = filled(tiny("PE-Core-T16-384"))
    monkeypatch.setitem(CONFIGS, "small", model.config)
    theirs = find_layout("timm").to_theirs(model.state_dict())
    zeros = theirs["head.bias"]
    for bias in (zeros, -zeros, zeros.half(), zeros + 1):
        torch.save(theirs | {"head.bias": bias}, tmp_path / "a.pt")
        again = find_layout("timm").to_theirs(read_weights(tmp_path / "a.pt").state)
        assert same_tensors(again, theirs | {"head.bias": bias})


@pytest.mark.parametrize("name", ["model.pt", "model.ckpt", "model", "model.safetensors"])
def test_what_a_file_is_stands_in_it_and_not_in_its_name(name: str, tmp_path: Path) -> None:
    model = filled(tiny("PE-Core-T16-384"))
    for suffix in (".safetensors", ".pt"):
        write(tmp_path / f"whole{suffix}", model, "official").rename(tmp_path / name)
        assert same_tensors(read_weights(tmp_path / name, config=model.config).state, model.state_dict())
    write(tmp_path / "whole.safetensors", model, "official").rename(tmp_path / name)
    assert read_weights(tmp_path / name).name == "tiny"  # which its header says


def test_a_file_of_another_model_lists_the_differences(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", filled(tiny("PE-Core-G14-448")), "timm")
    with torch.device("meta"):
        wanted = CLIP(ClipConfig(vision=tiny("PE-Core-T16-384").vision))
    found = read_weights(tmp_path / "model.safetensors", config=wanted.config)
    with pytest.raises(
        PerceptError, match=r"(?s)missing: vision\.class_token.*of a different shape: vision\.positions"
    ):
        load_strict(wanted, found.state, source="model.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_truncated_files(tmp_path: Path, share: float, suffix: str) -> None:
    file = write(tmp_path / f"model{suffix}", filled(tiny("PE-Core-T16-384")), "timm")
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(PerceptError, match="not a complete"):
        read_weights(file)


class Payload:
    """Touches a file when it is unpickled by a careless reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin", "model.pth"])
def test_a_pickle_that_would_run_code_is_refused_whatever_its_name(tmp_path: Path, name: str) -> None:
    witness = tmp_path / "witness"
    for data in (pickle.dumps({"blocks.0": Payload(witness)}), None):
        if data is None:
            torch.save({"state_dict": {"blocks.0": Payload(witness)}}, tmp_path / name)
        else:
            (tmp_path / name).write_bytes(data)
        for place in (tmp_path / name, tmp_path):
            with pytest.raises(PerceptError, match="nothing in it was run"):
                open_model(place)
        assert not witness.exists()


def test_files_with_more_than_weights(tmp_path: Path) -> None:
    torch.save({"blocks.0": torch.zeros(2), "epoch": 3}, tmp_path / "more.pt")
    with pytest.raises(PerceptError, match=r"epoch \(int\)"):
        read_weights(tmp_path / "more.pt")
    save_tensors(tmp_path / "int8.safetensors", {"blocks.0.attn.qkv.weight": torch.zeros(2, dtype=torch.int8)})
    with pytest.raises(PerceptError, match=r"quantised weights: blocks\.0\.attn\.qkv\.weight \(int8\)"):
        read_weights(tmp_path / "int8.safetensors")
    save_tensors(tmp_path / "float8.safetensors", {"blocks.0.x": torch.zeros(2).to(torch.float8_e4m3fn)})
    with pytest.raises(PerceptError, match=r"quantised weights: blocks\.0\.x \(float8_e4m3fn\)"):
        read_weights(tmp_path / "float8.safetensors")
    for odd in (torch.eye(2).to_sparse(), torch.empty(2, device="meta")):
        torch.save({"blocks.0.x": odd}, tmp_path / "odd.pt")
        with pytest.raises(PerceptError, match=r"sparse, nested or without values: blocks\.0\.x"):
            read_weights(tmp_path / "odd.pt")
    torch.save({}, tmp_path / "empty.pt")
    with pytest.raises(PerceptError, match="no weights at all"):
        read_weights(tmp_path / "empty.pt")


def test_mixed_number_types_are_read_as_the_widest(capsys: pytest.CaptureFixture[str]) -> None:
    one, half, brain = (torch.ones(2, dtype=dtype) for dtype in (torch.float32, torch.float16, torch.bfloat16))
    assert stored_type({"a": half, "b": half, "scale": torch.tensor(1.0)}, source="x") == torch.float16
    assert capsys.readouterr().err == ""
    assert stored_type({"a": half, "b": brain}, source="x.pt") == torch.float32
    assert "x.pt mixes number types (1 in float16, 1 in bfloat16); all are read as float32" in " ".join(
        capsys.readouterr().err.split()
    )
    assert stored_type({"a": brain, "b": one, "c": brain}, source="x") == torch.float32


# ---- folders


def test_which_files_of_a_folder_make_the_model() -> None:
    assert pick_files(["README.md", "PE-X.pt", "config.json"], "PE-X") == ["PE-X.pt"]
    timm_files = ["config.json", "model.safetensors", "pytorch_model.bin"]
    assert pick_files(timm_files, "PE-X") == ["model.safetensors", "config.json"]
    pair = ["open_clip_config.json", "open_clip_pytorch_model.bin", "open_clip_model.safetensors", "tokenizer.json"]
    assert pick_files([*pair, *timm_files], "X") == [
        "open_clip_model.safetensors",
        "open_clip_config.json",
        "tokenizer.json",
    ]
    own = ["config.json", "preprocess.json", "model.safetensors", "metrics.json", "tokenizer.json"]
    assert set(pick_files(own, "X")) == set(own)
    assert pick_files(["own.pt.json", "own.pt", "own.json"], "X") == ["own.pt", "own.pt.json"]
    assert pick_files(["weights.pth"], "X") == ["weights.pth"]
    with pytest.raises(PerceptError, match=r"several weight files: a\.pt, b\.pt"):
        pick_files(["a.pt", "b.pt"], "X")
    with pytest.raises(PerceptError, match=r"^X holds no weights"):
        pick_files(["a.txt", "folder/model.safetensors"], "X")
    with pytest.raises(PerceptError, match=r"^some/where holds no weights"):
        pick_files([], "X", place="some/where")


def test_the_facts_in_a_file_are_plain_data(tmp_path: Path) -> None:
    model = filled(tiny("PE-Core-T16-384"))
    theirs = find_layout("official").to_theirs(model.state_dict())
    for text in ("{", "[1]", '{"model": 3}'):
        save_tensors(tmp_path / "model.safetensors", theirs, {"percept": text})
        with pytest.raises(PerceptError, match="no released model"):
            read_weights(tmp_path / "model.safetensors")
    good = json.dumps({"name": "x", "model": {**to_dict(model.config), "widht": 3}})
    save_tensors(tmp_path / "model.safetensors", theirs, {"percept": good})
    with pytest.raises(PerceptError, match="widht"):
        read_weights(tmp_path / "model.safetensors")


# ---- memory


def test_casting_equals_casting_each_tensor_and_empties_the_source(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {"large": torch.randn(CHUNK + 5), "turned": torch.randn(3, 4).T, "scale": torch.tensor(2.5)}
    save_tensors(tmp_path / "a.safetensors", state)
    mapped = read_tensors(tmp_path / "a.safetensors")
    result = cast(mapped, torch.bfloat16)
    assert not mapped
    assert torch.equal(result["large"], state["large"].bfloat16())
    assert torch.equal(result["turned"], state["turned"].bfloat16())
    assert result["scale"].dtype == torch.float32
    again = {"large": torch.randn(7)}
    assert cast(dict(again), None)["large"] is again["large"]


def test_what_was_given_back_is_read_from_the_file_again(tmp_path: Path) -> None:
    state = {"one": torch.randn(50_000), "two": torch.randn(50_000)}
    save_tensors(tmp_path / "a.safetensors", state)
    torch.save(state, tmp_path / "a.pt")
    for file in ("a.safetensors", "a.pt"):
        mapped = read_tensors(tmp_path / file)
        kept = dict(mapped)
        cast(mapped, torch.float16)
        assert same_tensors(kept, state)


def test_only_files_count_as_mapped(tmp_path: Path) -> None:
    state = {"one": torch.randn(50_000)}
    assert not is_mapped(state["one"])
    save_tensors(tmp_path / "a.safetensors", state)
    torch.save(state, tmp_path / "a.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    found = {file: is_mapped(read_tensors(tmp_path / file)["one"]) for file in ("a.safetensors", "a.pt", "old.pt")}
    assert found == {"a.safetensors": True, "a.pt": True, "old.pt": False}


def test_text_sizes_are_those_of_the_configuration() -> None:
    assert (
        TextConfig(context=7, vocabulary=30, width=16, layers=2, heads=2, output_dim=12) == tiny("PE-Core-G14-448").text
    )


@pytest.mark.parametrize("layout", ["timm", "open_clip"])
def test_a_way_to_resize_without_a_name_elsewhere_is_not_written(layout: str, tmp_path: Path) -> None:
    model = filled(tiny("PE-Core-T16-384"))
    preprocess = Preprocess(size=24).resizing("native", patch=8)
    with pytest.raises(PerceptError, match="no name for resize='native'; write it --to percept"):
        write_weights(
            tmp_path / layout,
            model.state_dict(),
            layout=layout,
            name="tiny",
            config=model.config,
            preprocess=preprocess,
        )
    assert not any(tmp_path.rglob("*.safetensors"))
