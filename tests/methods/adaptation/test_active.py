"""Active learning: acquisitions against plain loops, the balance of PCB, labels that only the oracle gives, and rounds."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.methods.adaptation.active import (
    Oracle,
    Plan,
    Round,
    area,
    by_badge,
    by_coreset,
    by_entropy,
    choose,
    label_entropy,
    learn,
    uneven,
)
from percept.methods.adaptation.bench import Arm
from percept.methods.adaptation.contract import tiny_base, tiny_shots
from percept.methods.adaptation.few import LabelledSet, Seen
from percept.methods.adaptation.pcb import DESCRIPTIONS, Described, balanced
from percept.methods.adaptation.prompts import PromptConfig


def test_equal_counts_and_one_candidate_per_class_choose_every_candidate_once() -> None:
    for seed in range(5):
        chosen = balanced(np.array([2, 0, 1, 3]), np.array([4, 4, 4, 4]), 4, random.Random(seed))
        assert sorted(chosen) == [0, 1, 2, 3]


def test_the_balance_fills_the_smallest_classes() -> None:
    predicted = np.array([0] * 10 + [1] * 3 + [2] * 3)
    chosen = balanced(predicted, np.array([5, 1, 2]), 5, random.Random(0))
    assert sorted(predicted[chosen].tolist()) == [1, 1, 1, 2, 2]


def test_a_class_without_candidates_blocks_the_rest_of_the_round_unless_it_is_skipped() -> None:
    predicted = np.array([0] * 50 + [1] * 4)
    stuck = [balanced(predicted, np.array([9, 5, 0]), 4, random.Random(seed)) for seed in range(20)]
    assert np.mean([predicted[each].mean() for each in stuck]) < 0.3  # random candidates, of which most are of class 0
    skipped = [balanced(predicted, np.array([9, 5, 0]), 4, random.Random(seed), skip_empty=True) for seed in range(20)]
    assert all(predicted[each].tolist() == [1] * 4 for each in skipped)


def test_entropy_takes_the_least_certain() -> None:
    logits = torch.tensor([[9.0, 0, 0], [1, 1, 1], [2, 1, 0], [3, 3, 0]])
    assert by_entropy(logits, 4) == [1, 2, 3, 0]


def test_coreset_is_the_farthest_first_loop() -> None:
    torch.manual_seed(0)
    vectors, labelled = torch.randn(12, 3), torch.randn(2, 3)
    chosen, centres = [], list(labelled)
    for _ in range(5):
        far = [min(float((v - c).norm()) for c in centres) if i not in chosen else -1 for i, v in enumerate(vectors)]
        chosen.append(int(np.argmax(far)))
        centres.append(vectors[chosen[-1]])
    assert by_coreset(vectors, labelled, 5) == chosen


def test_badge_draws_by_the_distance_of_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    logits, vectors = torch.randn(9, 3).double(), F.normalize(torch.randn(9, 4), dim=1).double()
    error = logits.softmax(dim=1) - F.one_hot(logits.argmax(dim=1), 3)
    gradient = torch.einsum("nc,nd->ncd", error, vectors).flatten(1)
    seen: list[tuple[list[int], list[float]]] = []
    rng = random.Random(0)
    monkeypatch.setattr(rng, "choices", lambda left, weights: (seen.append((left, weights)), [left[0]])[1])
    chosen = by_badge(logits, vectors, 4, rng)
    assert chosen[0] == int(gradient.square().sum(dim=1).argmax())
    for place, (left, weights) in enumerate(seen, start=1):
        expected = [min(float((gradient[i] - gradient[c]).square().sum()) for c in chosen[:place]) for i in left]
        assert weights == pytest.approx(expected, abs=1e-9)
    assert len(set(chosen)) == 4
    same = by_badge(torch.zeros(5, 3), torch.ones(5, 2), 5, random.Random(0))
    assert sorted(same) == list(range(5))


@pytest.mark.parametrize("acquisition", ["random", "entropy", "coreset", "badge"])
@pytest.mark.parametrize("balance", ["none", "predicted", "true"])
def test_every_plan_chooses_as_many_images_as_the_budget(acquisition: Any, balance: Any) -> None:
    torch.manual_seed(0)
    plan = Plan(acquisition=acquisition, balance=balance, share=0.5)
    logits, vectors = torch.randn(40, 4), F.normalize(torch.randn(40, 6), dim=1)
    found = [
        choose(plan, logits, vectors, vectors[:3], np.zeros(4, dtype=np.int64), budget=6, seed=seed, truth=lambda rows: rows % 4)
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert found[0] == found[1]
    assert all(len(set(rows)) == len(rows) == 6 for rows in found)
    if balance == "true" and acquisition != "random":
        assert max(np.bincount(np.array(found[0]) % 4)) == 2
    if balance == "none" and acquisition == "entropy":
        assert found[0] == by_entropy(logits, 6)


def test_the_label_entropy_and_uneven_pools() -> None:
    assert label_entropy(np.array([4, 4, 4])) == pytest.approx(1)
    assert label_entropy(np.array([1, 1, 0, 0])) == pytest.approx(0.5)
    labels = np.repeat(np.arange(4), 24)
    pool = uneven(np.arange(96), labels, power=1.0, seed=0)
    assert sorted(np.bincount(labels[pool]).tolist()) == [6, 8, 12, 24]
    assert len(set(pool.tolist())) == len(pool)


def test_an_image_is_labelled_once() -> None:
    oracle = Oracle(np.array([0, 1, 1]), 2)
    assert oracle.label(np.array([1, 2])).tolist() == [1, 1]
    assert oracle.counts().tolist() == [0, 2]
    with pytest.raises(AssertionError, match="labelled twice"):
        oracle.label(np.array([2]))


def tiny_seen() -> Seen:
    """A set whose vectors show the class."""
    torch.manual_seed(0)
    base: Any = tiny_base()
    labels = np.repeat(np.arange(4), 20)
    data = LabelledSet(
        name="points", classes=("cup", "old book", "red cup", "photo"), image=lambda row: pytest.fail("an image was read"), labels=labels,
        keys=tuple(map(str, range(80))), pool=np.flatnonzero(np.arange(80) % 20 < 14), test=np.flatnonzero(np.arange(80) % 20 >= 14),
        looks=np.arange(80),
    )  # fmt: skip
    centres = F.normalize(torch.randn(4, 12), dim=1)
    vectors = F.normalize(centres[torch.from_numpy(labels)] + 0.1 * torch.randn(80, 12), dim=1)

    class Encoder:
        name = "tiny"
        model, tokenizer = base.clip, base.tokenizer

    encoder: Any = Encoder()
    seen = Seen(data=data, encoder=encoder, vectors=vectors)
    object.__setattr__(seen, "crops", lambda rows, count: torch.zeros(0, len(rows), 12))
    return seen


def test_rounds_train_on_all_labels_so_far_and_read_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from percept.methods.adaptation import active

    seen, told, trained_on = tiny_seen(), [], []
    original = active._trained
    monkeypatch.setattr(
        active,
        "_trained",
        lambda arm, own, rows, seed: (trained_on.append(rows.copy()), original(arm, own, rows, seed))[1],
    )
    config = Described.Config(prompt=PromptConfig(context=4, per_class=True))
    arm = Arm(method="pcb", config=config, training={"epochs": 4, "rate": 0.5})
    plan = Plan(acquisition="entropy", rounds=3, share=0.5)
    rounds = learn(arm, seen, plan, seed=1, told=told.append)
    assert rounds == told
    assert [each.labelled for each in rounds] == [4, 8, 12] == [len(rows) for rows in trained_on]
    assert set(trained_on[0]) < set(trained_on[1]) < set(trained_on[2])
    assert rounds[0].predicted_right is None
    assert all(each.predicted_right is not None for each in rounds[1:])
    again = learn(arm, seen, plan, seed=1)
    assert [each.accuracy for each in again] == [each.accuracy for each in rounds]
    assert 0 < area(rounds) <= 1


def test_the_true_balance_is_more_balanced_than_plain_entropy() -> None:
    seen = tiny_seen()
    arm = Arm(
        method="pcb", config=Described.Config(prompt=PromptConfig(context=2, per_class=True)), training={"epochs": 1}
    )
    pool = uneven(seen.data.pool, seen.data.labels, power=1.0, seed=1)
    last: dict[str, Round] = {}
    for balance in ("none", "true"):
        plan = Plan(acquisition="coreset", balance=balance, rounds=4, budget=3, share=1.0)  # type: ignore[arg-type]
        last[balance] = learn(arm, seen, plan, seed=0, pool=pool)[-1]
    assert last["true"].label_entropy >= last["none"].label_entropy
    assert last["true"].labelled == last["none"].labelled == 12


def test_wrong_plans_are_refused() -> None:
    with pytest.raises(PerceptError, match="share above 0"):
        Plan(share=0.0)
    with pytest.raises(PerceptError, match="need more than the 56 images"):
        learn(Arm(method="pcb"), tiny_seen(), Plan(rounds=20), seed=0)


def test_descriptions_are_averaged_as_vectors_or_as_logits() -> None:
    torch.manual_seed(0)
    method, batch = Described.tiny()
    own = method.prompt.vectors(method.base.text).unflatten(0, (3, 3))
    words = Described(Described.Config(prompt=method.config.prompt), method.base, method.names)
    words.prompt.load_state_dict(method.prompt.state_dict())
    assert not torch.allclose(words.class_vectors(), method.class_vectors())
    repeated = Described(
        replace(method.config, descriptions=tuple((name, name) for name in method.names)), method.base, method.names
    )
    repeated.prompt.load_state_dict(method.prompt.state_dict())
    torch.testing.assert_close(repeated.class_vectors(), words.class_vectors(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(method.class_vectors(), F.normalize(own.mean(dim=1), dim=1))
    scores = Described(Described.Config(prompt=method.config.prompt, describe="scores"), method.base, method.names)
    scores.prompt.load_state_dict(method.prompt.state_dict())
    shots = tiny_shots(batch.vector, batch.label, torch.zeros(4, 3, 16, 16))
    scores.prepare(shots)
    each = scores.clip.scale() * torch.einsum("bd,csd->bcs", batch.vector, own)
    torch.testing.assert_close(scores.logits(batch), each.mean(dim=2), atol=1e-4, rtol=1e-4)
    scores.prepare(replace(shots, sentences=()))
    assert scores.config.descriptions[1] == tuple(text.format("cup") for text in DESCRIPTIONS)
    scores.prepare(replace(shots, sentences=(("a", "b"), ("c",), ("d", "e"))))
    assert scores.config.descriptions[1] == ("c", "c")
