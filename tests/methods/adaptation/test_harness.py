"""The harness of adaptation: layouts, counts of the papers, schedule, sampling, records and paired comparisons."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import percept
from percept.core.errors import PerceptError
from percept.data.few_shot import base_and_new, few_shot
from percept.data.tokenizers import Tokenizer
from percept.methods.adaptation.bench import Arm, Case, averages, by_key, paired, read_records, run, run_all, verdict
from percept.methods.adaptation.cocoop import CoCoOp
from percept.methods.adaptation.contract import Training, Views, tiny_base, tiny_shots
from percept.methods.adaptation.coop import CoOp, epochs_of
from percept.methods.adaptation.few import LabelledSet, see
from percept.methods.adaptation.kgcoop import knowledge_loss
from percept.methods.adaptation.linear_probe import LinearProbe
from percept.methods.adaptation.measure import harmonic, measure
from percept.methods.adaptation.prompts import PHRASE, PromptConfig
from percept.methods.adaptation.texts import Base, base_of, lay_out
from percept.methods.adaptation.tip_adapter import TipAdapter
from percept.methods.adaptation.trainer import Rounds, fit, fit_batches, with_steps
from percept.methods.saved import save_method
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.optim.schedule import constant_then_cosine

NAMES = ("cat", "traffic light", "pair of scissors")


@pytest.fixture(scope="module")
def nano() -> Any:
    return percept.load("nano", device="cpu", dtype="float32")


def test_a_context_of_the_words_of_the_template_equals_the_template(nano: Any) -> None:
    method = CoOp(CoOp.Config(prompt=PromptConfig(context=4, phrase=PHRASE)), base_of(nano), NAMES).eval()
    vector = torch.nn.functional.normalize(torch.randn(5, 256), dim=1)
    nothing = torch.zeros(5, dtype=torch.int64)
    with torch.no_grad():
        logits = method.logits(Views(label=nothing, row=nothing, vector=vector))
        vectors = method.class_vectors()
    hand = nano.scale * vector @ nano.text([f"a photo of a {name}." for name in NAMES]).T
    assert float((logits - hand).abs().max()) < 1e-4
    assert float((vectors - nano.text([f"a photo of a {name}." for name in NAMES])).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("position", "order"), [("end", [0, 1, 2, 3, -1]), ("middle", [0, 1, -1, 2, 3]), ("front", [-1, 0, 1, 2, 3])]
)
def test_the_name_stands_where_the_position_says(nano: Any, position: str, order: list[int]) -> None:
    layout = lay_out(nano.tokenizer, ("cat", "traffic light"), count=4, before=PHRASE, position=position)
    assert layout.place[0].tolist()[1:6] == order
    assert layout.ids[0, layout.ends[0]] == nano.tokenizer.end_id
    assert layout.lengths == (1, 2)
    assert layout.ends.tolist() == [7, 8]


def test_left_over_words_of_a_phrase_stay_as_fixed_tokens(nano: Any) -> None:
    config = PromptConfig(context=2, phrase=PHRASE, leftover_words=True)
    method = CoOp(CoOp.Config(prompt=config), base_of(nano), NAMES)
    torch.testing.assert_close(
        method.class_vectors(), nano.text([f"a photo of a {name}." for name in NAMES]), atol=1e-5, rtol=0
    )


def wide_base() -> Base:
    """Return towers with the widths of ViT-B/16 and a single layer."""
    tokenizer = Tokenizer.train(["a photo of a cat."], vocab_size=280, context=77)
    vision = VisionConfig(image_size=16, patch_size=16, width=32, layers=1, heads=1, pool_heads=1, output_dim=512)
    text = TextConfig(context=77, vocabulary=tokenizer.vocab_size, width=512, layers=1, heads=8, output_dim=512)
    return Base(clip=CLIP(ClipConfig(vision=vision, text=text)), tokenizer=tokenizer)


def test_trained_values_are_those_of_the_papers() -> None:
    base = wide_base()
    counts = {
        2_048: CoOp(CoOp.Config(prompt=PromptConfig(context=4)), base, NAMES),
        8_192: CoOp(CoOp.Config(), base, NAMES),
        3 * 8_192: CoOp(CoOp.Config(prompt=PromptConfig(per_class=True)), base, NAMES),
        35_360: CoCoOp(CoCoOp.Config(prompt=PromptConfig(context=4)), base, NAMES),
    }
    for count, method in counts.items():
        method.check_trainable()
        assert sum(method.trainable().values()) == count


def test_a_context_per_class_knows_no_other_classes(nano: Any) -> None:
    method = CoOp(CoOp.Config(prompt=PromptConfig(per_class=True)), base_of(nano), NAMES)
    with pytest.raises(PerceptError, match="knows only the classes"):
        method.use(("dog", "owl"))


@pytest.mark.parametrize(
    ("names", "message"),
    [(("cat", "cat"), "two classes are called"), (("cat", " "), "must not be empty"), (("cat", "dog " * 60), "has 60 tokens, but 16 learned")],
)  # fmt: skip
def test_names_that_cannot_be_used_are_refused(nano: Any, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(PerceptError, match=message):
        CoOp(CoOp.Config(), base_of(nano), names)


def test_an_encoder_without_texts_is_refused() -> None:
    vision = VisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=1, pool_heads=1, output_dim=12)
    with pytest.raises(PerceptError, match="no text tower"):
        Base(clip=CLIP(ClipConfig(vision=vision)), tokenizer=tiny_base().tokenizer)


def test_towers_in_bfloat16_are_not_trained(nano: Any) -> None:
    rounded = percept.load("nano", dtype="bfloat16")
    method = CoOp(CoOp.Config(), base_of(rounded), NAMES)
    with pytest.raises(PerceptError, match=r"stored in bfloat16.*dtype='float32'"):
        fit_batches(method, Training(epochs=1), lambda epoch: [])


def test_the_schedule_is_that_of_dassl() -> None:
    rates = [constant_then_cosine(epoch, rate=0.002, epochs=50) for epoch in range(50)]
    assert rates[0] == 1e-5
    assert rates[1] == 0.002
    assert rates[-1] == pytest.approx(0.001 * (1 + np.cos(np.pi * 48 / 50)))
    assert [epochs_of(shots) for shots in (1, 2, 4, 8, 16)] == [50, 100, 100, 200, 200]


def test_a_split_of_the_classes_changes_no_sample() -> None:
    labels = np.random.default_rng(0).integers(0, 6, 200)
    everything = few_shot(labels, 4, 1)
    base = np.flatnonzero(np.isin(labels, base_and_new(6)[0]))
    assert [int(row) for row in everything if labels[row] < 3] == base[few_shot(labels[base], 4, 1)].tolist()
    assert not np.array_equal(everything, few_shot(labels, 4, 2))
    assert len(few_shot([0, 0, 1], 2, 0)) == 3


def test_the_last_part_of_an_epoch_is_left_out_unless_it_is_the_only_one() -> None:
    method, batch = CoOp.tiny()
    shots = tiny_shots(batch.vector, batch.label, torch.zeros(4, 3, 16, 16))
    assert [len(each) for each in Rounds(shots, Training(batch=3), method, 0).epoch(0)] == [3]
    assert [len(each) for each in Rounds(shots, Training(batch=32), method, 0).epoch(0)] == [4]
    rows = [row for each in Rounds(shots, Training(batch=2), method, 0).epoch(0) for row in each.row.tolist()]
    assert sorted(rows) == [0, 1, 2, 3]


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    method, batch = CoOp.tiny()
    shots = tiny_shots(batch.vector, batch.label, torch.zeros(4, 3, 16, 16))
    with torch.no_grad():
        before = float(method(batch)["loss"])
    trained = fit(method, shots, Training(epochs=20, batch=4, rate=0.02, optimiser="adamw"), seed=0)
    with torch.no_grad():
        assert float(method(batch)["loss"]) < before
    assert trained.steps == 20


def test_the_knowledge_loss_is_the_mean_squared_distance() -> None:
    one, other = torch.randn(4, 3), torch.randn(4, 3)
    loop = sum(float((one[c] - other[c]).square().sum()) for c in range(4)) / 4
    assert float(knowledge_loss(one, other)) == pytest.approx(loop, rel=1e-5)


def test_tip_adapter_adds_the_cache_to_the_zero_shot_logits() -> None:
    torch.manual_seed(0)
    method, batch = TipAdapter.tiny()
    with torch.no_grad():
        zero_shot = method.clip.scale() * batch.vector @ method.hand_vectors().T
        expected = zero_shot.clone()
        for row in range(4):
            for entry in range(4):
                near = torch.exp(-5.5 * (1 - batch.vector[row] @ batch.vector[entry]))
                expected[row, batch.label[entry]] += near
        torch.testing.assert_close(method.eval().logits(batch), expected, atol=1e-4, rtol=1e-4)
        other = method.use(("book", "photo")).logits(batch)
        torch.testing.assert_close(other, method.clip.scale() * batch.vector @ method.hand_vectors().T)


def test_the_harmonic_mean_of_the_published_tables() -> None:
    assert round(harmonic(85.68, 77.16), 2) == 81.20
    assert round(harmonic(84.00, 77.23), 2) == 80.47
    assert round(harmonic(82.69, 63.22), 2) == 71.66


def noise_set(count: int = 8) -> LabelledSet:
    pixels = np.random.default_rng(0).integers(0, 255, (4 * count, 16, 16, 3), dtype=np.uint8)
    inside = np.tile(np.arange(count), 4) < count // 2
    return LabelledSet(
        name="noise", classes=("cup", "old book", "red cup", "photo"), image=lambda row: pixels[row], labels=np.repeat(np.arange(4), count),
        keys=tuple(map(str, range(4 * count))), pool=np.flatnonzero(inside), test=np.flatnonzero(~inside), looks=np.arange(4 * count),
    )  # fmt: skip


@pytest.fixture(scope="module")
def tiny_encoder() -> Any:
    from percept.data.transforms import Preprocess
    from percept.infer.encoder import Encoder

    torch.manual_seed(0)
    base = tiny_base()
    return Encoder(base.clip, preprocess=Preprocess(size=16), tokenizer=base.tokenizer, name="tiny")


def test_vectors_are_stored_once(tiny_encoder: Any, tmp_path: Path) -> None:
    data = noise_set()
    first = see(tiny_encoder, data, cache=tmp_path)
    drawn = data.drawn(2, 1)
    shots = first.shots(drawn, "base")
    unread = LabelledSet(**{**vars(data), "image": lambda row: pytest.fail(f"image {row} was read again")})
    again = see(tiny_encoder, unread, cache=tmp_path)
    assert torch.equal(first.vectors, again.vectors)
    assert torch.equal(shots.vectors, again.shots(drawn, "base").vectors)
    assert shots.vectors.shape[:2] == (2, 4)
    assert shots.names == ("cup", "old book")
    assert shots.label.tolist() == [0, 0, 1, 1]


def test_a_bench_goes_on_where_it_stopped_and_pairs_runs(tiny_encoder: Any, tmp_path: Path) -> None:
    arms = [
        Arm(method="zero-shot"),
        Arm(method="coop", config=CoOp.Config(prompt=PromptConfig(context=2)), training={"epochs": 1}),
    ]
    cases = [Case(shots=2, seed=seed) for seed in (1, 2)]
    seen, told = see(tiny_encoder, noise_set()), []
    records = run_all(arms, [seen], cases, tmp_path / "runs.jsonl", told=told.append)
    assert len(records) == len(told) == 4
    assert (
        run_all(arms, [seen], cases, tmp_path / "runs.jsonl", told=told.append)
        == records
        == read_records(tmp_path / "runs.jsonl")
    )
    assert len(told) == 4
    difference = paired(records, "coop", "zero-shot", "base")
    assert difference is not None
    assert difference.n == 2
    assert verdict(difference) in ("holds", "does not hold", "within noise")
    assert set(averages(records, "coop")) == {"base", "new", "all", "harmonic", "harmonic of means"}
    assert len({record["shots hash"] for record in records if record["seed"] == 1}) == 1
    assert {tuple(record["per class"]["new"]) for record in records} == {("red cup", "photo")}
    broken = [record | {"shots hash": record["label"]} for record in records]
    with pytest.raises(AssertionError, match="different shots"):
        paired(broken, "coop", "zero-shot", "base")


@pytest.mark.parametrize("stored", [{"vectors": "0" * 16}, {}])
def test_runs_with_different_weights_are_not_continued(
    stored: dict[str, str], tiny_encoder: Any, tmp_path: Path
) -> None:
    file = tmp_path / "runs.jsonl"
    run_all([Arm(method="zero-shot")], [seen := see(tiny_encoder, noise_set())], [Case(shots=2)], file)
    (record,) = read_records(file)
    file.write_text(json.dumps({key: value for key, value in record.items() if key != "vectors"} | stored) + "\n")
    with pytest.raises(PerceptError, match="different weights"):
        run_all([Arm(method="coop")], [seen], [Case(shots=2)], file)


def test_runs_with_different_settings_are_not_continued(tiny_encoder: Any, tmp_path: Path) -> None:
    file, seen, case = tmp_path / "runs.jsonl", see(tiny_encoder, noise_set()), Case(shots=2)
    arm = Arm(method="coop", config=CoOp.Config(prompt=PromptConfig(context=2)), training={"epochs": 1})
    run_all([arm], [seen], [case], file)
    changed = [
        replace(arm, config=CoOp.Config(prompt=PromptConfig(context=3))), replace(arm, training={"epochs": 2}), replace(arm, training={"epochs": 1, "rate": 0.1}),
    ]  # fmt: skip
    for other in changed:
        with pytest.raises(PerceptError, match="coop tiny noise base 2 1 with different settings"):
            run_all([other], [seen], [case], file)
    with pytest.raises(PerceptError, match="different settings"):
        run_all([arm], [seen], [replace(case, steps=5)], file)
    assert len(run_all([arm], [seen], [case], file)) == 1


def test_records_of_several_files_are_merged(tiny_encoder: Any) -> None:
    record = {"label": "a", "foundation": "b", "data": "c", "split": "base", "shots": 1, "seed": 1, "settings": "x", "vectors": "y"}  # fmt: skip
    assert list(by_key([record, {**record, "seed": 2}, dict(record)]).values()) == [record, {**record, "seed": 2}]
    for changed in ({"settings": "z"}, {"seed": 2, "vectors": "z"}):
        with pytest.raises(PerceptError, match="different settings or weights"):
            by_key([record, record | changed])


@pytest.mark.parametrize(
    ("epochs", "batch", "images", "expected"),
    [(200, 32, 96, (100, 1)), (5, 4, 96, (12, 1)), (100, 128, 96, (300, 1)), (10, 1, 320, (1, 0)), (5, 4, 320, (4, 1)), (0, 32, 96, (0, 1))],
)  # fmt: skip
def test_a_number_of_steps_gives_whole_epochs(epochs: int, batch: int, images: int, expected: tuple[int, int]) -> None:
    found = with_steps(Training(epochs=epochs, batch=batch, rate=0.5), images, 300)
    assert (found.epochs, found.warmup) == expected
    assert (found.batch, found.rate) == (batch, 0.5)
    assert with_steps(Training(warmup=5), 64, 8).warmup == 2


def test_arms_take_the_steps_of_the_case(tiny_encoder: Any) -> None:
    seen, few = see(tiny_encoder, noise_set()), CoOp.Config(prompt=PromptConfig(context=2))
    arms = (
        Arm(method="coop", config=few),
        Arm(method="coop", label="small", config=few, training={"batch": 1}),
        Arm(method="zero-shot"),
    )
    steps = [run(arm, seen, Case(shots=3, steps=6)).record["steps"] for arm in arms]
    assert steps == [6, 6, 0]


def test_differences_are_resampled_over_cells_or_over_sets() -> None:
    values = {"x": (0.1, 0.2, 0.3), "y": (0.5, 0.6, 0.7)}
    records = [
        {"label": label, "data": data, "foundation": "f", "seed": seed, "split": "all", "shots": 2, "shots hash": data, "scores": {"all": [value, 0, 1]}}
        for data, each in values.items() for seed, own in enumerate(each) for label, value in (("a", own), ("b", 0.0))
    ]  # fmt: skip
    cells, sets = (paired(records, "a", "b", "all", over=over) for over in ("cells", "sets"))
    assert cells is not None
    assert sets is not None
    assert (cells.n, sets.n) == (6, 2)
    assert cells.value == pytest.approx(0.4)
    assert sets.value == pytest.approx(0.4)
    assert (sets.low, sets.high) == pytest.approx((0.2, 0.6))
    assert cells.high - cells.low < sets.high - sets.low


def test_one_arm_is_paired_with_itself_by_shots() -> None:
    cell = {"label": "a", "data": "x", "foundation": "f", "split": "all"}
    records = [
        cell | {"seed": seed, "shots": shots, "shots hash": str(shots), "scores": {"all": [shots / 16, 0, 1]}}
        for seed in range(3)
        for shots in (1, 4, 16)
    ]
    kept = [record for record in records if record["shots"] != 4]
    found = paired(kept, "a", "a", "all", than_shots=1)
    assert found is not None
    assert (found.n, found.value) == (3, pytest.approx(15 / 16))


def test_a_trained_method_is_measured_on_a_different_set(tiny_encoder: Any) -> None:
    arm = Arm(method="coop", config=CoOp.Config(prompt=PromptConfig(context=2)), training={"epochs": 1})
    method = run(arm, see(tiny_encoder, noise_set()), Case(split="all", shots=2)).method
    other = replace(noise_set(), classes=("a photo", "red book", "old cup", "an old red cup"), template="the {}")
    found = measure(method, see(tiny_encoder, other), np.zeros(0, dtype=np.int64), ("all",))
    assert found.scores["all"].n == 16
    assert method.names == other.classes
    assert method.template == "the {}"


@pytest.mark.parametrize("kind", [CoOp, TipAdapter, LinearProbe])
def test_a_saved_method_classifies_as_before(kind: Any, nano: Any, tmp_path: Path) -> None:
    images = torch.randn(3, 3, 96, 96)
    method = kind(kind.Config(), base_of(nano), NAMES, "a picture of a {}.")
    vectors = nano.image(images)
    shots = tiny_shots(vectors, torch.tensor([0, 1, 2]), images)
    shots = type(shots)(**{**vars(shots), "names": NAMES})
    fit(method, shots, Training(epochs=1, batch=3), seed=0)
    save_method(tmp_path / "saved", method, base="nano")
    opened: Any = percept.load(tmp_path / "saved", device="cpu", dtype="float32")
    assert opened.classes == NAMES
    with torch.no_grad():
        torch.testing.assert_close(opened.class_logits(images), method.class_logits(images), atol=1e-4, rtol=1e-4)
    assert opened.method.template == "a picture of a {}."
