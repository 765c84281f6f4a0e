"""DAS: the bandit against a loop, replaced layers, counts of the published sizes, search in few-shot training, saving, fusion models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from percept.core.errors import PerceptError
from percept.methods.adaptation.contract import TINY_NAMES, tiny_base, tiny_shots
from percept.methods.adaptation.das import DAS, held_rows
from percept.methods.adaptation.fusion import CoAttention, FusionConfig, Pairs, SingleStream
from percept.methods.adaptation.skipping import Adapted, Bottleneck, Skippable, Skips, make_skippable
from percept.methods.adaptation.trainer import fit
from percept.methods.saved import open_method, save_method
from percept.nn.attention import Attention
from percept.nn.block import Block
from percept.nn.mlp import MLP
from percept.train.meters import operations

SIZES = FusionConfig(image_width=10, word_width=6, width=8, layers=3, heads=2, image_tokens=4, words=7)


def stack(
    count: int = 4, width: int = 8, *, hidden: int = 2, replacement: int = 3
) -> tuple[nn.ModuleList, list[Skippable]]:
    torch.manual_seed(0)
    blocks = nn.ModuleList(Block(width, attention=Attention(width, 2), mlp=MLP(width, 16)) for _ in range(count))
    return blocks, make_skippable(blocks, width, hidden=hidden, replacement=replacement)


def pairs(seed: int = 0) -> Pairs:
    rng = torch.Generator().manual_seed(seed)
    return Pairs(
        image=torch.randn(3, 4, 10, generator=rng), words=torch.randn(3, 6, 6, generator=rng), count=torch.tensor([6, 2, 4]),
        label=torch.tensor([0, 1, 1]),
    )  # fmt: skip


def test_the_gates_follow_the_published_rule() -> None:
    """DAS, meter_module_search.py: g_i += r_i, advantage times the slope of the sigmoid, with the slope of the old gates."""
    skips = Skips(stack()[1], 2, rate=0.5)
    skips.gate.copy_(torch.tensor([0.3, -0.2, 0.0, 1.0]))
    drawn, losses = [(0, 1), (1, 3), (2, 3)], torch.tensor([0.5, 1.0, 2.0])
    expected, old = skips.gate.tolist(), skips.gate.sigmoid().tolist()
    rewards = [2.718281828**-loss for loss in losses.tolist()]
    for some, reward in zip(drawn, rewards, strict=True):
        for number in some:
            expected[number] += 0.5 * (reward - sum(rewards) / 3) * old[number] * (1 - old[number])
    skips.update(drawn, losses)
    torch.testing.assert_close(skips.gate, torch.tensor(expected))


def test_large_losses_leave_no_reward_unless_it_is_standardised() -> None:
    drawn, losses = [(0,), (1,), (2,)], torch.tensor([40.0, 41.0, 42.0])
    published, ours = (Skips(stack()[1], 1, reward=reward) for reward in ("exp", "standardised"))
    for skips in (published, ours):
        skips.update(drawn, losses)
    assert float(published.gate.abs().max()) < 1e-12
    assert float(ours.gate[0]) > 0.2 > 0 > float(ours.gate[2])


def test_the_bandit_finds_the_layers_that_are_not_needed() -> None:
    torch.manual_seed(1)
    _, layers = stack(6)
    skips = Skips(layers, 2, reward="standardised")
    cost = torch.tensor([1.0, 0.1, 0.9, 0.8, 0.0, 1.2])
    for _ in range(40):
        skips.learn(lambda: cost[[layer.skipped for layer in layers]].sum())
    assert skips.best() == (1, 4)


def test_three_different_sets_are_compared() -> None:
    torch.manual_seed(0)
    skips, seen = Skips(stack()[1], 1), []

    def loss() -> torch.Tensor:
        seen.append(tuple(number for number, layer in enumerate(skips.layers) if layer.skipped))
        return torch.tensor(1.0)

    skips.learn(loss, 3)
    assert len(set(seen)) == 3
    assert all(len(each) == 1 for each in seen)


def test_a_skipped_block_is_its_adapter_and_costs_less() -> None:
    blocks, layers = stack()
    x = torch.randn(2, 5, 8)
    layers[0].skipped = True
    assert layers[0].replacement is not None
    torch.testing.assert_close(blocks[0](x), x + layers[0].replacement(x))
    skipped = operations(lambda: blocks[0](x))
    layers[0].skipped = False
    assert skipped == 2 * 2 * 2 * 5 * 8 * 3  # samples, operations of a product, two layers, tokens, width, hidden
    assert operations(lambda: blocks[0](x)) > 10 * skipped


def test_without_adapters_nothing_changes() -> None:
    torch.manual_seed(0)
    block, x = Block(8, attention=Attention(8, 2), mlp=MLP(8, 16)), torch.randn(2, 5, 8)
    expected = block(x)
    layer = Skippable(block, 8, hidden=0, replacement=0)
    torch.testing.assert_close(layer(x), expected, atol=0, rtol=0)
    layer.skipped = True
    torch.testing.assert_close(layer(x), x, atol=0, rtol=0)


def test_adapters_have_the_published_sizes() -> None:
    """METER: width 768, 288 hidden in place of a layer, 96 after attention and MLP; counted by hand."""
    assert (
        sum(Bottleneck.sizes(768, 288).values())
        == 444_960
        == sum(each.numel() for each in Bottleneck(768, 288).parameters())
    )
    assert sum(Bottleneck.sizes(768, 96).values()) == 149_856
    adapter = Bottleneck(768, 96)
    assert float(adapter.down.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not adapter.up.bias.any()


@pytest.mark.parametrize("kind", [SingleStream, CoAttention])
def test_fusion_models_ignore_padding_and_order_of_the_batch(kind: Any) -> None:
    torch.manual_seed(0)
    model, batch = kind(SIZES).eval(), pairs()
    whole = model(batch)
    changed = replace(batch, words=batch.words.index_put((torch.tensor([1]), torch.tensor([4])), torch.tensor(9.0)))
    torch.testing.assert_close(model(changed), whole)
    torch.testing.assert_close(model(batch.rows(slice(1, 2))), whole[1:2], atol=1e-5, rtol=1e-5)
    inside = replace(batch, words=batch.words.index_put((torch.tensor([1]), torch.tensor([0])), torch.tensor(9.0)))
    assert not torch.allclose(model(inside)[1], whole[1])


@pytest.mark.parametrize("kind", [SingleStream, CoAttention])
def test_layers_of_fusion_models_can_be_skipped_and_only_adapters_in_use_are_trained(kind: Any) -> None:
    torch.manual_seed(0)
    model = kind(SIZES).requires_grad_(False)
    layers = [layer for each in model.stacks for layer in make_skippable(each, 8, hidden=2, replacement=3)]
    assert len(layers) == (3 if kind is SingleStream else 6)
    before = operations(lambda: model(pairs()))
    skips = Skips(layers, 2)
    skips.settle((0, len(layers) - 2))  # not the last one of the image stream, whose words' side has no later layer
    assert operations(lambda: model(pairs())) < before
    model(pairs()).sum().backward()
    reached = {name for name, each in model.named_parameters() if each.grad is not None}
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    assert reached == trained
    assert all("adapter" in name or "replacement" in name for name in trained)


def test_the_search_of_a_few_shot_training_ends_with_a_choice() -> None:
    torch.manual_seed(0)
    config = DAS.Config(skip=1, replacement=4, hidden=2, search=2, every=1, warmup=0)
    method = DAS(config, tiny_base(), TINY_NAMES)
    image, label = torch.randn(9, 3, 16, 16), torch.arange(3).repeat(3)
    with torch.no_grad():
        shots = tiny_shots(method.clip.embed_image(image), label, image)
    whole = sum(method.declared().values())
    trained = fit(method, shots, replace(DAS.recipe(3), epochs=4, batch=3), seed=0)
    assert not method.searching
    assert len(method.config.chosen) == 1
    assert bool(method.skips.gate.any())
    assert [layer.skipped for layer in method.skips.layers] == [number in method.config.chosen for number in range(3)]
    assert trained.trainable == sum(method.declared().values()) < whole
    method.check_trainable()


def test_images_for_rewards_are_not_trained_on_while_the_search_lasts() -> None:
    label = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    rows = held_rows(label, 0.25)
    assert label[rows].tolist() == [0, 1, 2]
    torch.manual_seed(0)
    method, batch = DAS(DAS.Config(skip=1, replacement=4, hidden=2), tiny_base(), TINY_NAMES), DAS.tiny()[1]
    assert batch.image is not None
    method.prepare(tiny_shots(batch.vector, batch.label, batch.image))
    held = method._held
    assert held is not None
    assert batch.label[held[0]].tolist() == [1]  # the only shot of a class is trained on too
    assert sorted(held[2].tolist()) == [0, 1, 2]
    kept = [row for row in range(4) if row not in held[0].tolist()]
    calls = []
    encode = method.clip.encode_image
    method.clip.encode_image = lambda image: calls.append(len(image)) or encode(image)  # type: ignore[method-assign]
    method.train()(batch)
    assert calls == [len(kept)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"skip": 9}, "cannot be skipped"),
        ({"skip": -1}, "at least 0"),
        ({"chosen": (7,)}, "there is no layer 7"),
        ({"every": 0}, "at least 1"),
        ({"held": 1.0}, "between 0 and 1"),
    ],
)
def test_impossible_settings_are_explained(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(PerceptError, match=message):
        DAS(DAS.Config(**fields), tiny_base(), TINY_NAMES)


def test_adapted_adds_to_the_output() -> None:
    layer = Adapted(nn.Linear(4, 4), Bottleneck(4, 2))
    x = torch.randn(3, 4)
    torch.testing.assert_close(layer(x), layer.layer(x) + layer.adapter(layer.layer(x)))


def test_a_saved_choice_is_opened_with_the_same_logits(tmp_path: Path) -> None:
    import percept

    encoder = percept.load("nano", device="cpu", dtype="float32")
    torch.manual_seed(0)
    method = DAS.from_encoder(DAS.Config(skip=1, search=0), encoder, ["cat", "car"])
    method.decide()
    with torch.no_grad():
        method.skips.gate[:] = torch.arange(6.0)
    save_method(tmp_path / "mine", method, base="nano")
    image = torch.randn(2, 3, 96, 96)
    opened: Any = open_method(tmp_path / "mine", device="cpu", dtype="float32")
    assert opened.config.chosen == method.config.chosen
    assert torch.equal(opened.skips.gate, method.skips.gate)
    with torch.no_grad():
        expected = method.eval().class_logits(image)
        torch.testing.assert_close(opened.class_logits(image), expected, atol=1e-4, rtol=1e-4)
        rounded: Any = open_method(tmp_path / "mine", device="cpu", dtype="bfloat16")
        coarse = rounded.class_logits(image.bfloat16())
    torch.testing.assert_close(coarse.float(), expected, atol=1.0, rtol=0.1)
