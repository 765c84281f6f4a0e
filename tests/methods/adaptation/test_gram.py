"""GRAM: regulation, the second-order step against finite differences, clusters, and plugging it into several methods."""

import random
from dataclasses import replace
from typing import Any

import pytest
import torch

from percept.core.errors import PerceptError
from percept.methods.adaptation.contract import Training, tiny_base, tiny_shots
from percept.methods.adaptation.coop import CoOp
from percept.methods.adaptation.gram import Gram, MetaConfig, Regulation, inner_step, loss_of, meta_learn
from percept.methods.adaptation.pairs import OPENING, Pairs, episode, k_means, two_levels, world_pairs
from percept.methods.adaptation.trainer import fit

META = MetaConfig(pairs=16, top=2, leaf=2, leaves=2, each=2, episodes=2, outer_rate=0.05)


@pytest.fixture(scope="module")
def base() -> Any:
    torch.manual_seed(0)
    return tiny_base()


@pytest.fixture(scope="module")
def pairs(base: Any) -> Pairs:
    return world_pairs(base, META.pairs, top=2, leaf=2, seed=0)


@pytest.mark.parametrize("kind", ["scale", "mlp", "none"])
def test_the_regulation_is_the_identity_at_first(kind: str) -> None:
    torch.manual_seed(0)
    gradient, value = torch.randn(3, 4), torch.randn(3, 4)
    regulation = Regulation(kind, 2)
    torch.testing.assert_close(regulation(1, gradient, value), gradient)
    assert (sum(each.numel() for each in regulation.parameters()) > 0) == (kind != "none")


def test_the_scale_of_a_tensor_changes_its_gradient_only() -> None:
    regulation = Regulation("scale", 2)
    with torch.no_grad():
        regulation.gain[1], regulation.shift[1] = 1.0, 0.5
    gradient = torch.randn(5)
    size = gradient.square().mean().sqrt()
    torch.testing.assert_close(regulation(0, gradient, gradient), gradient)
    torch.testing.assert_close(
        regulation(1, gradient, gradient), 2 * torch.tensor(1.0).sigmoid() * gradient + 0.5 * size
    )


def test_captions_stand_where_a_name_stands(pairs: Pairs) -> None:
    assert OPENING.sub("", "a photo of an orange shoe in the dunes") == "orange shoe in the dunes"
    assert OPENING.sub("", "there is a grey cup") == "grey cup"
    assert OPENING.sub("", "three cups") == "three cups"
    assert len(pairs.captions) == len(pairs.vectors) == 16
    assert not any(caption.endswith(".") for caption in pairs.captions)


def test_k_means_finds_separate_groups() -> None:
    torch.manual_seed(0)
    centres = torch.eye(4)[:3]
    truth = torch.arange(30) % 3
    vectors = torch.nn.functional.normalize(centres[truth] + 0.05 * torch.randn(30, 4), dim=1)
    found = next(
        label for seed in range(20) if len((label := k_means(vectors, 3, seed=seed)).unique()) == 3 and
        all(len(label[truth == group].unique()) == 1 for group in range(3))
    )  # fmt: skip
    assert len({(int(a), int(b)) for a, b in zip(found, truth, strict=True)}) == 3
    first, second = two_levels(vectors, 3, 2, seed=0)
    assert int(second.max()) == 1
    assert len(first) == len(second) == 30


def test_support_and_query_come_from_different_clusters(pairs: Pairs) -> None:
    for seed in range(5):
        support, query = episode(pairs, random.Random(seed), leaves=2, each=2)
        assert len(pairs.top[support].unique()) == len(pairs.top[query].unique()) == 1
        assert int(pairs.top[support][0]) != int(pairs.top[query][0])
        assert len(set(support)) == len(support)
    rows = [0, 3, 5]
    shots = pairs.shots(rows)
    assert [shots.names[label] for label in shots.label.tolist()] == [pairs.captions[row] for row in rows]


def coop(base: Any) -> CoOp:
    torch.manual_seed(1)
    return CoOp(CoOp.tiny_config(), base, ("cup",)).train()


def test_the_outer_gradient_is_that_of_finite_differences(base: Any, pairs: Pairs) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    base = replace(base, clip=base.copied().clip.double())
    exact = replace(pairs, vectors=pairs.vectors.double())
    config = replace(META, inner_rate=0.5)
    support, query = episode(pairs, random.Random(0), leaves=2, each=2)
    start = {"prompt.context": 0.3 * torch.randn(4, 16, dtype=torch.float64)}

    def outer(values: dict[str, torch.Tensor], regulation: Regulation) -> torch.Tensor:
        own = inner_step(method, values, exact, support, regulation, config)
        return loss_of(method, own, exact, query)

    method = coop(base).double()
    regulation = Regulation("scale", 1).double()
    values = {name: each.clone().requires_grad_() for name, each in start.items()}
    with sdpa_kernel(SDPBackend.MATH):
        outer(values, regulation).backward()
        for place in ((0, 0), (3, 7)):
            ends = []
            for sign in (1, -1):
                moved = start["prompt.context"].clone()
                moved[place] += sign * 1e-3
                ends.append(float(outer({"prompt.context": moved.requires_grad_()}, regulation).detach()))
            expected = (ends[0] - ends[1]) / 2e-3
            assert float(values["prompt.context"].grad[place]) == pytest.approx(expected, rel=0.02, abs=1e-5)  # type: ignore[index]
    assert regulation.gain.grad is not None
    assert regulation.gain.grad.any()


@pytest.mark.parametrize("learn", ["gram", "maml", "pretraining"])
def test_meta_learning_lowers_the_loss_on_query_sets(base: Any, pairs: Pairs, learn: Any) -> None:
    method = coop(base)
    start = meta_learn(method, pairs, replace(META, learn=learn, episodes=30))
    assert set(start.values) == {"prompt.context"}
    assert sum(start.losses[-10:]) < sum(start.losses[:10])
    moved = any(bool(each.abs().max() > 1e-6) for each in start.regulation.parameters())
    assert moved == (learn == "gram")


@pytest.mark.parametrize("name", ["coop", "kgcoop", "cocoop", "maple", "mocoop", "coprompt"])
def test_it_plugs_into_prompt_methods(base: Any, name: str) -> None:
    torch.manual_seed(0)
    settings = {"groups": [["a {}.", "the {}."], ["an old {}."]]} if name == "mocoop" else {}
    config = Gram.Config(method=name, settings=settings, meta=replace(META, episodes=1))
    method = Gram(config, base, ("red cup", "cup", "old book"))
    image, label = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 1])
    with torch.no_grad():
        shots = tiny_shots(base.clip.embed_image(image), label, image)
    before = {name: each.clone() for name, each in method.inner.named_parameters() if each.requires_grad}
    trained = fit(method, shots, Training(epochs=1, batch=4, rate=0.1), seed=3)
    method.check_trainable()
    assert trained.steps == 1
    assert method.start is not None
    assert set(method.start.values) == set(before)
    assert any(not torch.equal(method.start.values[name], before[name]) for name in before)
    assert method.leaks == ("unlabelled image-text pairs of the labelled world",)
    assert (method.inner.epochs, method.inner.seed) == (1, 3)
    assert Gram.recipe_of(config, 16) == type(method.inner).recipe(16)
    assert method.eval().class_logits(image).shape == (4, 3)


def test_a_start_is_learned_once_and_regulates_the_gradients(base: Any) -> None:
    config = Gram.Config(settings={"prompt": {"context": 2}}, meta=replace(META, episodes=1))
    one, other = (Gram(config, base, names) for names in (("cup", "book"), ("red cup", "old", "photo")))
    assert one.learned_start() is other.learned_start()
    other.seed = 1
    second = other.learned_start()
    assert not torch.equal(second.values["prompt.context"], one.learned_start().values["prompt.context"])
    assert other.learned_start() is second
    one.start = replace(one.learned_start(), regulation=Regulation("scale", 1))
    with torch.no_grad():
        one.start.regulation.gain[0], one.start.regulation.shift[0] = -100.0, 0.25
    parameter: Any = one.inner.prompt.context  # type: ignore[union-attr]
    parameter.grad = torch.randn_like(parameter)
    size = float(parameter.grad.square().mean().sqrt())
    one.after_backward()
    torch.testing.assert_close(parameter.grad, torch.full_like(parameter, 0.25 * size))


def test_nothing_can_be_learned_leaves_the_method_as_it_is(base: Any) -> None:
    config = Gram.Config(meta=MetaConfig(learn="nothing"))
    method = Gram(config, base, ("cup", "book"))
    before = {name: each.clone() for name, each in method.named_parameters() if each.requires_grad}
    _, batch = CoOp.tiny()
    method.prepare(tiny_shots(batch.vector, batch.label, torch.zeros(4, 3, 16, 16)))
    assert method.start is None
    assert method.leaks == ()
    assert all(torch.equal(dict(method.named_parameters())[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Gram.Config(method="zero-shot"), "trains nothing"),
        (Gram.Config(settings={"prompt": {"per_class": True}}), "belong to its classes"),
        (Gram.Config(method="gram"), "unknown adaptation method"),
        (Gram.Config(settings={"contxt": 3}), "contxt"),
    ],
)
def test_methods_without_a_common_start_are_refused(base: Any, config: Any, message: str) -> None:
    with pytest.raises(PerceptError, match=message):
        Gram(config, base, ("cup", "book"))


def test_wrong_counts_are_refused() -> None:
    with pytest.raises(PerceptError, match="top must be at least 2"):
        MetaConfig(top=1)
    with pytest.raises(PerceptError, match="episodes at least 0"):
        MetaConfig(episodes=-1)
