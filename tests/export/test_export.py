import copy
import json
import pickle
import shutil
import sys
from typing import Any

import pytest
import torch
from PIL import Image

import percept
from percept import PerceptError
from percept.core.io import save_tensors
from percept.export import trace
from percept.export import write as export_module
from percept.export.probes import generated
from percept.export.receipt import compare
from percept.export.write import Plan, export_onnx
from percept.models.manifest import read_manifest
from percept.weights.open import open_model
from tests.export.exports import export
from tests.golden.filling import checkpoint
from tests.infer import tiny


@pytest.fixture(scope="module")
def onnx(exported):
    return percept.load(exported.folder, batch=4)


def test_an_export_is_the_model_at_several_sizes(onnx):
    eager = tiny.encoder()
    for height, width in ((24, 24), (8, 8), (40, 16), (16, 72)):
        for number in (1, 3):
            images = torch.randn(number, 3, height, width)
            torch.testing.assert_close(onnx.image(images), eager.image(images), atol=1e-5, rtol=0)
    images = torch.randn(2, 3, 40, 16)
    for layer in (0, -1):
        torch.testing.assert_close(
            onnx.tokens(images, layer=layer), eager.tokens(images, layer=layer), atol=1e-4, rtol=0
        )
        maps = onnx.features(images, layers=layer)[layer]
        assert maps.shape == (2, 5, 2, 16)
        torch.testing.assert_close(maps, eager.features(images, layers=layer)[layer], atol=1e-4, rtol=0)


def test_texts_of_any_length_are_those_of_the_model(onnx):
    texts = ["", "a dog", "a picture of a red cup to the left of a cat and of a dog"]
    for some in (texts, texts[:1], texts[1:2]):
        torch.testing.assert_close(onnx.text(some), tiny.encoder().text(some), atol=1e-5, rtol=0)
    single = torch.tensor([[tiny.tokenizer().end_id]])
    torch.testing.assert_close(onnx.text(single), tiny.encoder().text(single), atol=1e-5, rtol=0)


def test_an_export_opens_as_the_model_it_was_made_of(onnx, exported):
    plain = percept.load(exported.model, dtype="float32")
    assert onnx.identity == plain.identity
    assert onnx.scale == pytest.approx(plain.scale)
    assert onnx.preprocess == plain.preprocess
    assert "onnxruntime float32" in repr(onnx)
    assert sum(one.numel() for one in onnx.model.vision.parameters()) == 0
    picture = tiny_picture()
    (ours,), (theirs,) = (one.classify([picture], ["cat", "red cup"]) for one in (onnx, plain))
    assert isinstance(ours, list)
    assert isinstance(theirs, list)
    assert [guess.label for guess in ours] == [guess.label for guess in theirs]
    assert ours[0].probability == pytest.approx(theirs[0].probability, abs=1e-5)
    frames = torch.randn(3, 3, 24, 24)
    torch.testing.assert_close(onnx.video(frames), plain.video(frames), atol=1e-5, rtol=0)


def tiny_picture():
    return torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)


def test_int8_is_close_smaller_and_another_model(onnx, exported):
    small = percept.load(exported.folder, dtype="int8")
    assert small.identity.image != onnx.identity.image
    images = torch.randn(8, 3, 24, 24)
    cosines = (small.image(images) * onnx.image(images)).sum(dim=1)
    assert 0.98 < cosines.min() < 1 - 1e-9
    checks = read_manifest(exported.folder).checks["int8"]
    assert checks["top1"]["of"] == export_module.AGREEMENT
    assert checks["top1"]["same"] <= checks["top1"]["of"]
    assert 0.9 < checks["cosine"]["image embedding"][0] <= checks["cosine"]["image embedding"][1] < 1


def test_the_manifest_says_what_is_there(exported):
    manifest = read_manifest(exported.folder)
    assert manifest.dtypes == ["float32", "int8"]
    image = manifest.graph("image", "float32")
    assert image is not None
    assert image.inputs == {"image": ["batch", 3, "height", "width"]}
    assert image.outputs["vector"] == ["batch", tiny.DIM]
    assert [name for name in image.outputs if name.startswith("block")] == ["block_0", "block_1", "block_2"]
    text = manifest.graph("text", "int8")
    assert text is not None
    assert text.inputs == {"ids": ["batch", "length"]}
    assert {"onnx", "onnxruntime", "torch", "percept"} <= manifest.versions.keys()
    assert 0 < manifest.checks["float32"]["largest"] < 1e-5
    files = {file.name for file in exported.folder.iterdir()}
    graphs = {f"{tower}{kind}.onnx" for tower in ("image", "text") for kind in ("", ".int8")}
    assert files == graphs | {"config.json", "export.json", "preprocess.json", "tokenizer.json", "words.txt"}


def test_what_is_printed_tells_sizes_and_agreement(exported):
    words = " ".join(exported.printed.split())
    for part in (
        "tiny in",
        "image.int8.onnx",
        "float32 image vector",
        "int8 text embedding",
        "0.2 of a vector's",
        "of 64 images",
    ):
        assert part in words


@pytest.mark.slow
def test_one_tower_of_one_size_in_half_numbers_with_weights_beside_it(tmp_path):
    options = ("--tower", "image", "--size", "32", "--dtype", "float16", "--no-layers")
    first = "import percept.export.trace as module; module.ONE_FILE = 100"
    export(tiny.folder(tmp_path / "model"), tmp_path / "out", *options, first=first)
    assert (tmp_path / "out" / "image.onnx.data").is_file()
    one = percept.load(tmp_path / "out")
    images = torch.randn(3, 3, 32, 32)
    expected = percept.load(tmp_path / "model", dtype="float32", image_size=32)
    torch.testing.assert_close(one.image(images), expected.image(images), atol=5e-3, rtol=0)
    assert one.preprocess.shape == (32, 32)
    assert one.identity == expected.identity
    one.tokenizer = None  # the tower is what is missed first
    for call, words in (
        (lambda: one.image(torch.randn(1, 3, 24, 24)), "takes 32x32 only"),
        (lambda: one.text("a cup"), "no text tower"),
        (lambda: one.cut(1), "one piece"),
        (lambda: one.tokens(images), "--no-layers"),
        (lambda: percept.load(tmp_path / "out", dtype="int8"), "unknown type"),
    ):
        with pytest.raises(PerceptError, match=words):
            call()


BAD_PLANS = {
    "a tower": ({"tower": "txt"}, "'text'"),
    "a type": ({"dtype": "float23"}, "'float32'"),
    "bfloat16": ({"dtype": "bfloat16"}, "float32 or float16"),
    "int8 of half": ({"dtype": "float16", "int8": True}, "Leave out --dtype"),
    "a size": ({"size": "dynamc"}, "'dynamic'"),
}


@pytest.mark.parametrize("case", BAD_PLANS)
def test_plans_that_cannot_be(case):
    keywords, words = BAD_PLANS[case]
    with pytest.raises(PerceptError, match=words):
        Plan(**keywords)


def test_a_text_export_of_a_vision_model(tmp_path):
    folder = tiny.folder(tmp_path / "dense", text=False)
    for tower in ("text", "both"):
        with pytest.raises(PerceptError, match="--tower image"):
            export_onnx(folder, tmp_path / "out", Plan(tower=tower))


def test_a_size_that_the_patch_does_not_divide(tmp_path):
    with pytest.raises(PerceptError, match=r"patches of 8 pixels; give 24 or 32"):
        export_onnx(tiny.folder(tmp_path / "model"), tmp_path / "out", Plan(size=30))
    with pytest.raises(PerceptError, match="below one patch"):
        export_onnx(tmp_path / "model", tmp_path / "out", Plan(size=4))
    assert not (tmp_path / "out").exists()


def test_places_that_are_not_free(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for place, words in (
        ("full", "exists already"),
        ("full/file", "exists already"),
        ("full/file/out", "cannot be written"),
    ):
        with pytest.raises(PerceptError, match=words):
            export_onnx("nano", tmp_path / place)


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_names_the_extra(library, monkeypatch, tmp_path, exported):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(PerceptError, match=rf"needs {library}.*percept-models\[export\]"):
        export_onnx("nano", tmp_path / "out")
    if library == "onnxruntime":
        with pytest.raises(PerceptError, match=r"percept-models\[export\]"):
            percept.load(exported.folder)


def test_a_graph_that_does_not_agree_is_not_kept(exported, tmp_path, monkeypatch):
    def another(encoder, folder, plan, begin):
        shutil.copytree(exported.folder, folder, dirs_exist_ok=True)
        return read_manifest(folder)

    monkeypatch.setattr(export_module, "_write", another)
    other = tiny.folder(tmp_path / "model")
    with torch.no_grad():
        model = tiny.model()
        model.get_parameter("vision.blocks.1.mlp.down.bias").add_(0.1)
    save_tensors(other / "model.safetensors", model.state_dict())
    with pytest.raises(PerceptError, match="not kept: image block 1 is the first to depart"):
        export_onnx(other, tmp_path / "out", Plan(tower="image"))
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_an_axis_that_tracing_pinned_is_refused(exported):
    file, named = exported.folder / "text.onnx", {0: "batch", 1: "length"}
    described = trace._described(file, tower="text", dtype="float32", named=named)
    assert described.inputs == {"ids": ["batch", "length"]}
    with pytest.raises(PerceptError, match=r"fixed its words to length in text\.onnx"):
        trace._described(file, tower="text", dtype="float32", named={**named, 1: "words"})


def test_an_export_is_copied_and_pickled(exported, tmp_path):
    folder = shutil.copytree(exported.folder, tmp_path / "copy")
    one, picture = percept.load(folder), tiny_picture()
    pickled = pickle.dumps(one)
    for other in (copy.deepcopy(one), pickle.loads(pickled)):
        assert other.identity == one.identity
        assert torch.equal(other.image(picture), one.image(picture))
        assert torch.equal(other.text("a dog"), one.text("a dog"))
    manifest = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps({**manifest, "weights": {}}))
    with pytest.raises(PerceptError, match="a different export than when it was pickled"):
        pickle.loads(pickled)
    shutil.rmtree(folder)
    with pytest.raises(PerceptError, match="is gone"):
        pickle.loads(pickled)
    assert torch.equal(copy.deepcopy(one).image(picture), one.image(picture))


def test_nothing_in_nothing_out(onnx):
    text = onnx.model.text(torch.zeros(0, 5, dtype=torch.int64), layers=(0,))
    assert (text.tokens.shape, text.pooled.shape, text.hidden[0].shape) == ((0, 5, 16), (0, tiny.DIM), (0, 5, 16))
    image = onnx.model.vision(torch.zeros(0, 3, 16, 24), layers=(-1,))
    assert (image.tokens.shape, image.pooled.shape, image.hidden[-1].shape) == ((0, 7, 16), (0, tiny.DIM), (0, 7, 16))
    assert onnx.model.encode_text(torch.zeros(0, 5, dtype=torch.int64)).shape == (0, tiny.DIM)
    assert onnx.image(torch.zeros(0, 3, 24, 24)).shape == onnx.text([]).shape == (0, tiny.DIM)
    for rows in (0, 2):
        with pytest.raises(PerceptError, match="without tokens"):
            onnx.model.text(torch.zeros(rows, 0, dtype=torch.int64))
    with pytest.raises(PerceptError, match="nothing to pack"):
        onnx.model.vision.packed([])


DAMAGE = {
    "a graph is gone": (lambda folder: (folder / "image.onnx").unlink(), "lacks its file image.onnx"),
    "a graph is cut": (lambda folder: (folder / "image.onnx").write_bytes(b"abc"), "onnxruntime cannot read"),
    "the manifest is gone": (lambda folder: (folder / "export.json").unlink(), "graphs but no export.json"),
    "the manifest is cut": (lambda folder: (folder / "export.json").write_text("{"), "not a json file"),
    "the manifest is of another kind": (lambda folder: (folder / "export.json").write_text("{}"), "needs the field"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_explained(case, exported, tmp_path):
    damage, words = DAMAGE[case]
    folder = shutil.copytree(exported.folder, tmp_path / "copy")
    damage(folder)
    with pytest.raises(PerceptError, match=words):
        percept.load(folder)


def test_pictures_of_an_export_are_brought_to_size_as_asked(exported):
    wide = Image.new("RGB", (48, 16), "red")
    for resize, tokens in (("crop", None), ("native", 8)):
        ours, theirs = (percept.load(one, resize=resize, tokens=tokens) for one in (exported.folder, exported.model))
        assert ours.preprocess == theirs.preprocess
        assert float(ours.image(wide) @ theirs.image(wide).T) > 0.99
    with pytest.raises(PerceptError, match="tokens=8 is a budget"):
        percept.load(exported.folder, tokens=8)


def test_what_an_export_cannot_be_asked(exported, tmp_path):
    asked: list[tuple[dict[str, Any], str]] = [
        ({"device": "cuda"}, "on the CPU"),
        ({"weights": "x.pt"}, "its own weights"),
        ({"image_size": 32}, "size is fixed"),
        ({"dtype": "bfloat16"}, "float32, int8"),
    ]
    for keywords, words in asked:
        with pytest.raises(PerceptError, match=words):
            percept.load(exported.folder, **keywords)
    with pytest.raises(PerceptError, match="is already an export"):
        export_onnx(exported.folder, tmp_path / "out")
    with pytest.raises(PerceptError, match="--int8"):
        percept.load("nano", dtype="int8")
    with pytest.raises(PerceptError, match="give the model it was made from"):
        open_model(exported.folder)
    one = percept.load(exported.folder)
    for call, words in (
        (lambda: one.image(torch.zeros(1, 3, 4, 24)), "does not divide into patches"),
        (lambda: one.text(torch.full((1, 4), 10**6)), "token ids"),
        (lambda: one.text(torch.ones(1, 99, dtype=torch.int64).cumsum(dim=1)), "context of 16"),
        (lambda: one.tokens(torch.zeros(1, 3, 24, 24), layer=3), "0 to 2"),
    ):
        with pytest.raises(PerceptError, match=words):
            call()


def test_config_and_manifest_are_plain_json(exported):
    for name in ("config.json", "export.json"):
        assert json.loads((exported.folder / name).read_text())["name"] == "tiny"


@pytest.mark.slow
def test_a_released_model_of_any_size(tmp_path):
    torch.save(checkpoint("PE-Core-T16-384"), tmp_path / "T16.pt")
    options = ("--weights", str(tmp_path / "T16.pt"), "--tower", "image", "--size", "dynamic")
    export("PE-Core-T16-384", tmp_path / "out", *options)
    official, graphs = percept.load("PE-Core-T16-384", weights=tmp_path / "T16.pt"), percept.load(tmp_path / "out")
    found = compare(official, graphs, generated(2), sizes=[(224, 128)])
    assert found.agrees
    assert found.difference("image block 11 at 224x128") is not None


def test_a_graph_in_the_place_of_the_other_is_refused(exported, tmp_path):
    for name, other in (("image.onnx", "text.onnx"), ("text.onnx", "image.onnx")):
        folder = shutil.copytree(exported.folder, tmp_path / name)
        shutil.copy(exported.folder / other, folder / name)
        with pytest.raises(PerceptError, match=rf"{name} takes .* but the graph of the \w+ tower takes"):
            percept.load(folder)
