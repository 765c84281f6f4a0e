"""Pipes, full disks and strange file names, as a shell meets them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from percept.cli import main
from percept.cli.export import _use
from percept.cli.show import split_labels, writing
from percept.core.errors import PerceptError
from percept.export.write import Exported
from percept.models.manifest import Graph, Manifest


def piped(arguments: list[str], *, unbuffered: bool) -> tuple[int, str]:
    """Run percept with a reader that has gone already; return the exit code and standard error."""
    environment = {**os.environ, "COLUMNS": "100", **({"PYTHONUNBUFFERED": "1"} if unbuffered else {})}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "percept", *arguments]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment, timeout=120)
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.parametrize("unbuffered", [True, False])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["classify", "--help"], ["train"]])
def test_a_closed_pipe_is_not_an_error(arguments, unbuffered):
    assert piped(arguments, unbuffered=unbuffered) == (0, "")


def test_a_verb_whose_reader_has_gone_still_does_its_work(model, pictures, tmp_path):
    out = tmp_path / "labels.json"
    arguments = ["classify", str(pictures), "--labels", "cat,dog", "--model", model, "--out", str(out)]
    code, error = piped(arguments, unbuffered=True)
    assert code == 0
    assert "Broken" not in error
    assert "Traceback" not in error
    assert len(json.loads(out.read_text())["rows"]) == 3
    bad = str(pictures / "empty.png")
    assert piped(["classify", bad, "--labels", "cat", "--model", model], unbuffered=False)[0] == 2


def test_a_full_device_is_one_sentence():
    with open("/dev/full", "w") as full:
        for arguments in (["--version"], ["--help"]):
            command = [sys.executable, "-m", "percept", *arguments]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
            assert done.returncode == 2
            assert done.stderr.count("\n") == 1
            assert "No space left on device" in done.stderr


LIMITED = """
import json, resource, sys
from percept.cli import main
import percept.infer.load, percept.search.build, percept.eval.zeroshot, percept.export.receipt  # compiled before the limit
resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))
for command in json.loads(sys.argv[1]):
    print(main(command), file=sys.stderr)
"""


def test_no_space_is_one_sentence_for_every_verb_that_writes(model, pictures, tmp_path):
    """A limit on the size of files stands for a full disk; both end a write with an OSError."""
    options, images = ["--model", model], [str(pictures / "one.png"), str(pictures / "more")]
    commands = [
        *(
            ["encode", *images, "--out", f"v{ending}", *options]
            for ending in (".safetensors", ".npz", ".jsonl", ".parquet")
        ),
        *(["features", *images, "--out", f"m{ending}", *options] for ending in (".safetensors", ".npz")),
        ["features", *images, "--pca", "p.png", *options],
        ["classify", *images, "--labels", "cat,dog,cow,owl", "--out", "l.json", *options],
        ["eval", "binding", "--count", "4", "--out", "card.json", *options],
        ["receipt", model, model, "--images", "1", "--out", "r.json"],
        ["index", *images, "--index", "i", *options],
        ["world", "write", "--out", "w", "--count", "1"],
        ["world", "show", "--count", "1", "--out", "w.png"],
    ]
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, json.dumps(commands)], cwd=tmp_path / "here", capture_output=True, text=True,
        timeout=200, env={**os.environ, "COLUMNS": "1000"},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    parts = done.stderr.split("\n2\n")
    assert len(parts) == len(commands) + 1, done.stderr
    for command, printed in zip(commands, parts, strict=False):
        (complaint,) = [line for line in printed.splitlines() if line.startswith(f"percept {command[0]}: ")]
        assert "cannot be written" in complaint or "cannot be used" in complaint
    left = [path for path in (tmp_path / "here").rglob("*") if path.is_file()]
    left = [path for path in left if not path.parent.name.endswith(".part")]  # from which encode continues
    assert left == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "out.npz cannot be written: No space left on device"),
        (RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/0"), "PytorchStreamWriter"),
    ],
)
def test_errors_of_libraries_while_writing_name_the_file(error, reason):
    with pytest.raises(PerceptError, match=reason), writing(Path("out.npz")):
        raise error


def test_a_bug_while_writing_is_not_hidden():
    with pytest.raises(ZeroDivisionError), writing(Path("out.npz")):
        raise ZeroDivisionError


def test_labels_come_from_a_pipe(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b"duck\nset {}\n")
    os.close(writer)
    try:
        assert split_labels(f"@/dev/fd/{reader}") == ["duck", "set {}"]
    finally:
        os.close(reader)
    os.mkfifo(tmp_path / "fifo")
    child = subprocess.Popen([sys.executable, "-c", f"open({str(tmp_path / 'fifo')!r}, 'w').write('owl\\n')"])
    assert split_labels(f"@{tmp_path / 'fifo'}") == ["owl"]
    assert child.wait(10) == 0


def test_labels_come_from_standard_input():
    program = "from percept.cli.show import split_labels; print(split_labels('@-'))"
    done = subprocess.run([sys.executable, "-c", program], input="duck\r\n\nowl", capture_output=True, text=True)
    assert done.stdout == "['duck', 'owl']\n"


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "d?ck"), ("cp1252", "dück"), ("utf-8", "dück")])
def test_letters_that_the_output_lacks_are_question_marks(model, pictures, encoding, shown):
    command = ["classify", str(pictures / "one.png"), "--labels", "dück,猫", "--model", model]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "100"}
    done = subprocess.run([sys.executable, "-m", "percept", *command], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout.decode(encoding)
    assert ("猫" in done.stdout.decode(encoding)) == (encoding == "utf-8")


def test_labels_from_an_endless_file_are_refused(monkeypatch):
    monkeypatch.setattr("percept.cli.show.LABEL_BYTES", 1000)
    with pytest.raises(PerceptError, match="is larger than"):
        split_labels("@/dev/zero")


@pytest.mark.parametrize(("towers", "line"), [(("image", "text"), "percept"), (("text",), "percept.load(")])
def test_a_suggested_command_can_be_pasted(towers, line):
    graphs = tuple(
        Graph(tower=tower, dtype="float32", file="x", megabytes=1.0, inputs={"x": [1]}, outputs={}) for tower in towers
    )
    manifest = Manifest(name="n", weights={}, scale=1.0, size=None, layers=True, opset=20, graphs=graphs)
    use = _use(Exported(folder=Path("ünïcode dir 'x' 猫"), manifest=manifest))
    assert use.startswith(line)
    if towers == ("text",):
        loads = {
            "percept": type(
                "Fake", (), {"load": staticmethod(lambda name: type("E", (), {"text": lambda _, t: name})())}
            )
        }
        assert eval(use, loads) == "ünïcode dir 'x' 猫"
    else:
        import shlex

        assert shlex.split(use)[-2:] == ["--model", "ünïcode dir 'x' 猫"]


def test_names_that_are_markup_are_printed_as_they_are(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    folder = tmp_path / "[bold]x[red]"
    folder.mkdir()
    names = ["[bold]x[red].png", ":smile: #q?%20\"<b>&'.png", "[link].png", "-rf.png"]
    for name in names:
        Image.fromarray(np.full((9, 9, 3), 7, np.uint8)).save(folder / name)
    assert main(["classify", str(folder), "--labels", "[red]cat[/red],:dog:", "--model", model]) == 0
    assert main(["features", str(folder), "--model", model, "--out", str(folder / "[i].npz")]) == 0
    printed = capsys.readouterr()
    for expected in (*names, "[red]cat[/red]", ":dog:"):
        assert expected in printed.out
    assert f"wrote {folder / '[i].npz'}" in printed.err
