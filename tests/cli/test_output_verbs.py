"""`--out` of every verb: where rows are results, - prints json lines with the declared fields and nothing else."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from percept.cli import VERBS, main
from percept.world.write.encode import mp4, palette_png
from tests.infer import speaking

OWN = {
    "encode": "vectors", "teach": "a folder of labels", "train": "a run folder", "ablate": "a folder of runs",
    "curate": "a folder of data", "world write": "a folder of data", "world show": "a drawing", "convert": "a model",
    "export onnx": "a model", "report": "a page", "index export": "vectors",
}  # fmt: skip
"""Commands whose --out is a format of their own, and no rows."""
WITHOUT = {
    "undo": "puts files back", "chat": "a conversation", "serve": "a server",
    **{f"index {each}": "keeps an index" for each in ("remove", "compact", "repair")}, "index": "builds an index",
}  # fmt: skip
"""Commands that produce no file."""
NAMED = {
    "eval plm": "percept.cli.evaluate_plm",
    "eval folder": "percept.cli.evaluate_folder",
    "index status": "percept.cli.upkeep",
}
FIELDS = {
    "eval": "SCORES", "eval plm": "SCORES", "index status": "STATUS", "classify": ("percept.cli.ranking", "FIELDS"),
    "ask": ("percept.cli.answers", "FIELDS"), "caption": ("percept.cli.answers", "FIELDS"),
}  # fmt: skip
"""Where fields are declared, if not as FIELDS in the file of the verb."""
ROWS = {
    "classify": ["pictures", "--labels", "cat,dog", "MODEL"],
    "dupes": ["pictures", "MODEL"],
    "explain": ["pictures/one.png", "--labels", "cat,dog", "--no-check", "MODEL"],
    "features": ["pictures/one.png", "MODEL"],
    "segment": ["pictures/one.png", "--labels", "cat,dog", "MODEL"],
    "heatmap": ["pictures/one.png", "a cup", "MODEL"],
    "track": ["clip.mp4", "--mask", "first.png", "--grid", "4", "MODEL"],
    "match": ["pictures/one.png", "pictures/one.png", "--grid", "4", "MODEL"],
    "depth": ["pictures/one.png", "--head", "head", "MODEL"],
    "search": ["--image", "pictures/one.png", "--index", "index"],
    "index status": ["--index", "index"],
    "eval": ["binding", "--count", "4", "MODEL"],
    "eval folder": ["classes", "MODEL"],
    "conformal": ["logits.npz"],
    "layers": ["classes", "--samples", "20", "MODEL"],
    "data check": ["rows.jsonl"],
    "receipt": ["MODEL", "MODEL", "--images", "1"],
    "list": [],
    "doctor": ["--seconds", "0.01"],
    "cache": [],
    "ask": ["pictures/one.png", "What is it?", "--max-new-tokens", "2", "SPEAKER"],
    "caption": ["pictures/one.png", "--max-new-tokens", "2", "SPEAKER"],
}
"""Command: its arguments, run with --out -."""
ELSEWHERE = {
    "compare": "tests/eval/test_compare.py", "eval plm": "tests/eval/vlm/test_run.py",
    "adapt": "tests/methods/adaptation/test_own.py",
}  # fmt: skip
"""Commands that need the results of slow runs; their rows are tested there."""


def commands() -> set[str]:
    """Return every command, those inside a verb included."""
    inside = {"index": ["status", "remove", "compact", "repair", "export"], "eval": ["plm", "folder"]}
    found = set()
    for verb, (name, _) in VERBS.items():
        module = importlib.import_module(name)
        nested = list(module.COMMANDS) if hasattr(module, "COMMANDS") else []
        found |= {f"{verb} {each}" for each in [*nested, *inside.get(verb, [])]} | (set() if nested else {verb})
    return found


def test_every_command_is_known() -> None:
    assert commands() == OWN.keys() | WITHOUT.keys() | ROWS.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("command", sorted(commands() - WITHOUT.keys()))
def test_every_command_has_one_output_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = ["pe/nano"] if command == "train" else []
    assert main([*command.split(), *recipe, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--out " in shown
    assert "--json" not in shown
    if command not in OWN:
        assert "- for" in " ".join(shown.replace("│", " ").split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: str) -> Path:
    """What the commands read."""
    from percept.eval.probes.dense import DepthLinear
    from percept.eval.probes.head import Head, save_head

    place = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)

    def image(name: str) -> None:
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(file)

    image("pictures/one.png")
    (place / "pictures/copy.png").write_bytes((place / "pictures/one.png").read_bytes())
    (place / "pictures/broken.png").write_bytes(b"")
    for number in range(20):
        image(f"classes/{'cat' if number % 2 else 'dog'}/{number}.png")
    (place / "clip.mp4").write_bytes(mp4(rng.integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)))
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, 8:24] = 1
    (place / "first.png").write_bytes(palette_png(mask))
    np.savez(place / "logits.npz", logits=rng.normal(size=(300, 4)), labels=rng.integers(0, 4, 300))
    (place / "rows.jsonl").write_text(
        '{"image": "pictures/one.png", "caption": "x"}\n{"image": "no.png", "caption": "y"}\n'
    )
    assert main(["index", str(place / "pictures"), "--index", str(place / "index"), "--model", model]) == 0
    import percept

    width = percept.load(model).model.config.vision.width
    save_head(
        place / "head", Head(task="depth", kind="linear", layer=0, width=width, unit="m", module=DepthLinear(width))
    )
    speaking.folder(place / "speaker")
    return place


def declared(command: str) -> list[str]:
    where: Any = FIELDS.get(command, "FIELDS")
    module, name = where if isinstance(where, tuple) else (NAMED.get(command) or VERBS[command.split()[0]][0], where)
    return list(getattr(importlib.import_module(module), name))


def test_the_guide_lists_the_fields_of_every_command() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "output.md").read_text(encoding="utf-8").split("## Formats")[0]
    listed = {}
    for line in re.findall(r"^\| (`[a-z].*) \| .* \| (`.*) \|$", guide, flags=re.MULTILINE):
        listed |= {command: re.findall(r"`(\w+)`", line[1]) for command in re.findall(r"`([a-z ]+)`", line[0])}
    assert listed == {command: declared(command) for command in (*ROWS, *ELSEWHERE)}


@pytest.mark.parametrize("command", ROWS)
def test_a_pipe_gets_rows_and_nothing_else(
    command: str, folder: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PERCEPT_CACHE", str(folder / "cache"))
    (folder / "cache/world/images").mkdir(parents=True, exist_ok=True)
    places = {"MODEL": ["--model", model], "SPEAKER": ["--model", str(folder / "speaker")]}
    if command == "receipt":
        places["MODEL"] = [model]
    arguments = [word for each in ROWS[command] for word in places.get(each, [each])]
    code = main([*command.split(), *arguments, "--out", "-"])
    printed = capsys.readouterr()
    assert code in ((0, 1) if command == "data check" else (0,)), printed.err
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert rows
    for row in rows:
        assert list(row) == declared(command) or (command in ("ask", "caption") and set(row) <= set(declared(command)))


def test_tables_in_a_pipe_are_not_wrapped(tmp_path: Path) -> None:
    program = "from percept.core.report import notice, out, table; table('t' * 300, ['file', 'n'], [('x' * 500, 1)]); notice('w ' * 200)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "40"}
    )  # fmt: skip
    title, *lines = done.stdout.splitlines()
    assert title == "t" * 300
    assert sum("x" * 500 in line for line in lines) == 1
    assert len(done.stderr.splitlines()) == 1
