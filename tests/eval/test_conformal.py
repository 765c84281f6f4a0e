"""Conformal sets: thresholds by hand, coverage by simulation, and what an abstention counts for."""

import numpy as np
import pytest

from percept.cli.conformal import read_logits
from percept.core.errors import PerceptError
from percept.eval.abstention import (
    Cost,
    Levels,
    Policy,
    Split,
    best_of_grid,
    compared,
    constrained,
    cost,
    cost_score,
    decide,
    learned,
)
from percept.eval.conformal import Answers, aps, check_labels, cumulative, judged, lac, quantile, softmax


def drawn(n: int = 600, classes: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += 1.5
    return softmax(logits), labels


def test_the_quantile_by_hand():
    scores = np.arange(1, 10) / 10
    assert quantile(scores, 0.9) == pytest.approx(0.9)
    assert quantile(scores, 0.5) == pytest.approx(0.5)
    assert quantile(scores[:8], 0.9) == float("inf")


def test_lac_by_hand():
    known = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    answers = lac(np.array([[0.55, 0.45], [0.65, 0.35]]), known, np.array([0, 0, 0, 0]), alpha=0.4)  # q = 0.4
    assert answers.sets.tolist() == [[True, False]] * 2  # in the first row no class passes: the most likely one is kept


def test_too_few_items_give_sets_of_all_classes():
    probabilities, labels = drawn(5)
    assert lac(probabilities, probabilities, labels, alpha=0.1).sets.all()


def test_the_mass_of_ties_is_taken_in_order():
    np.testing.assert_allclose(cumulative(np.array([[0.5, 0.5]]), None), [[0.5, 1.0]])


@pytest.mark.parametrize("method", ["lac", "aps", "randomised"])
def test_sets_cover_what_they_promise(method):
    covered = []
    for seed in range(120):
        probabilities, labels = drawn(seed=seed)
        known, test = slice(0, 300), slice(300, 600)
        given = (probabilities[test], probabilities[known], labels[known])
        answers = lac(*given) if method == "lac" else aps(*given, randomised=method == "randomised", seed=seed)
        covered.append(answers.sets[np.arange(300), labels[test]].mean())
    error = np.std(covered) / np.sqrt(len(covered))
    assert np.mean(covered) >= 0.9 - 2.5 * error
    if method == "lac":
        assert np.mean(covered) <= 0.9 + 1 / 301 + 2.5 * error


def test_an_abstention_never_counts_as_right_or_covered():
    probabilities, labels = drawn(40)
    none = Answers(sets=np.zeros_like(probabilities, dtype=bool), probabilities=probabilities)
    scores = {score.name: score.value for score in judged(none, labels)}
    assert scores == {"coverage of all items": 0, "abstained": 1}


def test_the_cost_by_hand():
    sets = np.array([[True, False], [True, True], [False, False], [False, True]])
    answers = Answers(sets=sets, probabilities=np.full((4, 2), 0.5))
    rates = np.array([0.5, 0.25, 0.25])
    expected = 1 / 3 + 0.3 * 2 + 0.3 * 0.25 - 0.4 * 0.75 + 0.2 * (rates * np.log(rates)).sum()
    assert cost(answers, np.array([0, 1, 0, 0]), Cost()) == pytest.approx(expected)


def test_actions_follow_their_probabilities():
    rng = np.random.default_rng(0)
    probabilities = np.tile([0.7, 0.2, 0.1], (20_000, 1))
    scores = np.linspace(0, 1, 199)
    levels = Levels(alpha=0.8, beta=0.04)
    answers = decide(probabilities, scores, levels, rng)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    single = sigmoid(-5 * (0.3 - quantile(scores, 0.2)))
    abstain = sigmoid(5 * (0.3 - quantile(scores, 0.96)))
    total = single + abstain + max(0, 1 - single - abstain)
    sizes = answers.sets.sum(axis=1)
    assert (sizes == 0).mean() == pytest.approx(abstain / total, abs=0.01)
    assert (sizes == 1).mean() == pytest.approx(single / total, abs=0.01)


def test_the_policy_has_the_size_of_the_paper_and_comes_near_the_grid():
    assert sum(parameter.numel() for parameter in Policy().parameters()) == 452
    charge = lambda levels: (levels.alpha - 0.76) ** 2 + (levels.beta - 0.04) ** 2  # noqa: E731
    found = learned(charge, epochs=20)
    assert 0.75 <= found.alpha <= 0.9
    assert found.beta == pytest.approx(0.03, abs=0.0201)
    assert best_of_grid(charge).alpha == pytest.approx(0.75)


def test_a_level_of_abstention_of_its_own_replaces_beta_there_only():
    probabilities, scores = np.tile([0.6, 0.3, 0.1], (20_000, 1)), np.linspace(0, 1, 199)
    levels = Levels(alpha=0.9, beta=0.2, refused=0.55, slope=20.0)
    answers = decide(probabilities, scores, levels, np.random.default_rng(0))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    single, abstain = sigmoid(-20 * (0.4 - quantile(scores, 0.1))), sigmoid(20 * (0.4 - quantile(scores, 0.45)))
    total = single + abstain + max(0, 1 - single - abstain)
    sizes = answers.sets.sum(axis=1)
    assert (sizes == 0).mean() == pytest.approx(abstain / total, abs=0.01)
    assert set(np.unique(sizes)) == {0, 1, 2}  # the threshold of sets, 0.2, holds the two likely classes


def refused(levels: Levels) -> float:
    assert levels.refused is not None
    return levels.refused


def test_the_cost_has_an_interval():
    probabilities = np.tile([0.7, 0.3], (200, 1))
    labels = (np.arange(200) % 4 == 0).astype(int)  # a quarter is wrong
    found = cost_score(Answers(sets=probabilities > 0.5, probabilities=probabilities), labels, Cost())
    assert found.value == cost(Answers(sets=probabilities > 0.5, probabilities=probabilities), labels, Cost())
    assert (found.n, found.better) == (200, "less")
    assert found.high - found.low == pytest.approx(2 * 1.96 * (0.25 * 0.75 / 200) ** 0.5, rel=0.2)
    right = cost_score(Answers(sets=probabilities > 0.5, probabilities=probabilities), np.zeros(200, int), Cost())
    assert right.low == pytest.approx(right.value)
    assert right.high - right.value == pytest.approx(0.0188, abs=1e-3)  # Wilson


def test_the_constraint_comes_before_the_cost():
    found = constrained(lambda levels: refused(levels) + levels.beta, lambda levels: max(0.0, 0.1 - refused(levels)))
    assert (found.refused, found.beta) == (0.1, 0.04)
    nearest = constrained(lambda levels: levels.beta, lambda levels: 1 - refused(levels))
    assert (nearest.refused, nearest.beta) == (0.85, 0.04)


def test_the_constrained_policy_covers_the_answered_items_it_was_chosen_on():
    probabilities, labels = drawn(3000)
    split = Split.random(3000, 0)
    answers = compared(probabilities, labels, split)["policy, constrained"]
    covered = answers.sets[np.arange(len(split.test)), labels[split.test]][answers.answered].mean()
    assert covered == pytest.approx(0.9, abs=0.05)


def test_the_split_is_disjoint_and_test_items_never_change_the_policy():
    probabilities, labels = drawn(400)
    with pytest.raises(PerceptError, match=r"at least 20 items, got 1\. "):
        Split.random(1, 0)
    split = Split.random(400, 1)
    parts = np.concatenate([split.calibration, split.fresh, split.policy, split.test])
    assert sorted(parts) == list(range(400))
    changed = labels.copy()
    changed[split.test] = (changed[split.test] + 1) % 6
    before, after = (compared(probabilities, each, split) for each in (labels, changed))
    for name in ("policy, learned", "policy, constrained"):
        assert (before[name].sets == after[name].sets).all()


@pytest.mark.parametrize("logits", [np.zeros(3), np.zeros((2, 1)), np.full((2, 2), np.inf), np.zeros((0, 2))])
def test_bad_logits_are_refused(logits):
    with pytest.raises(PerceptError):
        softmax(logits)


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2], [0.5, 1, 1], [-1, 0, 0]])
def test_bad_labels_are_refused(labels):
    with pytest.raises(PerceptError):
        check_labels(np.array(labels), np.zeros((3, 2)))


def test_a_single_answer_to_classes_of_equal_probability_is_one_class():
    probabilities, labels = np.full((200, 4), 0.25), np.random.default_rng(0).integers(0, 4, 200)
    answers = compared(probabilities, labels, Split.random(200, 0))
    assert (answers["top-1"].sets.sum(axis=1) == 1).all()
    assert (answers["threshold"].sets.sum(axis=1) <= 1).all()
    drawn = decide(probabilities, np.zeros(20), Levels(alpha=0.1, beta=0.1), np.random.default_rng(0))
    assert set(np.unique(drawn.sets.sum(axis=1))) <= {0, 1, 4}
    assert 1 in drawn.sets.sum(axis=1)


def test_files_that_hold_no_logits_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(PerceptError, match=r"text.npz cannot be used: it is not a .npz file. It needs logits"):
        read_logits(tmp_path / "text.npz")
    np.savez(tmp_path / "half.npz", logits=np.zeros((3, 2)))
    with pytest.raises(PerceptError, match="labels is not a file in the archive"):
        read_logits(tmp_path / "half.npz")
    with pytest.raises(PerceptError, match=r"an array of float64\. Store them as integers"):
        check_labels(np.zeros(3), np.zeros((3, 2)))
