"""Layers are compared with a constant answer and with the last layer; labels that cannot be used are left out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from percept.cli import main
from percept.core.errors import PerceptError
from percept.eval.curve import recommended, svg
from percept.eval.labelled import Labelled
from percept.eval.layers import layers, save_best
from percept.eval.probes.boxes import Truth
from percept.eval.probes.chance import CHANCES, Chance
from percept.eval.probes.grouped import grouped_difference, grouped_score
from percept.eval.probes.outcome import Difference, Sums, ratio
from percept.eval.probes.probe import Setup
from percept.eval.probes.stream import frame_of
from percept.eval.world_labels import world_labels
from tests.eval.probes.test_layers import data, encoder, squares
from tests.infer import tiny


def answer(task: str, *seen: object, classes: tuple[str, ...] = ("a", "b", "c"), unit: str = "") -> Chance:
    chance = CHANCES[task](Setup(frame=frame_of(tiny.encoder()), classes=classes, unit=unit))  # pyright: ignore[reportArgumentType]
    for target in seen:
        chance.see(target)
    return chance


def values(chance: Chance, *targets: object) -> list[float]:
    every = np.ones((1, len(targets)))
    return [float(getattr(one, "library", one.values(every)[0])) for one in chance.judge([], list(targets)).values()]


def test_a_constant_answer_is_the_largest_class_and_the_mean():
    assert values(answer("classes", 0, 2, 2), 2, 2, 0, 1) == [0.5]
    two = np.zeros((24, 24), np.int64)
    two[:, :6] = 1
    assert values(answer("masks", two), two) == [0.75 / 2]
    assert values(answer("masks", two), np.where(two, -1, 0)) == [1.0]
    depth = answer("depth", np.array([[1.0, 3.0], [0.0, np.nan]]), unit="m")
    assert values(depth, np.full((24, 24), 2.0), np.full((24, 24), 4.0)) == [1.0, 0.5]


def test_a_constant_text_needs_the_fewest_edits():
    chance = answer("words", (None, ("See", "sea")), (None, ("set",)))
    assert values(chance, (None, ("sea",)), (None, ())) == [pytest.approx(1 / 3), 0.0]
    assert values(answer("words"), (None, ("sea",))) == [1.0, 0.0]


def test_random_retrieval_counts_equal_captions():
    texts = [(torch.zeros(2), caption) for caption in ("a", "a", "b", "c")]
    assert values(answer("captions"), *texts) == pytest.approx([1.5 / 4, 1.5 / 4, 1, 1])


def test_what_needs_no_training_stays_in_place():
    near, far = (np.array([[0.5, place]]) for place in (0.55, 0.9))
    first = np.array([[0.5, 0.5]])
    assert values(answer("points"), (first, near), (first, far)) == [0.5]
    masks = np.zeros((4, 24, 24), np.int64)
    masks[0, :, :12] = masks[1, :, :12] = masks[2, :, :6] = 1
    assert values(answer("tracks"), masks) == [0.75]


def test_a_constant_box_is_the_mean_of_the_largest_class():
    truth = Truth(boxes=np.array([[0.1, 0.1, 0.5, 0.5]]), labels=np.array([1]), crowd=np.zeros(1, bool))
    assert values(answer("boxes", truth), truth) == pytest.approx([1, 1], abs=1e-6)


@pytest.mark.parametrize("task", [*CHANCES])
def test_the_chance_level_has_the_measures_of_the_probe(task: str):
    if task == "words":
        curve = layers(tiny.encoder(), world_labels(task, count=10, size=48), task, layers=(1,))
    elif task == "boxes":
        pytest.importorskip("faster_coco_eval")
        curve = layers(tiny.encoder(), data(task, 10), task, layers=(1,))
    else:
        curve = layers(tiny.encoder(), data(task, 10), task, layers=(1,))
    assert [score.name for score in curve.chance] == [curve.measure, *curve.others]
    assert curve.chance[0].n == curve.scores[0].n


def constant(task: str) -> Labelled:
    """Return samples whose images say nothing about their labels."""
    return replace(data(task, 60), images=lambda number: [np.full((24, 24, 3), 128, np.uint8)])


def test_nothing_is_saved_if_no_layer_is_above_the_chance_level(tmp_path: Path):
    made = encoder()
    curve = layers(made, constant("masks"), "masks")
    assert not curve.learned
    assert curve.best == 2
    assert "no layer is above the chance level (mIoU" in curve.statement()
    assert curve.to_dict()["above chance"] is False
    with pytest.raises(PerceptError, match="no layer is above the chance level of masks, so no encoder and no head"):
        save_best(tmp_path / "best", made, curve)
    assert not (tmp_path / "best").exists()
    plain = tiny.encoder()
    assert save_best(tmp_path / "best", plain, layers(plain, constant("masks"), "masks", layers=(1,))).is_dir()
    assert layers(made, data("masks", 60), "masks").learned


def test_the_command_refuses_to_save_after_the_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = pairs(tmp_path / "pairs", grey=True)
    model, out, best = str(tiny.folder(tmp_path / "model")), tmp_path / "curve.json", tmp_path / "best"
    asked = ["layers", str(folder), "--model", model, "--out", str(out), "--save", str(best)]
    assert main(asked) == 2
    shown = capsys.readouterr()
    assert "chance" in shown.out
    assert "so no encoder and no head is saved" in shown.err
    assert json.loads(out.read_text())["tasks"][0]["chance"][0]["name"] == "mIoU"
    assert not best.exists()


@pytest.mark.parametrize(
    ("value", "better", "learned", "expected"),
    [
        (0.1, "more", True, 0), (-0.1, "more", True, 5), (0.0, "more", True, 0), (0.1, "more", False, 5),
        (0.1, "less", True, 5), (-0.1, "less", True, 0),
    ],
)  # fmt: skip
def test_a_chosen_layer_that_is_worse_on_the_test_samples_is_not_recommended(value, better, learned, expected):
    change = Difference(value=value, low=value - 0.2, high=value + 0.2)
    assert recommended(0, 5, change, learned=learned, better=better) == expected


def test_a_statement_says_that_the_chosen_layer_is_worse():
    curve = layers(encoder(), data("masks", 60), "masks")
    low, high = sorted(curve.scores, key=lambda score: score.value)[::2]
    worse = replace(
        curve, chosen=1, best=2, scores=(low, low, high), against_last=Difference(value=-0.2, low=-0.3, high=0.1)
    )
    assert (
        f"the last layer, 2, is kept (mIoU {high.shown}): layer 1, chosen on validation samples, is worse on the test samples "
        f"({low.shown}; difference -20.0 [-30.0 – 10.0])."
    ) in worse.statement()
    assert not worse.peaks_early


def test_samples_with_nothing_to_measure_do_not_count():
    sums = np.zeros((12, 2))
    sums[3] = (4, 5)
    score = grouped_score(Sums(sums=sums, measure=ratio, better="less"), None, "character error rate")
    assert (score.value, score.n) == (0.8, 1)
    groups = np.repeat(np.arange(4), 3)
    assert grouped_score(Sums(sums=sums, measure=ratio), groups, "words read").n == 1
    other = Sums(sums=np.where(sums, 5.0, 0.0), measure=ratio)
    assert grouped_difference(other, Sums(sums=sums, measure=ratio), groups).value == pytest.approx(0.2)


def test_few_samples_have_no_interval(capsys: pytest.CaptureFixture[str]):
    drawn = data("masks", 60)
    rare = replace(drawn, target=lambda number: drawn.target(number) if number % 8 == 0 else np.full((24, 24), -1))
    curve = layers(encoder(), rare, "masks")
    assert 0 < curve.scores[0].n < 5
    curve.show()
    assert "too few samples" in capsys.readouterr().out
    stored = curve.to_dict()
    assert stored["layers"][0]["low"] is None
    assert stored["chosen against last"]["high"] is None
    assert "too few samples for intervals" in svg([curve])
    assert 'class="band"' not in svg([curve])


def pairs(folder: Path, *, grey: bool = False) -> Path:
    for number in range(30):
        pixels, _, labels = squares(number)
        for name, values in (
            ("images", np.full_like(pixels, 128) if grey else pixels),
            ("masks", labels.astype(np.uint8)),
        ):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / name / f"{number:02d}.png")
    return folder


def test_labels_that_cannot_be_used_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = pairs(tmp_path)
    (folder / "masks" / "00.png").write_bytes(b"damaged")
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(folder / "masks" / "01.png")
    Image.fromarray(np.zeros((24, 24, 3), np.uint8)).save(folder / "masks" / "02.png")
    (folder / "images" / "03.png").write_bytes(b"damaged")
    curve = layers(encoder(), folder, "masks")
    assert sum(curve.samples.values()) == 26
    assert "4 of 30 samples are left out, because their image or label cannot be used" in capsys.readouterr().err
    reasons = " ".join(curve.facts["left out"])
    assert all(f"{number:02d}.png" in reasons for number in range(4))
    for number in range(4, 30):
        Image.fromarray(np.zeros((5, 4), np.uint8)).save(folder / "masks" / f"{number:02d}.png")
    with pytest.raises(PerceptError, match=r"18 of 18 training samples .* cannot be used\. The first reason: .*png"):
        layers(encoder(), folder, "masks")


def test_a_caption_that_cannot_be_read_is_left_out():
    drawn = data("captions", 60)

    def target(number: int) -> str:
        if number == 7:
            raise PerceptError("7.json cannot be read")
        return drawn.target(number)

    curve = layers(tiny.encoder(), replace(drawn, target=target), "captions", layers=(1,))
    assert curve.facts["left out"] == ["7.json cannot be read"]
