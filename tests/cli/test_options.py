"""Shared options: every verb has them, they reach `percept.load`, and no message advises one that its verb lacks."""

import ast
import re
from pathlib import Path

import pytest

import percept
from percept.cli import VERBS, main
from percept.cli.options import LoadOptions, ModelOptions, VideoOptions, typed
from percept.core.errors import PerceptError

SOURCE = Path(percept.__file__).parent
OPTION = r"--[a-z][a-z0-9]*(?:-[a-z0-9]+)*"
MODEL = ("classify", "teach", "dupes", "explain", "encode", "features", "index", "search", "eval")
LOADING = (*MODEL, "receipt", "export")
ROOMS = {
    "search": ("index", "search"),
    "eval": ("eval",),
    "export": ("export", "receipt"),
    "serve": ("serve",),
    "infer": LOADING,
    "world": ("world", "train", "eval", "receipt"),
    **dict.fromkeys(("train", "recipes", "methods", "optim", "losses"), ("train",)),
    **dict.fromkeys(("weights", "models", "data", "nn", "fast", "core"), (*LOADING, "convert")),
}
"""Folder: verbs that can print its messages."""
INNER = {("data", "curate"): ("curate",), ("data", "check"): ("data",)}
"""Folder within a folder: verbs that can print its messages."""
NAMED = {
    **{("cli/upgrade.py", option): "index" for option in ("--images", "--limit", "--texts")},
    ("cli/export.py", "--labels"): "classify",
    ("eval/layers.py", "--layers"): "layers",
    **{("cli/placing.py", option): "classify" for option in ("--place", "--dry-run", "--undo-list")},
    **{("cli/filtering.py", option): "classify" for option in ("--path", "--type", "--after", "--index")},
    ("cli/output.py", "--out"): "classify",
    ("cli/export.py", "--out"): "encode",
    ("cli/export.py", "--model"): "classify",
    ("models/onnx.py", "--tower"): "export",
    ("models/onnx.py", "--no-layers"): "export",
    ("models/onnx.py", "--size"): "export",
    ("infer/load.py", "--int8"): "export",
    ("weights/layouts", "--to"): "convert",
    ("weights/write.py", "--to"): "convert",
    ("export/write.py", "--tower"): "export",
    ("export/write.py", "--size"): "export",
    ("world/write", "--what"): "world",
    ("weights/hub.py", "--init"): "train",
    ("cli/options.py", "--choices"): "ask",
    ("weights/hub.py", "--local-dir"): "hf",
    ("weights/hub.py", "--revision"): "hf",
}
"""(File or folder, option): the command that the message names, or the only one that prints it."""


def options_of(verb: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    nested = {"export": ["onnx"], "train": ["pe/nano"], "world": ["write"], "data": ["check"]}.get(verb, [])
    assert main([verb, *nested, "--help"]) == 0
    shown = set(re.findall(OPTION, capsys.readouterr().out))
    further = {
        "world": [["world", "show"]],
        "eval": [["eval", "plm"], ["eval", "folder"]],
        "index": [["index", "upgrade"]],
        "train": [["train", "pe/pretrain"], ["train", "pe/finetune"], ["train", "plm/finetune"]],
    }
    for verbs in further.get(verb, []):
        assert main([*verbs, "--help"]) == 0
        shown |= set(re.findall(OPTION, capsys.readouterr().out))
    return shown | ({"--tiny", "--nproc-per-node"} if verb == "train" else set())  # the latter is torchrun's


def messages(file: Path) -> list[str]:
    """Return the strings of a file that are not docstrings; {} stands for what an f-string fills in."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped.update(map(id, node.values))
            texts.append("".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            texts.append(node.value)
    return texts


def advised(file: Path) -> set[tuple[str, str | None]]:
    """Return the options in the messages of a file, each with the command that the message names before it."""
    return {
        (option.group(), ([*re.findall(rf"percept ({'|'.join(VERBS)})\b", text[: option.start()])] or [None])[-1])
        for text in messages(file)
        if not re.search(r"var\(--|--[a-z]+: ?#", text)  # a style sheet
        for option in re.finditer(rf"(?<![\w-]){OPTION}", text)
    }


def verbs_of(file: Path) -> tuple[str, ...]:
    room, inner, *_ = (*file.relative_to(SOURCE).parts, "")
    if (room, inner) in INNER:
        return INNER[room, inner]
    if room != "cli":
        return ROOMS[room]
    module = f"percept.cli.{file.stem.removesuffix('_plm').removesuffix('_folder')}"
    return tuple(verb for verb, (place, _) in VERBS.items() if place == module) or MODEL  # shared by those that load


def named(file: Path, option: str) -> str | None:
    name = file.relative_to(SOURCE).as_posix()
    return next((verb for (place, known), verb in NAMED.items() if known == option and name.startswith(place)), None)


def test_every_option_in_a_message_exists_in_the_verb_that_prints_it(capsys):
    accepted: dict[str, set[str]] = {verb: options_of(verb, capsys) for verb in VERBS}
    accepted["hf"] = {"--revision", "--local-dir"}  # a program of huggingface_hub
    checked, missing = 0, []
    for file in sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE):
        for option, command in advised(file):
            command = command or named(file, option)
            for verb in (command,) if command else verbs_of(file):
                checked += 1
                if option not in accepted[verb] | {"--help", "--version"}:
                    missing.append(f"{file.relative_to(SOURCE)} advises {option}, which percept {verb} lacks")
    assert checked > 50
    assert missing == []


def test_the_check_of_messages_notices_a_wrong_option(tmp_path):
    (tmp_path / "x.py").write_text(
        '"""Not --this."""\nraise E(f"give --that {1}, or run percept index A --prune; not a--b")\ndef f():\n    "--nor"\n'
    )
    assert advised(tmp_path / "x.py") == {("--that", None), ("--prune", "index")}


SHARED = {
    "--weights",
    "--tokenizer",
    "--image-size",
    "--device",
    "--dtype",
    "--batch",
    "--resize",
    "--tokens",
    "--compile",
}


@pytest.mark.parametrize("verb", LOADING)
def test_the_shared_options_are_in_every_verb(verb, capsys):
    expected = {
        **dict.fromkeys(MODEL, SHARED | {"--model"}), "receipt": SHARED,
        "export": {"--weights", "--tokenizer", "--image-size"},
    }  # fmt: skip
    assert expected[verb] <= options_of(verb, capsys)


def test_options_reach_the_model(model):
    encoder = ModelOptions(
        model=model, image_size=32, dtype="float32", device="cpu", batch=3, resize="native", tokens=9
    ).open()
    assert (encoder.preprocess.resize, encoder.preprocess.tokens, encoder.setting.batch) == ("native", 9, 3)
    assert encoder.model.config.vision.image_size == 32
    assert str(encoder.setting.dtype) == "torch.float32"
    assert ModelOptions(model=model, batch=3).open(batch=5).setting.batch == 5
    assert LoadOptions().load(model).identity.name == "tiny"
    assert ModelOptions().open().identity.name == "nano"


def test_options_are_typed_again():
    options = ModelOptions(model="my model", image_size=48, compile=True)
    assert typed(options, VideoOptions(frames=4)) == [
        "--image-size",
        "48",
        "--compile",
        "--model",
        "my model",
        "--frames",
        "4",
    ]
    assert typed(ModelOptions(), VideoOptions()) == []


def test_video_options_are_checked():
    assert VideoOptions(frames=3, frame_choice="plm").sampling().frames == 3
    for bad in (VideoOptions(frames=0), VideoOptions(frame_choice="pe-demmo")):
        with pytest.raises(PerceptError, match="frames"):
            bad.sampling()


def test_a_size_of_an_image_is_an_option_of_every_verb(model, pictures, tmp_path, capsys):
    image, options = str(pictures / "one.png"), ["--model", model, "--image-size", "32", "--dtype", "float32"]
    assert main(["encode", image, "--out", str(tmp_path / "v.npz"), *options]) == 0
    assert main(["features", image, *options]) == 0
    assert "4 x 4" in capsys.readouterr().out  # 32 pixels in patches of 8
    assert main(["receipt", model, model, "--image-size", "32", "--images", "1", "--dtype", "bfloat16"]) == 0
    assert main(["index", image, "--index", str(tmp_path / "index"), *options]) == 0
    assert main(["search", "--image", image, "--index", str(tmp_path / "index")]) == 0  # the index remembers the size
    assert main(["encode", image, "--out", str(tmp_path / "v.npz"), "--model", model, "--image-size", "30"]) == 2
    assert "--" not in re.sub(r"--image-size", "", capsys.readouterr().err.splitlines()[-1])
