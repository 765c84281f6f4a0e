"""`percept features`: its table, its drawings, its files, and ways to resize of the other verbs."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import percept
from percept.cli import main
from percept.cli.features import split_layers
from percept.core.errors import PerceptError
from tests.infer import tiny


def read(file) -> tuple[dict[str, np.ndarray], dict]:
    """Read arrays and facts as a user would, without percept."""
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        return arrays, json.loads(str(arrays.pop("facts")))
    with safe_open(file, "np") as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}, json.loads(stored.metadata()["percept"])  # noqa: SIM118


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("options", [[], ["--norm"], ["--resize", "native", "--tokens", "12"]])
def test_the_file_holds_what_the_encoder_gives(model, pictures, tmp_path, capsys, suffix, options):
    out = tmp_path / "out" / f"maps{suffix}"
    attention = tmp_path / "attention.png"
    arguments = ["--layers", "-1,0", "--model", model, "--out", str(out), "--attention", str(attention), *options]
    assert main(["features", str(pictures), *arguments]) == 0
    assert "2 files left out" in capsys.readouterr().out
    arrays, facts = read(out)
    assert (facts["norm"], facts["model"]["name"], len(facts["bad"])) == ("--norm" in options, "tiny", 2)
    encoder = percept.load(model)
    if "--resize" in options:
        encoder = encoder.resizing("native", tokens=12)
        assert facts["preprocess"]["tokens"] == 12
    rows = list(encoder.hidden(facts["images"], (0, 2), norm="--norm" in options))
    gazes = encoder.attention(facts["images"])
    assert len(rows) == len(gazes) == 3
    for place, (row, gaze) in enumerate(zip(rows, gazes, strict=True)):
        expected = {"attention": gaze.maps, "attention_class_token": gaze.class_token}
        for layer in (0, 2):
            expected |= {f"layer.{layer}": row.map(layer), f"class_token.{layer}": row.class_token(layer)}
        for name, tensor in expected.items():
            torch.testing.assert_close(torch.from_numpy(arrays.pop(f"image.{place}.{name}")), tensor)
    assert not arrays


def test_the_table_and_the_drawings(model, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    pca, attention = tmp_path / "pca.PNG", tmp_path / "attention.png"
    arguments = ["--layers", "0,2,-1", "--model", model, "--pca", str(pca), "--attention", str(attention)]
    assert main(["features", str(pictures / "one.png"), str(pictures / "a [red] cup.jpg"), *arguments]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "3 x 3" in line]
    assert len(lines) == 4  # two pictures, and -1 is layer 2
    (expected,) = percept.load(model).hidden(pictures / "one.png", 2)
    norms = expected.patches(2).norm(dim=-1)
    assert f"{float(norms.mean()):.3f}" in lines[1]
    assert f"{float(norms.max()):.3f}" in lines[1]
    with Image.open(pca) as drawn, Image.open(attention) as looked:
        assert (drawn.width, looked.width) == (2 * 24 + 3 * 240 + 2 * 14, 2 * 24 + 4 * 240 + 3 * 14)
        assert drawn.format == "PNG"


def test_only_a_part_of_many_is_shown(model, pictures, tmp_path, capsys):
    assert main(["features", str(pictures / "one.png"), str(pictures / "more"), "--model", model, "--show", "1"]) == 0
    captured = capsys.readouterr()
    assert "the first 1 of 2 images" in captured.err
    assert "three.webp" not in captured.out
    out = tmp_path / "all.npz"
    everything = ["--show", "1", "--out", str(out)]
    assert main(["features", str(pictures / "one.png"), str(pictures / "more"), "--model", model, *everything]) == 0
    assert len(read(out)[1]["images"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{pictures}/one.png", "--layers", "4,x"], "such as 2,4,-1"),
        (["{pictures}/one.png", "--layers", ","], "such as 2,4,-1"),
        (["{pictures}/one.png", "--layers", "3"], "layers 0 to 2"),
        (["{pictures}/one.png", "--show", "0"], "--show must be at least 1"),
        (["{pictures}/one.png", "--pca", "{pictures}/out.jpg"], "out.png"),
        (["{pictures}/one.png", "--out", "{pictures}/out.txt"], ".safetensors"),
        (["{pictures}/one.png", "--resize", "nativ"], "did you mean 'native'"),
        (["{pictures}/one.png", "--tokens", "9"], "a budget for resize='native'"),
        (["{pictures}/one.png", "--resize", "native", "--tokens", "0"], "at least 1 patch"),
        (["{pictures}/empty.png"], "nothing to show"),
        (["{pictures}/none.png"], "none.png"),
        (["--layers", "0"], "no path was given"),
    ],
)  # fmt: skip
def test_mistakes_are_explained(model, pictures, capsys, arguments, words):
    arguments = [argument.replace("{pictures}", str(pictures)) for argument in arguments]
    assert main(["features", "--model", model, *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_model_without_a_pooling_head_has_no_attention_to_draw(pictures, tmp_path, capsys):
    dense = str(tiny.folder(tmp_path / "dense", text=False))
    assert main(["features", str(pictures / "one.png"), "--model", dense, "--attention", str(tmp_path / "a.png")]) == 2
    assert "no pooling head" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()
    assert main(["features", str(pictures / "one.png"), "--model", dense, "--norm"]) == 2
    assert "no final norm" in capsys.readouterr().err


def test_layers_from_text():
    assert split_layers(" 4, 8,-1,") == [4, 8, -1]
    with pytest.raises(PerceptError, match="2,4,-1"):
        split_layers("4;8")


def test_encode_and_classify_in_their_own_shapes(model, pictures, tmp_path, capsys):
    options = ["--model", model, "--resize", "native", "--tokens", "20"]
    out, labels = tmp_path / "vectors.npz", tmp_path / "labels.json"
    assert main(["encode", str(pictures), "--out", str(out), *options]) == 0
    encoder = percept.load(model, resize="native", tokens=20)
    arrays, facts = read(out)
    paths = arrays["paths"].tolist()
    torch.testing.assert_close(torch.from_numpy(arrays["vectors"]), encoder.image(paths), atol=0.02, rtol=0)
    assert not np.allclose(arrays["vectors"], percept.load(model).image(paths).numpy(), atol=0.02)
    assert (facts["preprocess"]["resize"], facts["preprocess"]["tokens"]) == ("native", 20)
    assert main(["classify", str(pictures), "--labels", "cat,dog", "--out", str(labels), *options]) == 0
    found = json.loads(labels.read_text())
    assert found["about"]["preprocess"] == facts["preprocess"]
    for entry in found["rows"]:
        best = encoder.classify([entry["path"]], ["cat", "dog"])[0][0]  # type: ignore[index]
        assert entry["guesses"][0]["score"] == pytest.approx(best.score, abs=0.02)
