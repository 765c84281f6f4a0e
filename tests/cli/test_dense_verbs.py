"""`percept segment`, `heatmap`, `track`, `match` and `depth`: what they write, and what they say about input that does not fit."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import percept
from percept.cli import main
from percept.cli.match import split_points
from percept.core.errors import PerceptError
from percept.eval.probes.head import packaged_head
from percept.eval.world_labels import world_labels
from percept.infer import zeroshot_dense
from percept.infer.footage import filming, open_footage, read_mask
from percept.world.write.encode import mp4, palette_png


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    return tmp_path / "one.png"


@pytest.fixture
def clip(tmp_path):
    """A video of 4 frames, the same as a folder, and the mask of its first frame."""
    frames = np.random.default_rng(1).integers(0, 256, (4, 32, 48, 3), dtype=np.uint8)
    (tmp_path / "clip.mp4").write_bytes(mp4(frames))
    (tmp_path / "frames").mkdir()
    for number, pixels in enumerate(frames):
        Image.fromarray(pixels).save(tmp_path / "frames" / f"{number:05d}.png")
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, 8:24], mask[16:, 32:] = 1, 2
    (tmp_path / "first.png").write_bytes(palette_png(mask))
    return tmp_path


def test_segmenting_by_texts(model, image, tmp_path, capsys):
    drawn, mask = tmp_path / "out" / "drawn.png", tmp_path / "mask.png"
    arguments = ["--labels", "cup,red cup,background", "--out", str(drawn), "--out", str(mask), "--model", model]
    assert main(["segment", str(image), *arguments]) == 0
    with Image.open(drawn) as looked, Image.open(mask) as numbers:
        assert looked.width == 480
        assert looked.height >= 360
        assert (numbers.mode, numbers.size) == ("P", (40, 30))
        assert set(np.unique(np.array(numbers))) <= {0, 1, 2}
    assert "number in the mask" in capsys.readouterr().out
    only = ["--labels", "cup,red cup", "--out", str(drawn), "--out", str(mask), "--model", model]
    assert main(["segment", str(image), *only]) == 0
    with Image.open(mask) as numbers:
        found = set(np.unique(np.array(numbers)))
    assert found <= {1, 2}  # without background, every pixel has a label
    shown = capsys.readouterr().out
    assert all(("cup", "red cup")[number - 1] in shown for number in found)
    assert main(["segment", str(image), "--labels", "cup", "--out", str(drawn), "--model", model]) == 0
    assert "every pixel gets it" in capsys.readouterr().err


def test_segmenting_without_labels(model, image, tmp_path, capsys):
    out = tmp_path / "objects.png"
    code = main(["segment", str(image), "--objects", "2", "--grid", "6", "--out", str(out), "--model", model])
    shown = capsys.readouterr()
    assert code == 0 or "no object was found" in shown.err
    assert out.exists() == (code == 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "a.png"], "exactly one of --labels"),
        (["--out", "a.png", "--labels", "cup", "--objects", "1"], "exactly one of --labels"),
        (["--out", "a.jpg", "--labels", "cup"], "a.jpg ends in .jpg"),
        (["--out", "a.png", "--labels", "background"], "the only label is background"),
        (["--out", "a.png", "--labels", "cup,cup"], "distinct"),
        (["--out", "a.png", "--objects", "0"], "at least 1"),
    ],
)
def test_segment_refuses(model, image, arguments, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["segment", str(image), *arguments, "--model", model]) == 2
    assert said in capsys.readouterr().err


def test_a_model_without_texts_is_refused(image, tmp_path, capsys, monkeypatch):
    from tests.infer import tiny

    monkeypatch.chdir(tmp_path)
    folder = tiny.folder(tmp_path / "tower", text=False)
    assert main(["segment", str(image), "--labels", "cup", "--out", "a.png", "--model", str(folder)]) == 2
    assert "no vectors that texts can be compared with" in capsys.readouterr().err


def test_heat_maps(model, image, tmp_path, capsys):
    out = tmp_path / "heat.png"
    assert main(["heatmap", str(image), "a red cup", "a dog", "--out", str(out), "--model", model]) == 0
    with Image.open(out) as drawn:
        assert drawn.width == 3 * 480 + 2 * 14 + 2 * 24
    assert "weak" in capsys.readouterr().out  # a model with random weights
    assert (
        main(["heatmap", str(image), "a", "b", "c", "--out", str(out), "--model", model]) == 0
    )  # a second row of one map
    with Image.open(out) as drawn:
        assert (drawn.width, drawn.height) == (3 * 480 + 2 * 14 + 2 * 24, 2 * (360 + 42) + 14 + 2 * 24)
    assert main(["heatmap", str(image), " ", "--out", str(out), "--model", model]) == 2
    assert "the text is empty" in capsys.readouterr().err


def test_a_narrow_strip_does_not_need_thousands_of_windows(model, monkeypatch):
    read = []
    monkeypatch.setattr(
        zeroshot_dense, "patch_vectors", lambda _, pixels: read.append(len(pixels)) or torch.zeros(len(pixels), 3, 3, 2)
    )
    encoder = percept.load(model)
    zeroshot_dense.text_maps(encoder, Image.new("RGB", (4000, 1)), torch.zeros(1, 2))
    assert read == [31, 3 * 31]  # LONGEST sides of the model in windows that overlap by half


@pytest.mark.parametrize("source", ["clip.mp4", "frames"])
def test_tracking_writes_masks_and_a_video(model, clip, source, capsys):
    film, folder = clip / "tracked.mp4", clip / "masks"
    arguments = ["--mask", str(clip / "first.png"), "--grid", "6", "--model", model]
    assert main(["track", str(clip / source), *arguments, "--out", str(film), "--out", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [f"{number:05d}.png" for number in range(4)]
    with Image.open(folder / "00000.png") as first, Image.open(clip / "first.png") as given:
        assert first.mode == "P"
        assert (np.array(first) == np.array(given)).all()
    with Image.open(folder / "00003.png") as last:
        assert set(np.unique(np.array(last))) <= {0, 1, 2}
        assert last.size == (48, 32)
    footage = open_footage(film)
    assert len(footage) == 4
    assert next(footage.frames()).size == (480, 320)
    shown = capsys.readouterr()
    assert "1" in shown.out
    assert f"{percept.load(model).name} tracks 2 objects" in shown.err


def test_track_refuses(model, clip, capsys):
    def run(*arguments):
        assert main(["track", str(clip / "clip.mp4"), *map(str, arguments), "--model", model]) == 2
        return capsys.readouterr().err

    small = clip / "small.png"
    Image.fromarray(np.ones((16, 48), np.uint8)).save(small)
    said = run("--mask", small, "--out", clip / "a.mp4")
    assert "48 × 16" in said
    assert "48 × 32" in said
    assert "marks no object" in run(
        "--mask", _saved(clip / "empty.png", np.zeros((32, 48), np.uint8)), "--out", clip / "a"
    )
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    assert "is not a mask" in run("--mask", _saved(clip / "noise.png", noise), "--out", clip / "a")
    assert "there is no file" in run("--mask", clip / "none.png", "--out", clip / "a")
    assert "ends in .avi" in run("--mask", clip / "first.png", "--out", clip / "a.avi")
    assert (
        main(["track", str(clip / "first.png"), "--mask", str(clip / "first.png"), "--out", "a", "--model", model]) == 2
    )
    assert "neither a video nor a folder" in capsys.readouterr().err


def _saved(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_masks_of_several_forms(tmp_path):
    truth = np.zeros((6, 8), np.uint8)
    truth[1:3, 1:3], truth[4:, 4:] = 1, 2
    colours = np.array([(0, 0, 0), (0, 0, 200), (255, 0, 0)], np.uint8)[truth]
    assert (read_mask(_saved(tmp_path / "rgb.png", colours)) == truth).all()
    assert (read_mask(_saved(tmp_path / "l.png", truth)) == truth).all()
    assert (read_mask(_saved(tmp_path / "white.png", 255 * (truth > 0).astype(np.uint8))) == (truth > 0)).all()
    assert (read_mask(_saved(tmp_path / "bits.png", truth > 0)) == (truth > 0)).all()


def test_frames_of_different_sizes_are_refused(tmp_path):
    for number, side in enumerate((8, 9)):
        _saved(tmp_path / f"{number}.png", np.zeros((8, side, 3), np.uint8))
    with pytest.raises(PerceptError, match="Give frames of one size"):
        list(open_footage(tmp_path).frames())


def test_a_film_has_every_frame_and_its_rate(tmp_path):
    with filming(tmp_path / "odd.mp4", 12.5) as film:
        for number in range(5):
            film.add(Image.new("RGB", (31, 33), (50 * number, 0, 0)))
    footage = open_footage(tmp_path / "odd.mp4")
    assert (len(footage), round(footage.rate, 2)) == (5, 12.5)
    assert {frame.size for frame in footage.frames()} == {(32, 34)}


def test_matching_two_images(model, image, tmp_path, capsys):
    out, pairs = tmp_path / "match.png", tmp_path / "pairs.json"
    arguments = ["--grid", "6", "--model", model, "--out", str(out), "--out", str(pairs)]
    assert main(["match", str(image), str(image), *arguments]) == 0
    stored = json.loads(pairs.read_text())
    assert all((pair["x1"], pair["y1"]) == (pair["x2"], pair["y2"]) for pair in stored["rows"])
    with Image.open(out) as drawn:
        assert drawn.size == (480 * 2 + 12, 360)
    assert f"{percept.load(model).name} matches" in capsys.readouterr().err
    assert main(["match", str(image), str(image), *arguments, "--points", "10,8 33.5,20"]) == 0
    assert "best elsewhere" in capsys.readouterr().out
    found = json.loads(pairs.read_text())["rows"]
    assert [(pair["x1"], pair["y1"]) for pair in found] == [(10, 8), (33.5, 20)]
    assert all(np.hypot(pair["x1"] - pair["x2"], pair["y1"] - pair["y2"]) < 5 for pair in found)
    assert main(["match", str(image), str(image), *arguments, "--points", "99,8"]) == 2
    assert "outside the first image, which has 40 × 30 pixels" in capsys.readouterr().err


def test_an_output_does_not_take_the_arguments_after_it(model, image, tmp_path, capsys):
    one, other = tmp_path / "a.png", tmp_path / "b.png"
    assert main(["match", "--out", str(one), str(image), str(image), "--grid", "4", "--model", model]) == 0
    assert main(["match", "--out", str(one), str(image), "--model", model]) == 2  # the drawing is not the second image
    assert "Second of the two images" in capsys.readouterr().err
    assert main(["heatmap", "--out", str(other), str(image), "a cup", "--model", model]) == 0
    assert (
        main(["segment", "--out", str(other), "--out", str(one), str(image), "--labels", "a,b", "--model", model]) == 0
    )
    assert main(["segment", str(image), "--labels", "a,b", "--model", model]) == 2
    assert "--out is missing" in capsys.readouterr().err


def test_labels_without_pixels_are_named(tmp_path, capsys):
    from percept.cli.segment import _show, _write

    names, nothing = [f"thing {number}" for number in range(1, 13)], np.zeros((30, 40), np.uint8)
    plain = Image.new("RGB", (480, 360))
    _write((tmp_path / "nothing.png",), plain, nothing, names)
    with Image.open(tmp_path / "nothing.png") as drawn:
        assert drawn.height > 360  # a legend says that nothing was found
    capsys.readouterr()
    _show([{"number": 2, "label": "cup", "share": 1.0}], ["duck", "cup", "dog"])
    assert "not found: duck, dog" in capsys.readouterr().err
    _show([{"number": 0, "label": "background", "share": 1.0}], names)
    assert "not found: 12 of 12 labels" in capsys.readouterr().err


def test_lists_of_points(tmp_path):
    (tmp_path / "points.json").write_text("[[1, 2], [3.5, 4]]")
    assert split_points(f"@{tmp_path / 'points.json'}", (9, 9)) == [(1.0, 2.0), (3.5, 4.0)]
    for text in ("1;2", "1,2,3", "a,b", "@nothing.json", ""):
        with pytest.raises(PerceptError):
            split_points(text, (9, 9))


def test_depth_needs_a_head(model, image, tmp_path, capsys):
    pytest.importorskip("percept.eval.probes.head")
    arguments = ["--head", str(tmp_path), "--out", str(tmp_path / "a.png"), "--model", model]
    assert main(["depth", str(image), *arguments]) == 2
    assert "holds no head" in capsys.readouterr().err
    assert main(["depth", str(image), "--model", model]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"Train one: percept layers --world --task depth --save HEAD --model {model}; then add --head HEAD" in error


def test_the_drawing_of_depth_says_what_its_colours_span(tmp_path, monkeypatch):
    from percept.cli.depth import _write

    remarks = []
    monkeypatch.setattr("percept.infer.drawing.draw_rows", lambda rows: remarks.append(rows[0][1].remark) or plain)
    plain = Image.new("RGB", (8, 8))
    _write(tmp_path / "depth.png", plain, np.linspace(0, 10, 101).reshape(1, 101), "m")
    assert remarks == ["light 0.10 m or less (1 % of the pixels), dark 9.90 or more (1 %)"]


def test_nano_comes_with_a_head_for_depth(image, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["depth", str(image)]) == 0
    with Image.open("depth.png") as drawn:
        assert drawn.width > 40
    printed = capsys.readouterr()
    assert "RMSE 0." in printed.err
    assert "n=80" in printed.err
    assert "nearest" in printed.out
    assert main(["depth", str(image), "--image-size", "48"]) == 2
    assert "not with these options" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_packaged_head_measures_depth_in_rooms(dtype):
    """The recorded error holds on rooms that it was not trained on."""
    encoder = percept.load("nano", device="cpu", dtype=dtype)
    head = packaged_head(encoder, "depth")
    assert head is not None
    assert head.facts.keys() >= {"command", "seed", "score", "samples"}
    assert packaged_head(encoder, "masks") is None
    rooms = world_labels("depth", count=12, seed=1)
    errors = []
    for number in range(12):
        (room,) = rooms.images(number)
        truth = torch.as_tensor(rooms.target(number)).squeeze()
        found = head.maps(encoder, [room])[0, 0]
        errors.append((found - truth).square()[truth > 0].mean().sqrt().item())
    assert np.mean(errors) < 0.6
