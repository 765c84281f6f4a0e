"""ExCL: spans and losses against loops, padding that changes nothing, learning, and frozen towers."""

from dataclasses import replace

import pytest
import torch

from percept.core.errors import PerceptError
from percept.methods.video.excl import (
    LOSSES,
    PREDICTORS,
    Asked,
    ExCL,
    best_span,
    boundary_loss,
    feature_width,
    frame_features,
    masked,
    similarity,
    word_features,
)


def variant(predictor: str, loss: str = "classification") -> tuple[ExCL, Asked]:
    torch.manual_seed(0)
    task, batch = ExCL.tiny()
    return ExCL(replace(task.config, predictor=predictor, loss=loss), task.clip), batch


def test_the_best_span_is_that_of_all_pairs_in_order() -> None:
    torch.manual_seed(0)
    count = torch.tensor([9, 1, 5, 7] * 8)
    start, end = (masked(3 * torch.randn(32, 9), count) for _ in range(2))
    first, last, score = best_span(start, end)
    for row in range(32):
        pairs = [(i, j) for j in range(int(count[row])) for i in range(j + 1)]
        best = max(pairs, key=lambda pair: float(start[row, pair[0]] + end[row, pair[1]]))
        assert (int(first[row]), int(last[row])) == best
        assert float(score[row]) == pytest.approx(float(start[row, best[0]] + end[row, best[1]]))


@pytest.mark.parametrize("kind", LOSSES)
def test_the_loss_equals_a_loop(kind: str) -> None:
    _, batch = variant("mlp")
    start, end = (masked(torch.randn(3, 7), batch.frame_count) for _ in range(2))
    total = 0.0
    for row in range(3):
        for logits, truth in ((start[row], int(batch.start[row])), (end[row], int(batch.end[row]))):
            shares = torch.tensor([float(logits[t].exp()) for t in range(int(batch.frame_count[row]))])
            shares = shares / shares.sum()
            if kind == "classification":
                total -= float(shares[truth].log()) / 3
            else:
                gap = abs(sum(t * float(share) for t, share in enumerate(shares)) - truth)
                total += (0.5 * gap * gap if gap < 1 else gap - 0.5) / 3
    assert float(boundary_loss(start, end, batch, kind)) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_padding_and_other_queries_change_nothing(predictor: str) -> None:
    task, batch = variant(predictor)
    start, end = task.eval().scores(batch)
    for row in range(3):
        frames, words = int(batch.frame_count[row]), int(batch.word_count[row])
        single = batch.rows(slice(row, row + 1))
        alone = task.scores(replace(single, frames=single.frames[:, :frames], words=single.words[:, :words]))
        for whole, part in zip((start, end), alone, strict=True):
            torch.testing.assert_close(whole[row : row + 1, :frames], part)
            assert bool(torch.isneginf(whole[row, frames:]).all())


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_variant_learns_to_point_at_a_few_spans(predictor: str, loss: str) -> None:
    task, batch = variant(predictor, loss)
    before = {name: value.clone() for name, value in task.clip.state_dict().items()}
    optimiser = torch.optim.AdamW([each for each in task.parameters() if each.requires_grad], lr=1e-2)
    for _ in range(80):
        optimiser.zero_grad()
        task.train()(batch)["loss"].backward()
        optimiser.step()
    spans = task.eval().locate(batch)
    assert (spans.start - batch.start).abs().max() < 0.5
    assert (spans.end - batch.end).abs().max() < 0.5
    assert all(torch.equal(value, before[name]) for name, value in task.clip.state_dict().items())


def test_spans_of_regression_never_end_before_they_start() -> None:
    task, batch = variant("conditioned", "regression")
    spans = task.eval().locate(batch)
    assert bool((spans.end >= spans.start).all())
    assert bool((spans.end <= batch.frame_count - 1).all())


def test_features_have_the_stated_width_and_the_query_decides() -> None:
    task, _ = ExCL.tiny()
    pixels, tokens = torch.randn(5, 3, 16, 16), torch.tensor([[18, 3, 4, 19, 0, 0]])
    frames = frame_features(task.clip, pixels, 2)
    assert frames.shape == (5, feature_width(task.clip, 2))
    torch.testing.assert_close(frames[:, :12].norm(dim=1), torch.full((5,), 12**0.5))
    words, count, text = word_features(task.clip, tokens)
    torch.testing.assert_close(text.norm(dim=1), torch.ones(1))
    assert (words.shape, count.tolist()) == ((1, 4, 16), [4])
    spans = task.eval().find(pixels, tokens)
    assert 0 <= float(spans.start[0]) <= float(spans.end[0]) <= 4


def test_the_query_decides_also_without_the_cosine() -> None:
    for cosine in (True, False):
        torch.manual_seed(0)
        task, batch = ExCL.tiny()
        task = ExCL(replace(task.config, similarity=cosine), task.clip).eval()
        first, other = (task.scores(replace(batch, words=words))[0] for words in (batch.words, -batch.words))
        assert not torch.allclose(first, other)
        turned = task.scores(replace(batch, text=-batch.text))[0]
        assert torch.allclose(first, turned) != cosine


def test_the_similarity_is_that_of_each_clip_alone() -> None:
    _, batch = ExCL.tiny()
    found = similarity(batch)
    for row, count in enumerate(batch.frame_count.tolist()):
        cosines = torch.cosine_similarity(batch.frames[row, :count, :12], batch.text[row][None])
        expected = (cosines - cosines.mean()) / cosines.std(unbiased=False)
        torch.testing.assert_close(found[row, :count], expected, atol=1e-4, rtol=1e-3)
        assert not found[row, count:].any()


def test_scaled_features_have_mean_0_and_deviation_1() -> None:
    task, _ = ExCL.tiny()
    frames = 3 + 2 * torch.randn(200, 76)
    task.scale_to(frames)
    scaled = (frames - task.centre) / task.deviation
    torch.testing.assert_close(scaled.mean(0), torch.zeros(76), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(0), torch.ones(76))


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(PerceptError, match="conditioned"):
        ExCL.Config(predictor="conditional")
    with pytest.raises(PerceptError, match="above 0"):
        ExCL.Config(hidden=0)
