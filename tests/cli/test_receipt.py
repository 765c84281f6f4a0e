"""`percept receipt`: 0 for sides that agree, 1 for sides that depart, 2 for what cannot be compared."""

import json

import pytest

from percept.cli import main


def test_types_of_a_model_agree(model, pictures, tmp_path, capsys):
    out = tmp_path / "new" / "receipt.json"
    arguments = ["--inputs", str(pictures), "--texts", "a red cup,a dog", "--out", str(out)]
    assert main(["receipt", model, f"{model}@bfloat16", *arguments]) == 0
    printed = capsys.readouterr().out
    for part in ("they agree", "image block 2", "text embedding", "3 images", "2 files left out"):
        assert part in " ".join(printed.split())
    receipt = json.loads(out.read_text())
    assert receipt["inputs"]["texts"] == 2
    assert receipt["tolerance"] == 0.1
    assert receipt["command"].startswith(f"percept receipt {model} {model}@bfloat16 --inputs {pictures} --texts 'a red")


def test_a_departure_is_named_and_exits_with_one(model, capsys):
    assert main(["receipt", model, f"{model}@bfloat16", "--images", "2", "--tolerance", "1e-6"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "they depart" in printed
    assert "first to depart │ image block 0" in printed


def test_two_models_depart(model, capsys):
    assert main(["receipt", model, "nano", "--images", "2"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    for part in ("preprocessing differs: size 24 against 96", "16 and 256 wide", "nearest text"):
        assert part in printed


MISTAKES = {
    "a type": (["MODEL@float31", "MODEL"], "did you mean 'float32'"),
    "a model": (["nanno", "nano"], "'nano'"),
    "an ending": (["MODEL", "MODEL", "--out", "r.txt"], ".json"),
    "a folder as file": (["MODEL", "MODEL", "--out", "."], ".json"),
    "a tolerance": (["MODEL", "MODEL", "--tolerance", "-1"], "--tolerance must be at least 0, got -1.0"),
    "no images": (["MODEL", "MODEL", "--inputs", "nowhere"], "no file or folder nowhere"),
    "nothing drawn": (["MODEL", "MODEL", "--images", "0"], "must be at least 1"),
    "no texts": (["MODEL", "MODEL", "--texts", ","], "no labels"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, model, tmp_path, capsys, monkeypatch):
    arguments, words = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    assert main(["receipt", *[word.replace("MODEL", model) for word in arguments]]) == 2
    captured = capsys.readouterr()
    assert words in " ".join(captured.err.split())
    assert captured.out == ""
