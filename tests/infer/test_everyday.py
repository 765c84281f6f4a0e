"""Vectors that continue after a kill, near duplicates, explanations, and what is kept."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import percept
from percept.cli import main
from percept.core.errors import PerceptError
from percept.infer import caches
from percept.infer.dupes import find_dupes
from percept.infer.dupes_page import page
from percept.infer.encoding import ROWS, VECTORS, encode_files, opened
from percept.infer.explanation import CELLS, against_others, covered, drawing, explain
from percept.infer.labeller import Labeller, labeller
from percept.world import generate
from tests.infer import tiny

FACTS = {"model": "tiny"}


@pytest.fixture(scope="module")
def encoder():
    return tiny.encoder()


@pytest.fixture
def files(tmp_path) -> list[Path]:
    (tmp_path / "images").mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    return sorted((tmp_path / "images").iterdir())


def test_a_run_continues_and_reads_only_what_is_missing(encoder, files, tmp_path, monkeypatch):
    folder = tmp_path / "out.part"
    with opened(folder, FACTS, encoder.dim) as partial:
        encode_files(encoder, files[:4], partial)
    with (folder / VECTORS).open("ab") as vectors, (folder / ROWS).open("ab") as rows:
        vectors.write(b"half a vector")
        rows.write(b'{"path": "cut')
    os.utime(files[1], ns=(1, 1))  # changed since
    read = []
    each_file = type(encoder).each_file
    monkeypatch.setattr(
        type(encoder), "each_file", lambda self, paths, **more: each_file(self, read.extend(paths) or paths, **more)
    )
    with opened(folder, FACTS, encoder.dim) as partial:
        assert partial.count == 4
        found = encode_files(encoder, files, partial)
    assert read == [files[1], files[4], files[5]]
    assert (found.paths, found.continued, found.bad) == (files, 3, [])
    torch.testing.assert_close(torch.from_numpy(found.vectors()), encoder.image(files))


def test_a_lost_line_loses_its_vector_only(encoder, files, tmp_path):
    folder = tmp_path / "out.part"
    with opened(folder, FACTS, encoder.dim) as partial:
        encode_files(encoder, files, partial)
    lines = (folder / ROWS).read_bytes().splitlines(keepends=True)
    (folder / ROWS).write_bytes(b"".join(lines[:3]) + lines[3][:9])
    with opened(folder, FACTS, encoder.dim) as partial:
        assert partial.count == 3
        found = encode_files(encoder, files, partial)
    torch.testing.assert_close(torch.from_numpy(found.vectors()), encoder.image(files))


def test_the_folder_of_a_different_run_is_refused(encoder, files, tmp_path):
    folder = tmp_path / "out.part"
    with opened(folder, FACTS, encoder.dim) as partial:
        encode_files(encoder, files[:1], partial)
        with pytest.raises(PerceptError, match="in use"), opened(folder, FACTS, encoder.dim):
            pass
    with pytest.raises(PerceptError, match="different model"), opened(folder, {"model": "x"}, encoder.dim):
        pass
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "mine.txt").touch()
    with pytest.raises(PerceptError, match="something else"), opened(tmp_path / "else", FACTS, encoder.dim):
        pass
    with opened(tmp_path / "empty.part", FACTS, encoder.dim):
        pass
    assert not (tmp_path / "empty.part").exists()  # nothing to continue from


KILLED = """
import sys, time
from pathlib import Path
import percept.infer.encoding as encoding
from percept.cli import main
add = encoding.Partial.add
def slow(self, path, vector):
    add(self, path, vector)
    print("added", flush=True)
    time.sleep(0.2)
encoding.Partial.add = slow
main(sys.argv[1:])
"""


def test_a_killed_command_continues(files, tmp_path, capsys):
    model = str(tiny.folder(tmp_path / "model"))
    arguments = ["encode", str(files[0].parent), "--out", str(tmp_path / "v.npz"), "--model", model]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline() == "added\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "v.npz").exists()
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "continues: " in printed.err
    assert "read by an earlier run" in printed.out
    with np.load(tmp_path / "v.npz") as stored:
        assert stored["paths"].tolist() == [str(file) for file in files]
        torch.testing.assert_close(
            torch.from_numpy(stored["vectors"]), percept.load(model).image(files), atol=1e-6, rtol=0
        )
    assert not (tmp_path / "v.npz.part").exists()


def test_groups_have_the_best_first_and_exact_copies(encoder, files):
    image = Image.open(files[0])
    image.resize((60, 40), Image.Resampling.NEAREST).save(files[0].parent / "large.png")
    (files[0].parent / "same.png").write_bytes(files[0].read_bytes())
    (files[0].parent / "bad.png").write_bytes(b"")
    everything = sorted(files[0].parent.iterdir())
    vectors = encoder.image([files[0], files[0].parent / "large.png"])
    near = float(vectors[0] @ vectors[1])
    found = find_dupes(encoder, everything, above=0.9999)
    assert [[copy.file.path.name for copy in group.copies] for group in found.groups if group.copies[0].exact] == [
        ["same.png"]
    ]
    found = find_dupes(encoder, [files[0], *everything[-2:]], above=near - 1e-3)
    (group,) = found.groups
    assert group.keep.path.name == "large.png"
    assert {copy.file.path.name for copy in group.copies} == {"0.png", "same.png"}
    assert not any(copy.exact for copy in group.copies)
    assert [copy.cosine for copy in group.copies] == pytest.approx([near, near], abs=1e-5)
    assert group.bytes == 2 * files[0].stat().st_size
    first = find_dupes(encoder, [files[0], *everything[-2:]], above=near - 1e-3, keep="first").groups[0]
    assert first.keep.path == files[0]
    assert [copy.exact for copy in first.copies] == [True, False]
    text = page(found, files[0].parent, title="<b> & more")
    assert "&lt;b&gt; &amp; more" in text
    assert text.count("data:image/jpeg") == 3
    with pytest.raises(PerceptError, match="above must be"):
        find_dupes(encoder, files, above=1.5)


def test_evidence_is_the_difference_to_the_other_labels():
    assert against_others(torch.tensor([[2.0], [1.0]])).flatten().tolist() == [1.0, -1.0]


def test_cells_are_covered_or_kept():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (21, 28, 3), dtype=np.uint8))
    every = [(row, column) for row in range(CELLS) for column in range(CELLS)]
    assert np.array_equal(np.array(covered(image, [])), np.array(image))
    assert np.array_equal(np.array(covered(image, every, keep=True)), np.array(image))
    gone = np.array(covered(image, every))
    assert (gone == gone[0, 0]).all()
    changed = (np.array(covered(image, [(0, 1)])) != np.array(image)).any(axis=2)
    assert changed[:3, 4:8].any()
    assert not changed[3:].any()
    assert not changed[:, :4].any()


def test_an_explanation_of_nano_finds_the_things(tmp_path):
    encoder = percept.load("nano", dtype="float32")
    pixels = np.full((96, 192, 3), 245, np.uint8)
    scene = Image.fromarray(pixels)
    left, right = (generate(number, split="train", things=(1, 1), size=96) for number in (0, 1))
    names = [image.scene.things[0].category for image in (left, right)]
    assert names[0] != names[1]
    for place, drawn in enumerate((left, right)):
        scene.paste(Image.fromarray(drawn.image), (96 * place, 0))
    found = explain(encoder, scene, labeller(encoder, names))
    halves = [
        found.evidence[:, :, : found.evidence.shape[2] // 2].mean(dim=(1, 2)),
        found.evidence[:, :, found.evidence.shape[2] // 2 :].mean(dim=(1, 2)),
    ]
    assert halves[0][0] > halves[1][0]  # the left thing on the left
    assert halves[1][1] > halves[0][1]
    torch.testing.assert_close(found.evidence.sum(dim=0), torch.zeros_like(found.evidence[0]), atol=1e-4, rtol=0)
    best = int(found.probabilities.argmax())
    check = found.checks[best]
    assert check.deletion < check.deletion_at_random
    assert check.insertion > check.insertion_at_random
    assert drawing(found, title="x").width > 3 * 480
    single = explain(encoder, scene, labeller(encoder, names[:1]), check=False)
    assert single.evidence.shape[0] == len(single.occlusion) == 1
    assert single.checks == ()


def test_taught_weights_can_be_explained(encoder, files):
    ranker = Labeller(names=("a", "b"), weight=torch.randn(2, tiny.DIM), bias=torch.zeros(2), scale=1.0)
    found = explain(encoder, files[0], ranker, check=False)
    assert found.evidence.isfinite().all()
    assert found.occlusion.shape == (2, CELLS, CELLS)


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    """A cache with generated images, an index, and something that is not ours."""
    for name in ("world/a", "world/b", "sources", "mine"):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "file").write_bytes(b"x" * 1000)
    hub = tmp_path / "hub" / "models--owner--tiny"
    for part in ("blobs/1", "snapshots/abc/model.bin", "refs/main"):
        (hub / part).parent.mkdir(parents=True)
    (hub / "blobs/1").write_bytes(b"y" * 500)
    (hub / "snapshots/abc/model.bin").symlink_to("../../blobs/1")
    (hub / "refs/main").write_text("abc")
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "none"))
    return tmp_path


def test_what_is_kept_is_listed_and_removed(kept):
    found = {entry.name: entry for entry in caches.entries()}
    assert {name: entry.bytes for name, entry in found.items()} == {
        "hub/owner/tiny": 500, "world/a": 1000, "world/b": 1000, "sources": 1000,
    }  # fmt: skip
    for entry in caches.chosen(list(found.values()), ["world/*", "hub/owner/tiny"]):
        entry.remove()
    assert [entry.name for entry in caches.entries()] == ["sources"]
    assert (kept / "cache/mine/file").exists()
    assert (kept / "cache/world").is_dir()
    with pytest.raises(PerceptError, match="nothing that is kept is called wrld"):
        caches.chosen(list(found.values()), ["wrld"])


def test_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "none"))
    assert caches.entries() == []
