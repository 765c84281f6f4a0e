"""pe/finetune: the split of own images, refused leaks and bad input, the layers' rates, adapters, averaging, and the report."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import percept
from percept.core.errors import PerceptError
from percept.core.io import load_tensors
from percept.data.sources.captions import CaptionChoice
from percept.optim.rules import Scale, action_of, parameter_groups
from percept.recipes import pe_finetune, pe_own, pe_report, pe_stages
from percept.recipes.pe_finetune import Config, layer_rates
from percept.recipes.pe_own import Known, opened_own
from percept.recipes.plm import Lora
from percept.train import Placement, Settings, fit
from percept.weights.cast import average_with
from percept.world import STYLES
from tests.models.small import clip
from tests.recipes.pictures import captioned, classed, picture
from tests.recipes.test_pe_stages import changed, saved

PLACE = Placement(device=torch.device("cpu"))
SETTINGS = Settings(steps=2, batch=4, learning_rate=1e-3, warmup=0, log_every=1, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "start")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return classed(tmp_path / "photos", 5)


def config(start: Path, data: Path, **changes: object) -> Config:
    return Config(init=str(start), data=str(data), settings=SETTINGS, world_images=0, **{"check_every": 0, **changes})  # type: ignore[arg-type]


def test_a_share_of_every_class_is_held_out_and_the_split_is_kept(photos: Path) -> None:
    own = opened_own(str(photos), "", held_out=0.4, seed=0)
    assert own.classes == ("cat", "fire_truck")
    assert sorted(each.kind for each in own.test) == ["cat"] * 2 + ["fire_truck"] * 2
    trained = {own.train.key(place) for place in range(len(own.train))}
    assert len(trained) == 6
    assert not trained & {each.key for each in own.test}
    again = opened_own(str(photos), "", held_out=0.4, seed=0)
    assert again.test == own.test
    other = opened_own(str(photos), "", held_out=0.4, seed=1)
    assert {each.key for each in other.test} != {each.key for each in own.test}


def test_near_duplicates_stay_on_one_side(tmp_path: Path) -> None:
    folder = classed(tmp_path / "photos", 6)
    for number in range(6):
        picture(number).save(folder / "cat" / f"copy{number}.jpg", quality=95)
    own = opened_own(str(folder), "", held_out=0.5, seed=0)
    tests = {Path(each.key).stem.removeprefix("copy") for each in own.test if each.kind == "cat"}
    trained = {Path(own.train.key(place)) for place in range(len(own.train))}
    assert tests
    assert not tests & {path.stem.removeprefix("copy") for path in trained if path.parent.name == "cat"}


def test_a_test_folder_with_training_images_is_refused(photos: Path, tmp_path: Path) -> None:
    apart = classed(tmp_path / "apart", 3, first=50)
    own = opened_own(str(photos), str(apart), held_out=0.2, seed=0)
    assert (len(own.train), len(own.test)) == (10, 6)
    picture(2).resize((64, 64)).save(apart / "cat" / "again.jpg")
    with pytest.raises(
        PerceptError, match=r"1 of 7 test images are also training images, for example cat/again.jpg and cat/2.png"
    ):
        opened_own(str(photos), str(apart), held_out=0.2, seed=0)
    picture(1002).save(apart / "cat" / "again.jpg")  # the image of another class, which is not an answer
    assert len(opened_own(str(photos), str(apart), held_out=0.2, seed=0).test) == 7
    classed(apart, 1, classes=("dog",), first=70)
    with pytest.raises(PerceptError, match="classes that training has not: dog"):
        opened_own(str(photos), str(apart), held_out=0.2, seed=0)


def test_images_with_captions_have_no_classes(tmp_path: Path) -> None:
    own = opened_own(str(captioned(tmp_path / "captioned", 10)), "", held_out=0.2, seed=0)
    assert own.classes == ()
    assert [each.kind.startswith("a picture of number") for each in own.test] == [True, True]


def test_captions_come_from_the_field_that_is_named(start: Path, photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.rglob("*.png"))[:6]
    rows = [f"{file},number {place}" for place, file in enumerate(files)]
    table = tmp_path / "rows.csv"
    table.write_text("\n".join(["path,words_of_it", *rows]))
    with pytest.raises(PerceptError, match=r"fields with text: words_of_it.*--captions names their field"):
        opened_own(str(table), "", held_out=0.2, seed=0)
    named = config(start, table, captions=("words_of_it",))
    own = opened_own(str(table), "", held_out=0.0, seed=0, choice=CaptionChoice(named.captions))
    begun = pe_stages.opened(str(start))
    source = pe_finetune.rows_of(named, own, begun)
    texts = {begun.tokenizer.decode(row.tolist()) for step in range(2) for row in source.batch(step).tokens}  # type: ignore[attr-defined]
    assert len(texts) == 6


def test_bad_folders_say_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def opened(path: Path, held_out: float = 0.2) -> pe_own.Own:
        return opened_own(str(path), "", held_out=held_out, seed=0)

    with pytest.raises(PerceptError, match="single class 'cat'"):
        opened(classed(tmp_path / "single", 3, classes=("cat",)))
    with pytest.raises(PerceptError, match="same name in texts"):
        opened(classed(tmp_path / "twice", 2, classes=("fire_truck", "fire truck")))
    with pytest.raises(PerceptError, match="too few"):
        opened(classed(tmp_path / "few", 1))
    broken = classed(tmp_path / "broken", 4)
    (broken / "cat" / "0.png").write_bytes(b"nothing")
    assert len(opened(broken).train) + len(opened(broken).test) == 7
    assert "1 left out, broken image" in capsys.readouterr().err
    for path in broken.glob("*/*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(PerceptError, match="no image that can be used"):
        opened(broken)
    bare = tmp_path / "bare"
    bare.mkdir()
    Image.new("RGB", (8, 8)).save(bare / "1.png")
    with pytest.raises(PerceptError, match="no caption"):
        opened(bare)
    assert opened(classed(tmp_path / "all", 1), held_out=0.0).test == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": ""}, "no data"),
        ({"init": ""}, "no model to begin with"),
        ({"held_out": 1.0}, "held_out"),
        ({"average": 2.0}, "average"),
        ({"layer_decay": 0.0}, "layer_decay"),
        ({"templates": ("a cup",)}, "must contain"),
        ({"world_images": -1}, "world_images"),
    ],
)
def test_a_run_that_cannot_begin_says_why(start: Path, change: dict, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        pe_finetune.recipe(Config(**{"init": str(start), "data": "photos", **change}))


def test_classes_become_texts_by_all_templates(start: Path, photos: Path) -> None:
    run = config(start, photos, templates=("a picture of a {}", "a {}"))
    experiment = pe_finetune.recipe(run)
    source = experiment.source(PLACE)
    tokenizer = percept.load(start, device="cpu").tokenizer
    assert tokenizer is not None
    seen = set()
    for step in range(4):
        batch = source.batch(step).tensors()
        for ids, label in zip(batch["tokens"], batch["label"], strict=True):
            seen.add((tokenizer.decode(ids.tolist()), int(label)))
    assert seen <= {
        *(("a picture of a cat", 0), ("a cat", 0), ("a picture of a fire truck", 1), ("a fire truck", 1)),
    }
    assert len(seen) == 4


def test_rates_fall_with_depth() -> None:
    model = torch.nn.ModuleDict({"clip": clip()})
    rules = layer_rates(3, 2, 0.5)
    rates = {name: action_of(name, rules) for name, _ in model.named_parameters()}
    assert all(isinstance(action, Scale) for action in rates.values())
    expected = {
        "clip.vision.pool.qkv.weight": 1, "clip.vision.blocks.2.mlp.up.weight": 0.5, "clip.vision.blocks.0.norm_1.weight": 0.125,
        "clip.vision.patch.weight": 0.0625, "clip.vision.positions": 0.0625, "clip.text.blocks.1.mlp.up.weight": 0.5,
        "clip.text.embedding.weight": 0.125, "clip.log_scale": 1,
    }  # fmt: skip
    found = {name: rates[name].rate for name in rates if name in expected}  # type: ignore[union-attr]
    assert {name: found.get(name) for name in found} == {name: expected[name] for name in found}
    assert len(found) >= 6
    assert {group["lr"] for group in parameter_groups(model, rules, rate=1.0)} == {1, 0.5, 0.25, 0.125, 0.0625}
    assert layer_rates(3, 2, 1) == ()


def test_weights_are_averaged_with_those_of_the_start() -> None:
    first, second = clip(), clip()
    wanted = {name: 0.75 * value + 0.25 * second.state_dict()[name] for name, value in first.state_dict().items()}
    average_with(second, first, 0.25)
    for name, value in second.state_dict().items():
        torch.testing.assert_close(value, wanted[name])


@pytest.mark.parametrize("train", ["all", "lora"])
def test_fine_tuning_writes_a_model_and_its_report(start: Path, photos: Path, tmp_path: Path, train: str) -> None:
    lora = Lora(rank=2, alpha=4.0, layers=pe_finetune.ADAPTED)
    run = config(start, photos, train=train, lora=lora, held_out=0.4)
    fit(pe_finetune.recipe(run, command="percept train pe/finetune"), tmp_path / "run")
    names = changed(start, tmp_path / "run")
    blocks = {name for name in names if ".blocks." in name}
    assert blocks
    assert (names == blocks) is (train == "lora")
    report = json.loads((tmp_path / "run" / "finetune.json").read_text())
    assert (report["classes"], report["trained on"], report["held out"]) == (["cat", "fire_truck"], 6, 4)
    (row,) = report["scores"]
    assert row["change"]["value"] == pytest.approx(row["after"]["value"] - row["before"]["value"])
    assert row["change"]["n"] == 4


def test_the_words_of_own_classes_count_as_known(photos: Path, tmp_path: Path) -> None:
    first = saved(tmp_path / "start", words="a picture of a cat")
    fit(pe_finetune.recipe(config(first, photos)), tmp_path / "run")
    before, after = (pe_stages.opened(str(folder)).tokenizer for folder in (first, tmp_path / "run"))
    assert before.unknown("a fire truck and a cat") == ["fire", "truck", "and"]
    assert after.unknown("a fire truck and a cat") == ["and"]


def test_no_average_is_the_start_itself(start: Path, photos: Path, tmp_path: Path) -> None:
    fit(pe_finetune.recipe(config(start, photos, average=0.0, held_out=0.0)), tmp_path / "run")
    assert changed(start, tmp_path / "run") == set()
    assert json.loads((tmp_path / "run" / "finetune.json").read_text())["scores"] == []


def test_a_resumed_run_is_the_uninterrupted_one(start: Path, tmp_path: Path) -> None:
    data = captioned(tmp_path / "captioned", 8)
    run = config(start, data)
    fit(pe_finetune.recipe(run), tmp_path / "whole")
    fit(pe_finetune.recipe(run), tmp_path / "parts", minutes=0.0)
    fit(pe_finetune.recipe(run), tmp_path / "parts")
    whole, parts = (load_tensors(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_images_that_are_added_to_a_finished_run_are_not_measured_on(start: Path, photos: Path, tmp_path: Path) -> None:
    run = config(start, photos)
    fit(pe_finetune.recipe(run), tmp_path / "run")
    fit(pe_finetune.recipe(run), tmp_path / "run")  # repeats the report
    for number in range(50, 54):
        picture(number).save(photos / "cat" / f"{number}.png")
    with pytest.raises(PerceptError, match="different values of training data"):
        fit(pe_finetune.recipe(run), tmp_path / "run")


def test_a_difference_of_shares_has_an_interval_that_small_numbers_widen() -> None:
    some, none = np.array([True, False, True, False]), np.array([False, False, True, False])
    score = pe_report.paired("change", none, some)
    assert (score.value, score.n) == (0.25, 4)
    # by hand, with half an answer added to each outcome: gained 1.5, lost 0.5, of 6
    half = 1.959964 * ((2 / 6 - (1 / 6) ** 2) / 6) ** 0.5
    assert (score.low, score.high) == (pytest.approx(1 / 6 - half), pytest.approx(1 / 6 + half))
    widths = [pe_report.paired("", np.ones(n, bool), np.ones(n, bool)).high for n in (2, 20, 2000)]
    assert widths == sorted(widths, reverse=True)
    assert 0 < widths[-1] < 0.001
    assert pe_report.paired("", np.zeros(2, bool), np.ones(2, bool)).high == 1


def test_the_report_compares_the_same_images(start: Path, photos: Path, tmp_path: Path) -> None:
    own = opened_own(str(photos), "", held_out=0.4, seed=0)
    models = [percept.load(folder, device="cpu") for folder in (start, saved(tmp_path / "other"))]
    rows = pe_report.compare(models[0], models[1], own, ("a {}",), world_images=6)
    assert [(row.name.split(",")[0], row.change.n) for row in rows] == [
        ("own images", 4), ("zero-shot on the world", 1), ("zero-shot on the world", 6),
    ]  # fmt: skip
    guesses = [
        guess[0].label  # type: ignore[index]
        for guess in models[0].classify([str(each.media) for each in own.test], ["cat", "fire truck"], "a {}")
    ]
    right = [guess == each.kind.replace("_", " ") for guess, each in zip(guesses, own.test, strict=True)]
    assert rows[0].before.value == sum(right) / 4
    pairs = tuple(replace(each, kind=f"number {place}") for place, each in enumerate(own.test))
    texts = pe_report.own_right(models[0], pe_own.Own(train=own.train, test=pairs, classes=()), ("a {}",))
    image, text = models[0].image([each.media for each in pairs]), models[0].text([each.kind for each in pairs])
    assert texts.tolist() == [int(row.argmax()) == place for place, row in enumerate(text @ image.T)]


def test_the_zero_shot_accuracy_is_logged_while_training(start: Path, photos: Path, tmp_path: Path) -> None:
    fit(pe_finetune.recipe(config(start, photos, check_every=1, held_out=0.0)), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "zero_shot" in line] == [0, 1, 2]
    measured = pe_finetune.zero_shot(lambda: pe_stages.opened(str(start)), 6)
    task = torch.nn.ModuleDict({"clip": pe_stages.opened(str(start)).clip()})
    right = pe_report.world_right(percept.load(start, device="cpu"), 6 * len(STYLES))["plain"]
    assert measured(task, 0)["zero_shot"] == pytest.approx(right.mean())


def test_blank_images_are_never_leaks() -> None:
    known = [Known(row=0, key="a", media=b"", kind="cat", look=0), Known(row=1, key="b", media=b"", kind="cat", look=0)]
    pe_own._check_leaks(known[:1], known[1:])
    assert len(set(pe_own.groups_of(known).tolist())) == 2
