"""RLCF: the loss is that of the paper, and an episode leaves no trace."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.data.transforms import Preprocess
from percept.infer.asking import asked
from percept.methods.adaptation.contract import TINY_NAMES, tiny_base
from percept.methods.adaptation.rlcf import (
    RLCF,
    Image,
    Prompt,
    Query,
    Sample,
    confident,
    reinforced,
    resetting,
    views_of,
)
from percept.methods.adaptation.rlcf_captions import captioned, said
from percept.models.clip import unit
from tests.infer.speaking import assistant, picture


def sample(policy: str, seed: int = 0) -> tuple[torch.nn.Module, Sample]:
    torch.manual_seed(seed)
    base = tiny_base()
    image = torch.randn(8, 3, 16, 16)
    cosine = torch.rand(8, len(TINY_NAMES)) - 0.2
    with torch.no_grad():
        vectors = base.clip.embed_image(image)
    if policy == "prompt":
        return Prompt(base, TINY_NAMES), Sample(view=vectors, cosine=cosine)
    if policy == "image":
        return Image(base, TINY_NAMES), Sample(view=image, cosine=cosine)
    side = "text" if policy == "text query" else "image"
    view = base.tokenizer(["a red cup"]) if side == "text" else image[:1]
    return Query(base, unit(torch.randn(20, 12)), side), Sample(view=view, cosine=torch.rand(1, 20))


POLICIES = ("prompt", "image", "text query", "image query")


def test_the_loss_is_that_of_the_equations() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 3.0, 1.0, 0.5]])
    cosine = torch.tensor([[0.2, 0.4, -0.3, 0.9], [0.1, 0.1, 0.3, 0.2]])
    wanted = 0.0
    for row, (best, second) in enumerate(((0, 1), (1, 2))):
        rewards = [max(0.0, 2.5 * float(cosine[row, answer])) for answer in (best, second)]
        surprise = -logits[row].log_softmax(0)
        for answer, reward in zip((best, second), rewards, strict=True):
            wanted += (reward - sum(rewards) / 2) * float(surprise[answer]) / 4
    task = RLCF(RLCF.Config(answers=2, kept=1.0), torch.nn.Identity())
    assert float(task(Sample(view=logits, cosine=cosine))["loss"]) == pytest.approx(wanted, abs=1e-6)
    over_all = RLCF(RLCF.Config(answers=2, kept=1.0, over_all=True), torch.nn.Identity())
    assert float(over_all(Sample(view=logits, cosine=cosine))["loss"]) != pytest.approx(wanted, abs=1e-3)


def test_equal_rewards_and_negative_cosines_change_nothing() -> None:
    surprise = torch.rand(3, 2, requires_grad=True)
    for reward in (torch.zeros(3, 2), torch.full((3, 2), 0.7)):
        loss = reinforced(surprise, reward)
        assert float(loss.detach()) == pytest.approx(0, abs=1e-7)
        (slope,) = torch.autograd.grad(loss, surprise)
        assert not slope.any()


def test_entropy_and_distillation_are_objectives_of_the_same_loop() -> None:
    logits, cosine = torch.randn(4, 5), torch.rand(4, 5)
    entropy = RLCF(RLCF.Config(objective="entropy", kept=1.0), torch.nn.Identity())
    mean = logits.softmax(1).mean(0)
    assert float(entropy(Sample(view=logits, cosine=cosine))["loss"]) == pytest.approx(
        float(-(mean * mean.log()).sum()), abs=1e-6
    )
    distil = RLCF(RLCF.Config(objective="distil", kept=1.0), torch.nn.Identity(), scale=20.0)
    wanted = F.kl_div(logits.log_softmax(1), (20 * cosine).softmax(1), reduction="batchmean")
    assert float(distil(Sample(view=logits, cosine=cosine))["loss"]) == pytest.approx(float(wanted), abs=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
def test_an_episode_moves_towards_the_rewarded_answer_and_is_forgotten(policy: str) -> None:
    module, one = sample(policy)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.no_grad():
        plain = module(one.view)
    second = int(plain[0].topk(2).indices[1])
    cosine = torch.zeros_like(one.cosine)
    cosine[:, second] = 0.5
    config = RLCF.Config(answers=2, kept=1.0, steps=10, rate=3e-3 if policy == "prompt" else 1e-4)
    after = RLCF(config, module).adapted(Sample(view=one.view, cosine=cosine))
    assert after.softmax(0)[second] > plain[0].softmax(0)[second]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(each.grad is None for each in module.parameters())


@pytest.mark.parametrize("policy", ["prompt", "image"])
def test_the_order_of_images_does_not_matter(policy: str) -> None:
    module, one = sample(policy)
    _, two = sample(policy, seed=5)
    task = RLCF(RLCF.Config(kept=0.5, answers=2, rate=1e-3), module)
    first = [task.adapted(each) for each in (one, two)]
    second = [task.adapted(each) for each in (two, one)]
    assert torch.equal(first[0], second[1])
    assert torch.equal(first[1], second[0])
    assert not torch.equal(first[0], first[1])


def test_zero_steps_are_the_plain_model_and_an_error_resets() -> None:
    module, one = sample("image")
    with torch.no_grad():
        plain = module(one.view[:1])[0]
    torch.testing.assert_close(RLCF(RLCF.Config.images(steps=0), module).adapted(one), plain)
    before = {name: value.clone() for name, value in module.state_dict().items()}

    def fails() -> None:
        with resetting(module, RLCF.Config.images(rate=0.1)) as optimiser:
            module(one.view).sum().backward()
            optimiser.step()
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fails()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_the_most_confident_views_are_kept() -> None:
    logits = torch.tensor([[0.0, 0.1], [5.0, 0.0], [0.0, 0.0], [0.0, 9.0]])
    assert confident(logits, 0.5).tolist() == [1, 3]
    assert confident(logits, 0.01).tolist() == [3]


def test_views_begin_with_the_whole_image_and_are_repeatable() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    image, preprocess = Pictures.fromarray(pixels), Preprocess(size=16)
    views = views_of(image, preprocess, 5, seed=1)
    assert views.shape == (5, 3, 16, 16)
    torch.testing.assert_close(views[:1], views_of(image, preprocess, 1))
    torch.testing.assert_close(views, views_of(image, preprocess, 5, seed=1))
    assert not torch.equal(views, views_of(image, preprocess, 5, seed=2))


@pytest.mark.parametrize("wrong", [{"answers": 1}, {"objective": "hope"}, {"kept": 0.0}, {"rate": 0.0}, {"steps": -1}])
def test_settings_without_a_meaning_are_refused(wrong: dict) -> None:
    with pytest.raises(PerceptError):
        RLCF.Config(**wrong)


def test_captions_are_adapted_and_the_language_model_is_as_before() -> None:
    policy, judged = assistant(), []

    def reward(captions: Sequence[str]) -> torch.Tensor:
        judged.append(list(captions))
        return torch.tensor([len(text) / 100 for text in captions])

    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    config = RLCF.Config.captions(answers=3, steps=2, rate=0.05)
    plain = policy.ask(picture(0), "what colour is the cup?", max_new_tokens=8)
    text = captioned(
        policy, picture(0), reward, config=config, question="what colour is the cup?", temperature=2.0, max_new_tokens=8
    )
    assert [len(captions) for captions in judged] == [3, 3]
    assert text != plain
    assert policy.ask(picture(0), "what colour is the cup?", max_new_tokens=8) == plain
    assert all(torch.equal(value, before[name]) for name, value in policy.model.state_dict().items())
    assert not any(each.requires_grad for each in policy.model.parameters())


def test_the_likelihood_of_captions_is_that_of_the_assistant() -> None:
    policy, captions = assistant(), ["a red cup", "yes", "two green dogs on the table"]
    rows = policy.answerer.likelihoods(asked(picture(1), "what colour is the cup?"), captions)
    with torch.no_grad():
        answers = said(policy, picture(1), "what colour is the cup?", captions)
    assert answers.surprises().tolist() == pytest.approx([-sum(row) / len(row) for row in rows], abs=1e-4)
    for number, caption in enumerate(captions):  # one by one, without padding
        with torch.no_grad():
            alone = said(policy, picture(1), "what colour is the cup?", [caption])
        shares = alone.logits[0].softmax(1)
        assert float(answers.entropies()[number]) == pytest.approx(float(-(shares * shares.log()).sum(1).mean()), abs=1e-4)  # fmt: skip


@pytest.mark.parametrize("objective", ["reward", "entropy", "random"])
def test_captions_are_adapted_by_every_objective_that_is_defined(objective: str) -> None:
    policy, asks = assistant(), []

    def reward(captions: Sequence[str]) -> torch.Tensor:
        asks.append(captions)
        return torch.arange(len(captions)) / 3

    how = {"question": "what colour is the cup?", "temperature": 2.0, "max_new_tokens": 6}
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    config = RLCF.Config.captions(answers=3, steps=1, rate=0.2, objective=objective)
    one, again = (captioned(policy, picture(0), reward, config=config, seed=3, **how) for _ in range(2))
    assert one == again
    assert one != policy.ask(picture(0), "what colour is the cup?", max_new_tokens=6)
    assert len(asks) == (2 if objective == "reward" else 0)
    assert all(torch.equal(value, before[name]) for name, value in policy.model.state_dict().items())


def test_captions_have_no_distillation() -> None:
    with pytest.raises(PerceptError, match="distil"):
        captioned(assistant(), picture(0), lambda captions: torch.zeros(len(captions)), config=RLCF.Config.captions(objective="distil"))  # fmt: skip
