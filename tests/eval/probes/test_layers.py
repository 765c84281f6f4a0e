"""The layer picker finds the layer that is known to hold the information, on every task it can be put into by hand."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import percept
from percept.cli import main
from percept.core.errors import PerceptError
from percept.eval.curve import saved_share, svg, tower_flops
from percept.eval.labelled import Labelled
from percept.eval.layers import layers, planned, save_best
from percept.eval.probes.boxes import Truth
from percept.eval.probes.grouped import grouped_difference, grouped_score
from percept.eval.probes.head import Head, open_head, save_head
from percept.eval.probes.linear import Linear
from percept.eval.probes.outcome import Sums, difference, mean_iou, ratio, right, score_of
from percept.eval.probes.probe import Setup
from percept.eval.probes.stream import each_layer, frame_of, patches
from percept.models.config import VisionConfig
from percept.models.vision import VisionTower
from tests.infer import tiny

INFORMED = 1
"""Layer of the synthetic encoder after which the colour of a patch is known."""
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


class Planted(nn.Module):
    """A block that replaces the patches: by their hue, or by noise that does not depend on the image."""

    def __init__(self, hue: Tensor | None) -> None:
        super().__init__()
        self.hue = hue

    def forward(self, x: Tensor, context: object) -> Tensor:
        if self.hue is None:
            noise = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(1))
            return noise.expand_as(x) + 1e-3 * torch.randn(x.shape)
        return x


def encoder():
    """Return an encoder whose layer 1 holds the pixels of each patch, and whose layers 0 and 2 hold noise."""
    made = tiny.encoder()
    tower: Any = made.model.get_submodule("vision")

    class Informed(nn.Module):
        def forward(self, x: Tensor, context: object) -> Tensor:
            return tower.informed

    def embed(image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        grid = (image.shape[-2] // 8, image.shape[-1] // 8)
        means = nn.functional.avg_pool2d(image, 8).flatten(2).transpose(1, 2)
        tokens = torch.cat([means, means.new_zeros(*means.shape[:2], 13)], dim=-1)
        tower.informed = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        return torch.zeros_like(tokens), grid

    tower.embed_patches = embed
    tower.blocks = nn.ModuleList([Planted(None), Informed(), Planted(None)])
    return made


def squares(number: int) -> tuple[np.ndarray, int, np.ndarray]:
    """Return an image of a grey ground with a coloured square on whole patches, its colour, and the colour of each pixel."""
    rng = np.random.default_rng(number)
    colour, (row, column) = int(rng.integers(0, 3)), rng.integers(0, 3, 2)
    image, labels = np.full((24, 24, 3), 128, np.uint8), np.zeros((24, 24), np.int64)
    inside = np.s_[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
    image[inside], labels[inside] = COLOURS[colour], colour + 1
    return image, colour, labels


def data(task: str, count: int = 60) -> Labelled:
    def box(labels: np.ndarray) -> Truth:
        rows, columns = np.nonzero(labels)
        edges = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]) / 24
        return Truth(boxes=edges, labels=np.array([labels.max() - 1]), crowd=np.zeros(1, bool))

    targets = {
        "classes": lambda number: squares(number)[1],
        "captions": lambda number: f"a {('red', 'green', 'blue')[squares(number)[1]]} cup",
        "masks": lambda number: squares(number)[2],
        "depth": lambda number: np.where(squares(number)[2] > 0, 1.0, 3.0).astype(np.float32),
        "boxes": lambda number: box(squares(number)[2]),
        "points": lambda number: two_points(number),
        "tracks": lambda number: np.stack([np.minimum(squares(number)[2], 1)] * 3),
    }
    several = {"points": 2, "tracks": 3}.get(task, 1)
    return Labelled(
        name="squares", task=task, count=count, images=lambda number: [squares(number)[0]] * several, target=targets[task],
        classes={"masks": ("ground", "red", "green", "blue")}.get(task, ("red", "green", "blue")), unit="m",
    )  # fmt: skip


def two_points(number: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.nonzero(squares(number)[2])
    centre = np.array([[columns.mean() + 0.5, rows.mean() + 0.5]]) / 24
    return centre, centre


@pytest.mark.parametrize("task", ["classes", "captions", "masks", "depth"])
def test_the_informed_layer_is_found(task: str):
    curve = layers(encoder(), data(task), task)
    assert curve.best == INFORMED
    assert curve.peaks_early
    assert f"layer {INFORMED}" in curve.statement()
    scores = [score.value for score in curve.scores]
    others = scores[0], scores[2]
    assert scores[INFORMED] < 0.7 * min(others) if task == "depth" else scores[INFORMED] > 0.2 + max(others)
    assert task != "classes" or scores[INFORMED] == 1
    assert curve.samples == {"train": 36, "validation": 12, "test": 12}


def test_other_probes_find_it_too():
    assert layers(encoder(), data("classes"), "classes", probe="knn").best == INFORMED


@pytest.mark.parametrize("task", ["points"])
def test_measures_without_training_find_it(task: str):
    curve = layers(encoder(), data(task, 20), task, layers=(0, 1))
    assert curve.samples["train"] == 0
    assert curve.head is None
    assert curve.best == INFORMED


def test_tracks_of_a_still_scene_are_followed():
    curve = layers(encoder(), data("tracks", 10), "tracks", layers=(1,))
    assert curve.scores[0].value > 0.6
    still = data("tracks", 10)
    moved = replace(still, target=lambda number: still.target(number) * np.array([1, 1, 0])[:, None, None])
    changed = layers(encoder(), moved, "tracks", layers=(1,))
    assert changed.scores[0].value == curve.scores[0].value  # the last frame is not counted


@pytest.mark.slow
def test_a_detector_learns_on_the_informed_layer():
    curve = layers(encoder(), data("boxes", 80), "boxes")
    assert curve.best == INFORMED
    assert curve.others["AP50"][INFORMED].value > 0.5 > curve.others["AP50"][0].value


def test_images_without_any_box_are_refused():
    none = Truth(boxes=np.zeros((0, 4)), labels=np.zeros(0, np.int64), crowd=np.zeros(0, bool))
    with pytest.raises(PerceptError, match="none of the 6 training images has a box"):
        layers(encoder(), replace(data("boxes", 10), target=lambda number: none), "boxes")


@pytest.mark.slow
def test_a_light_dpt_learns_on_the_informed_layer():
    curve = layers(encoder(), data("depth", 80), "depth", probe="dpt", layers=(1, 2))
    assert curve.best == INFORMED
    assert curve.head is not None
    assert curve.head.kind == "dpt"


def test_every_image_goes_through_the_tower_once():
    made = encoder()
    tower: Any = made.model.get_submodule("vision")
    seen: list[int] = []
    embed = tower.embed_patches
    tower.embed_patches = lambda image: (seen.append(len(image)), embed(image))[1]
    layers(made, data("masks", 30), "masks")
    assert sum(seen) == 30


def test_the_stream_gives_what_the_encoder_gives():
    made = tiny.encoder()
    images = [squares(number)[0] for number in range(6)]
    rows = list(each_layer(made, iter(images), [0, 2], patches))
    expected = made.features(images, layers=(0, 2))
    for layer in (0, 2):
        found = torch.stack([row[layer] for row in rows]).permute(0, 2, 3, 1)
        torch.testing.assert_close(found, expected[layer])


def test_same_seed_same_curve_and_other_seed_other_parts():
    one, again = (layers(tiny.encoder(), data("classes"), "classes", seed=3) for _ in range(2))
    assert [score.value for score in one.scores] == [score.value for score in again.scores]
    first, second = data("classes").parts(seed=0), data("classes").parts(seed=1)
    assert first.test.tolist() != second.test.tolist()
    assert not set(first.train) & set(first.test) | set(first.validation) & set(first.test)


def test_classes_are_divided_in_proportion():
    sizes = (40, 20, 10, 5, 2, 2)
    truths = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    labelled = replace(data("classes", sum(sizes)), target=lambda number: int(truths[number]))
    for seed, most in itertools.product(range(5), (None, 40)):
        parts = labelled.parts(seed=seed, most=most)
        numbers = np.concatenate([parts.train, parts.validation, parts.test])
        assert len(set(numbers.tolist())) == len(numbers) == (most or sum(sizes))
        for part, share in ((parts.train, 0.6), (parts.validation, 0.2), (parts.test, 0.2)):
            counts = np.bincount(truths[part], minlength=len(sizes))
            expected = np.array(sizes) * share * len(numbers) / sum(sizes)
            assert np.abs(counts - expected).max() < 2.5
        assert most is not None or set(truths[parts.train]) == set(range(len(sizes)))
    assert labelled.parts(seed=0).test.tolist() != labelled.parts(seed=1).test.tolist()


def test_groups_are_divided_whole_and_resampled_whole():
    drawn = data("classes", 48)
    images = lambda number: [squares(number // 4)[0]]  # noqa: E731 - four copies of each image
    copies = replace(
        drawn, images=images, target=lambda number: squares(number // 4)[1],
        group=lambda numbers: [number // 4 for number in numbers],
    )  # fmt: skip
    parts = copies.parts()
    sizes = [len(part) for part in (parts.train, parts.validation, parts.test)]
    assert sizes == [28, 8, 12] or sizes == [28, 12, 8]
    groups = [set((part // 4).tolist()) for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 12
    curve = layers(tiny.encoder(), copies, "classes")
    alone = layers(tiny.encoder(), replace(copies, group=None), "classes")
    assert curve.groups == len(groups[2])
    assert curve.scores[0].n == sizes[2]
    assert alone.groups == 0
    assert f"{curve.groups} groups of test samples are too few for an interval" in curve.statement() or curve.best == 2
    with pytest.raises(PerceptError, match="of only 3 groups"):
        replace(copies, group=lambda numbers: [number % 3 for number in numbers]).parts()


def test_one_large_group_leaves_two_groups_for_each_part():
    skewed = replace(data("masks", 60), group=lambda numbers: [max(0, number - 53) for number in numbers])
    for seed in range(10):
        parts = skewed.parts(seed=seed)
        groups = [set(np.maximum(0, part - 53).tolist()) for part in (parts.train, parts.validation, parts.test)]
        assert min(map(len, groups)) >= 2
        assert sum(map(len, groups)) == len(set().union(*groups)) == 7


def test_an_interval_over_groups_is_that_of_the_groups():
    groups = np.repeat(np.arange(10), 30)
    hits = np.repeat(np.arange(10) % 2, 30) == 1
    score, alone = (grouped_score(right(hits), each, "top-1") for each in (groups, None))
    assert (score.value, score.n) == (alone.value, alone.n) == (0.5, 300)
    assert score.high - score.low > 4 * (alone.high - alone.low)
    sure = grouped_score(right(np.ones(300, bool)), groups, "top-1")
    assert (sure.low, sure.high) == (pytest.approx(0.7225, abs=1e-4), 1)
    gap = grouped_difference(right(hits), right(~hits & (groups > 1)), groups)
    assert gap.low < gap.value < gap.high
    certain = grouped_difference(right(np.ones(300, bool)), right(np.zeros(300, bool)), groups)
    assert certain.value == 1
    assert certain.low < 0.9


def test_flops_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    config = VisionConfig(image_size=32, patch_size=8, width=32, layers=3, heads=2, pool_heads=2, output_dim=20)
    tower = VisionTower(config).eval()
    for cut in (None, 1):
        part = tower if cut is None else tower.cut(cut)
        with (
            FlopCounterMode(display=False) as counter,
            torch.no_grad(),
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        ):
            part(torch.zeros(1, 3, 32, 32))
        expected = tower_flops(config, 16, blocks=3 if cut is None else cut + 1, pooled=cut is None)
        assert counter.get_total_flops() == pytest.approx(expected, rel=0.02)
    assert 0 < saved_share(config, 16, 1) < saved_share(config, 16, 0) < 1


def test_features_that_do_not_fit_are_refused_and_patches_are_limited():
    setup = Setup(frame=frame_of(tiny.encoder()), classes=("a", "b"))
    limited, memory = planned(setup, 100, [0, 1, 2], "linear", "masks")
    assert limited.tokens == 9
    assert memory == 100 * 3 * 9 * 16 * 4
    with pytest.raises(PerceptError, match="Use fewer samples"):
        planned(setup, 10**9, [0, 1, 2], "fcos", "boxes")


def test_a_saved_encoder_opens_and_its_head_works(tmp_path: Path):
    made = tiny.encoder()
    curve = layers(made, data("masks"), "masks", layers=(0, 1))
    folder = save_best(tmp_path / "best", made, curve)
    cut = percept.load(str(folder), dtype="float32")
    assert cut.model.config.vision.layers == curve.best + 1
    image = squares(5)[0]
    torch.testing.assert_close(cut.tokens([image], -1), made.tokens([image], curve.best))
    head = open_head(folder)
    assert (head.task, head.layer, head.classes) == ("masks", curve.best, ("ground", "red", "green", "blue"))
    torch.testing.assert_close(head.maps(cut, [image]), head.maps(made, [image]))
    assert head.maps(cut, [image]).shape == (1, 4, 24, 24)


def test_heads_refuse_what_they_were_not_trained_for(tmp_path: Path):
    head = Head(task="masks", kind="linear", layer=2, width=16, classes=("a", "b"), module=Linear(16, 2))
    save_head(tmp_path, head)
    again = open_head(tmp_path)
    with pytest.raises(PerceptError, match="trained for masks, not for classes"):
        again.classes_of(tiny.encoder(), [squares(0)[0]])
    with pytest.raises(PerceptError, match="has layers 0 to 0"):
        again.maps(tiny.encoder().cut(0), [squares(0)[0]])
    with pytest.raises(PerceptError, match="32 channels"):
        replace(head, width=32).maps(tiny.encoder(), [squares(0)[0]])
    with pytest.raises(PerceptError, match="holds no head"):
        open_head(tmp_path / "nothing")
    facts = json.loads((tmp_path / "head.json").read_text())
    (tmp_path / "head.json").write_text(json.dumps(facts | {"width": 8}))
    with pytest.raises(PerceptError, match="does not fit"):
        open_head(tmp_path)


def test_too_few_samples_and_labels_of_another_task_are_refused():
    with pytest.raises(PerceptError, match="At least 5"):
        layers(tiny.encoder(), data("classes", 3), "classes")
    without = replace(data("depth", 10), target=lambda _: np.zeros((16, 16), np.float32))
    with pytest.raises(PerceptError, match="none of the 6 training images has a depth"):
        layers(tiny.encoder(), without, "depth")
    part = layers(tiny.encoder(), data("classes"), "classes", layers=(0, 1))
    assert ("last scored layer, 1" in part.statement()) == (part.blocks > 2)
    with pytest.raises(PerceptError, match="labels for classes, but not for masks"):
        layers(tiny.encoder(), data("classes"), "masks")
    with pytest.raises(PerceptError, match="did you mean 'masks'"):
        layers(tiny.encoder(), data("classes"), "mask")
    with pytest.raises(PerceptError, match="no text tower"):
        layers(tiny.encoder(text=False), data("captions"), "captions")


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """Return class folders of coloured squares."""
    for number in range(30):
        image, colour, _ = squares(number)
        folder = tmp_path / "coloured" / ("red", "green", "blue")[colour]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    return tmp_path / "coloured"


def test_the_command_shows_saves_and_writes(coloured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = str(tiny.folder(tmp_path / "model"))
    out, best = tmp_path / "curve.json", tmp_path / "best"
    assert (
        main(["layers", str(coloured), "--task", "classes", "--model", model, "--out", str(out), "--save", str(best)])
        == 0
    )
    shown = capsys.readouterr()
    assert "classes by linear" in shown.out
    assert "best" in shown.err or "better than" in shown.err
    stored = json.loads(out.read_text())["tasks"][0]
    assert [row["layer"] for row in stored["layers"]] == [0, 1, 2]
    assert {"n", "low", "high", "value"} <= stored["layers"][0].keys()
    assert out.with_suffix(".svg").read_text().startswith("<svg")
    assert percept.load(str(best)).model.config.vision.layers == stored["best"] + 1
    assert (best / "head" / "head.json").is_file()


def test_an_image_that_cannot_be_read_is_left_out(coloured: Path, capsys: pytest.CaptureFixture[str]):
    files = sorted(coloured.rglob("*.png"))
    files[0].write_bytes(b"damaged")
    curve = layers(tiny.encoder(), coloured, "classes")
    assert sum(curve.samples.values()) == 29
    assert "1 of 30 samples are left out" in capsys.readouterr().err
    for file in files:
        file.write_bytes(b"damaged")
    with pytest.raises(PerceptError, match=r"18 of 18 training samples of .* cannot be used"):
        layers(tiny.encoder(), coloured, "classes")


def test_classes_without_training_samples_are_reported(coloured: Path, capsys: pytest.CaptureFixture[str]):
    for number, file in enumerate(sorted(coloured.rglob("*.png"))):
        if number % 3 == 0:
            (coloured / str(number)).mkdir()
            file.rename(coloured / str(number) / file.name)
    layers(tiny.encoder(), coloured, "classes", layers=(1,))
    assert "test samples are of classes without a training sample" in " ".join(capsys.readouterr().err.split())


def test_shares_stay_between_0_and_1():
    rows = np.array([[1.0, 0.0, 2.0, 400.0], [0.0, 0.0, 2.0, 2.0], [0.0, 3.0, 500.0, 5.0]])
    score = score_of(Sums(sums=rows, measure=mean_iou), "mIoU")
    assert 0 <= score.low <= score.value <= score.high <= 1
    errors = Sums(sums=np.array([[9.0, 3.0], [8.0, 4.0], [1.0, 2.0]]), measure=ratio, better="less")
    assert score_of(errors, "character error rate").high > 1  # more wrong characters than there are


def test_a_difference_of_few_samples_is_not_called_clear():
    hits = np.ones(9, bool)
    gap = difference(right(hits), right(~hits))
    assert (gap.value, gap.is_clear) == (1.0, True)
    assert gap.low < gap.high
    curve = layers(encoder(), data("masks", 20), "masks")
    assert curve.best == INFORMED
    assert not curve.peaks_early
    assert "4 test samples are too few for an interval" in curve.statement()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["DATA", "--task", "masks"], "labels for classes, but not for masks"),
        (["DATA", "--task", "seg"], "labels for classes, but not for masks"),
        (["DATA", "--task", "mask"], "did you mean 'masks'"),
        (["DATA", "--world"], "give either a folder"),
        ([], "give either a folder"),
        (["DATA", "--probe", "knn"], "such as --task classes"),
        (["DATA", "--task", "classes", "--probe", "dpt"], "unknown probe of classes 'dpt'"),
        (["DATA", "--samples", "0"], "at least 1"),
        (["DATA", "--samples", "4"], "samples must be at least 5"),
        (["DATA", "--task", "classes", "--layers", "9"], "no layer 9"),
        (["DATA", "--save", "DATA"], "not an empty folder"),
        (["DATA", "--out", "curve.txt"], ".json"),
        (["nowhere"], "there is no file or folder nowhere"),
    ],
)
def test_mistakes_are_explained(
    arguments: list[str], message: str, coloured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = str(tiny.folder(tmp_path / "model"))
    given = [str(coloured) if argument == "DATA" else argument for argument in arguments]
    assert main(["layers", *given, "--model", model]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "left out" not in error  # the reason is given once


def test_a_plot_is_valid_xml():
    import xml.etree.ElementTree as ElementTree

    curve = layers(tiny.encoder(), data("classes"), "classes")
    root = ElementTree.fromstring(svg([curve, curve]))
    assert len(root.findall(".//{http://www.w3.org/2000/svg}circle")) == 6
