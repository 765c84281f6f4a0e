import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

import percept
from percept import PerceptError
from percept.data.tokenizers import Tokenizer
from percept.export.difference import Gather
from percept.export.probes import Probes, generated, given
from percept.export.receipt import compare
from percept.infer.encoder import Encoder
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from tests.infer import tiny

LAYERS = ["block 0", "block 1", "block 2", "final tokens", "vector"]


@cache
def probes() -> Probes:
    return generated(5, seed=3)


def other(**changes) -> Encoder:
    """The tiny encoder with something else in it."""
    one = tiny.encoder()
    for name, value in changes.items():
        setattr(one, name, value)
    return one


def test_a_model_agrees_with_itself_at_every_stage():
    found = compare(tiny.encoder(), tiny.encoder(), probes(), sizes=[(40, 16)])
    assert found.agrees
    assert found.verdict == "they agree"
    assert found.first_departure is None
    assert found.top1 == {"same": 5, "of": 5}
    assert [one.stage for one in found.differences] == [
        "preprocessed pixels", *(f"image {name}" for name in LAYERS), *(f"image {name} at 40x16" for name in LAYERS),
        "image embedding", *(f"text {name}" for name in LAYERS if name != "block 2"), "text embedding",
    ]  # fmt: skip
    assert all(one.max == one.mean == one.relative == 0 and one.cosine == pytest.approx(1) for one in found.differences)
    counted = found.difference("image block 0")
    assert counted is not None
    assert counted.vectors == 5 * (1 + 3 * 3)
    assert {"percept", "torch"} <= found.versions.keys()


def test_number_types_agree_within_their_tolerance_and_depart_beyond_it():
    wide, narrow = tiny.encoder(), tiny.encoder(dtype=torch.bfloat16)
    found = compare(wide, narrow, probes())
    assert (found.tolerance, found.agrees) == (0.1, True)
    strict = compare(wide, narrow, probes(), tolerance=1e-4)
    assert not strict.agrees
    assert strict.first_departure == "image block 0"
    assert found.b["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("place", "stage"),
    [
        ("vision.blocks.1.mlp.down.bias", "image block 1"),
        ("vision.norm_post.bias", "image final tokens"),
        ("vision.projection", "image vector"),
        ("text.positions", "text block 0"),
        ("text.blocks.1.attention.out.weight", "text block 1"),
    ],
)
def test_the_first_layer_that_departs_is_named(place, stage):
    changed = tiny.encoder()
    with torch.no_grad():
        changed.model.get_parameter(place).add_(0.05)
    found = compare(tiny.encoder(), changed, probes())
    assert found.first_departure == stage
    assert len(found.findings) == 1
    assert found.findings[0].startswith(f"{stage} is the first to depart")
    before = found.differences[: [one.stage for one in found.differences].index(stage)]
    assert all(one.max == 0 for one in before if not one.stage.endswith("embedding"))


def test_one_wrong_token_among_many_departs():
    gather, left = Gather("here"), torch.randn(10, 100, 8)
    right = left.clone()
    right[7, 31] *= 1.5
    gather.add(left, left)
    gather.add(left, right)
    found = gather.result()
    assert found.relative == pytest.approx(0.5)
    assert found.max == pytest.approx(float((left - right).abs().max()))
    assert found.mean == pytest.approx(float((left - right).abs().mean()) / 2, rel=1e-4)
    assert found.vectors == 2000
    assert not found.within(0.4)


def test_bias_tells_a_shift_from_noise():
    shift, noise, left = Gather("shift"), Gather("noise"), torch.randn(50, 64)
    shift.add(left, left + 0.1)
    noise.add(left, left + 0.1 * torch.randn(50, 64))
    assert shift.result().bias == pytest.approx(shift.result().mean)
    assert abs(noise.result().bias) < 0.1 * noise.result().mean


def test_what_is_no_number_never_agrees():
    broken = tiny.encoder()
    with torch.no_grad():
        broken.model.get_parameter("vision.blocks.2.mlp.down.bias").fill_(float("nan"))
    found = compare(tiny.encoder(), broken, probes(), tolerance=1e9)
    assert found.first_departure == "image block 2"
    assert any("NaN" in finding for finding in found.findings)


def test_preprocessing_is_a_finding_of_its_own():
    changed = other(preprocess=replace(tiny.encoder().preprocess, resize="crop", mean=(0.5, 0.5, 0.4)))
    found = compare(tiny.encoder(), changed, probes())
    assert "preprocessing differs: resize squash against crop, mean" in found.findings[0]
    assert found.first_departure == "preprocessed pixels"
    block, whole = found.difference("image block 2"), found.difference("image embedding")
    assert block is not None
    assert whole is not None
    assert block.max == 0 < whole.max
    larger = other(preprocess=replace(tiny.encoder().preprocess, size=32))
    found = compare(tiny.encoder(), larger, probes())
    assert "size 24 against 32" in found.findings[0]
    assert found.difference("preprocessed pixels") is None


def test_towers_of_other_sizes_are_a_finding():
    config = tiny.config()
    assert config.text is not None
    wide = CLIP(replace(config, vision=replace(config.vision, width=32, layers=2))).eval()
    found = compare(tiny.encoder(), other(model=wide), probes())
    assert "the vision towers are 16 and 32 wide" in found.findings[0]
    assert found.difference("image block 0") is None
    assert found.difference("text block 0") is not None
    short = CLIP(replace(config, vision=replace(config.vision, layers=2))).eval()
    found = compare(tiny.encoder(), other(model=short), probes())
    assert "3 and 2 blocks" in found.findings[0]
    assert found.difference("image block 1") is not None
    ending = CLIP(replace(config, vision=replace(config.vision, output_dim=6), text=replace(config.text, output_dim=6)))
    found = compare(tiny.encoder(), other(model=ending.eval()), probes())
    assert "image vector has the shape [20] against [6]" in found.findings
    assert "text embeddings have 20 numbers against 6" in found.findings
    assert found.top1 is not None


def test_tokenizers_are_compared_or_done_without():
    another = Tokenizer.train(["some other words"], vocab_size=290, context=tiny.CONTEXT)
    found = compare(tiny.encoder(), other(tokenizer=another), probes())
    assert "different ids" in found.findings[0]
    found = compare(tiny.encoder(), other(tokenizer=None), probes())
    assert found.agrees
    assert "random ids" in found.notes[0]
    assert found.difference("text block 1") is not None


def test_a_scale_of_logits_that_no_vector_shows_is_a_finding():
    one, changed = tiny.encoder(), tiny.encoder()
    changed.scale = one.scale * 1.5
    found = compare(one, changed, probes())
    assert found.first_departure is None
    assert [part for part in found.findings if "logit scale" in part] == found.findings != []
    assert not found.agrees


def test_number_types_do_not_excuse_another_scale():
    one, changed = (tiny.encoder(dtype=torch.bfloat16) for _ in range(2))
    changed.scale = one.scale * 1.095
    found = compare(one, changed, probes(), tolerance=0.5)
    assert found.first_departure is None
    assert [part for part in found.findings if "logit scale" in part] == found.findings != []


def stored_scale(log_scale: float, dtype: torch.dtype = torch.float32) -> Encoder:
    """The tiny encoder with another scale, whose logarithm was stored in a number type."""
    model, like = tiny.model(), tiny.encoder()
    model.log_scale = torch.nn.Parameter(torch.tensor(log_scale, dtype=dtype))
    return Encoder(model, preprocess=like.preprocess, tokenizer=like.tokenizer, name=like.name)


def test_a_scale_may_be_off_by_what_storing_it_rounded():
    narrow, wide = stored_scale(3.5552, torch.bfloat16), stored_scale(3.5552)
    assert abs(narrow.scale / wide.scale - 1) > 5e-3
    assert compare(narrow, wide, probes()).agrees
    assert compare(wide, narrow, probes()).agrees
    assert not compare(narrow, stored_scale(3.58), probes()).agrees
    assert not compare(stored_scale(float(torch.tensor(3.5552).bfloat16())), wide, probes()).agrees


def norm_only(norm: bool) -> Encoder:
    """A tiny vision model that gives tokens, with a final norm or without."""
    dense = tiny.encoder(text=False)
    if not norm:
        return dense
    config = replace(dense.model.config.vision, norm_post=True)
    model = CLIP(ClipConfig(vision=config)).eval()
    model.load_state_dict(dense.model.state_dict(), strict=False)
    torch.nn.init.normal_(model.get_parameter("vision.norm_post.weight"))
    return other_model(dense, model)


def other_model(like: Encoder, model: CLIP) -> Encoder:
    return Encoder(model, preprocess=like.preprocess, name=like.name)


def test_tokens_with_a_final_norm_do_not_agree_with_those_without():
    with_norm, without = norm_only(True), norm_only(False)
    found = compare(with_norm, without, probes(), sizes=[(40, 16)])
    assert found.first_departure is None
    assert found.findings == [
        f"only {with_norm} gives image final tokens, which cannot be compared",
        f"only {without} gives image last tokens, which cannot be compared",
    ]
    assert found.verdict == "they depart"


@pytest.mark.parametrize("swap", [False, True])
def test_vectors_of_one_side_only_are_no_agreement(swap):
    whole, cut = tiny.encoder(), tiny.encoder().cut(-1)
    found = compare(*((cut, whole) if swap else (whole, cut)), probes())
    assert found.first_departure is None
    assert not found.agrees
    for stage in ("final tokens", "vector", "embeddings"):
        assert any(part.startswith(f"only {whole} gives image {stage}") for part in found.findings)
    assert any(part.startswith(f"only {cut} gives image last tokens") for part in found.findings)
    assert found.difference("image block 2") is not None


def test_probes_without_texts_or_pictures_compare_the_rest():
    one = tiny.encoder()
    found = compare(one, one, replace(probes(), texts=[]))
    assert found.agrees
    assert found.notes == ["no texts were given, so texts are not compared"]
    assert found.verdict == f"they agree at {len(found.differences)} stages, not all was compared"
    assert found.difference("image embedding") is not None
    assert not any(part.stage.startswith("text") for part in found.differences)
    found = compare(one, one, replace(probes(), images=[]))
    assert found.notes == ["no images were given, so images are not compared"]
    assert {part.stage.split()[0] for part in found.differences} == {"text"}
    changed = tiny.encoder()
    changed.scale = 2 * one.scale
    assert not compare(one, changed, replace(probes(), texts=[])).agrees


def test_probes_of_nothing_are_refused():
    one, dense = tiny.encoder(), tiny.encoder(text=False)
    with pytest.raises(PerceptError, match="share both towers, but the probes hold 0 images and 0 texts"):
        compare(one, one, replace(probes(), images=[], texts=[]))
    with pytest.raises(PerceptError, match="share only the vision tower, but the probes hold 0 images"):
        compare(dense, dense, replace(probes(), images=[]))


def test_pictures_in_their_own_shapes_are_compared():
    one = tiny.encoder().resizing("native")
    found = compare(one, one, probes())
    assert found.agrees
    block, pixels = found.difference("image block 0"), [one.preprocess(Image.fromarray(p)) for p in probes().images]
    assert block is not None
    assert block.vectors == sum(1 + p.shape[1] * p.shape[2] // 64 for p in pixels)


def test_a_receipt_is_the_same_under_autocast():
    one, other = tiny.encoder(), tiny.encoder(dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.float16):
        found = compare(one, other, probes())
    assert found.differences == compare(one, other, probes()).differences


def test_only_what_both_have_is_compared():
    dense = tiny.encoder(text=False)
    found = compare(dense, dense, probes())
    assert found.agrees
    assert found.top1 is None
    assert [one.stage for one in found.differences][-1] == "image last tokens"
    found = compare(tiny.encoder(), dense, probes())
    assert any(note.startswith("only Encoder(tiny") for note in found.notes)
    assert found.verdict == "they depart"


def test_an_export_against_its_model(exported):
    model, graphs = percept.load(exported.model, dtype="float32"), percept.load(exported.folder)
    found = compare(model, graphs, probes(), sizes=[(8, 8), (64, 16)])
    assert found.agrees
    assert found.difference("image block 2 at 64x16") is not None
    assert found.b["backend"] == "onnxruntime float32"
    quantised = percept.load(exported.folder, dtype="int8")
    assert compare(model, quantised, probes()).tolerance == 0.2
    strict = compare(graphs, quantised, probes(), tolerance=1e-4)
    assert strict.first_departure == "image block 0"


def test_a_receipt_is_json(tmp_path):
    found = compare(tiny.encoder(), tiny.encoder(dtype=torch.float16), probes())
    found.save(tmp_path / "receipt.json")
    read = json.loads((tmp_path / "receipt.json").read_text())
    assert read["agrees"] is True
    assert read["first_departure"] is None
    assert (read["a"]["dtype"], read["b"]["dtype"]) == ("float32", "float16")
    assert read["inputs"] == {"source": probes().source, "images": 5, "texts": len(probes().texts), "left out": []}
    assert read["differences"][1]["stage"] == "image block 0"


@pytest.mark.parametrize("tolerance", [-1.0, float("nan")])
def test_a_tolerance_that_is_none(tolerance):
    with pytest.raises(PerceptError, match="tolerance"):
        compare(tiny.encoder(), tiny.encoder(), probes(), tolerance=tolerance)


def test_drawn_probes_are_the_same_everywhere_and_of_several_shapes():
    one, two, three = generated(4), generated(4), generated(4, seed=9)
    assert all(np.array_equal(a, b) for a, b in zip(one.images, two.images, strict=True))
    assert one.texts == two.texts != three.texts
    assert len({image.shape for image in one.images}) == 4
    with pytest.raises(PerceptError, match="must be at least 1"):
        generated(0)


def test_given_probes_list_what_cannot_be_read(tmp_path):
    Image.new("RGB", (9, 7), "red").save(tmp_path / "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    found = given(tmp_path, ["a red field"])
    assert found.images == [tmp_path / "good.png"]
    assert found.texts == ["a red field"]
    assert [one.path for one in found.bad] == [tmp_path / "empty.png"]
    assert len(given(tmp_path).texts) > 8
    receipt = compare(tiny.encoder(), tiny.encoder(), found)
    assert receipt.inputs["left out"][0].startswith(str(tmp_path / "empty.png"))
    (tmp_path / "good.png").unlink()
    with pytest.raises(PerceptError, match=r"none of the images can be read; the first: .*empty\.png"):
        given(tmp_path)
