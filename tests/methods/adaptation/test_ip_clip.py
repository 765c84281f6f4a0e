"""IP-CLIP: its size at ViT-B/16, its terms against a loop, what its parts do, and the measures of protection."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from percept.core.errors import PerceptError
from percept.methods.adaptation.contract import TINY_NAMES, Training, tiny_base
from percept.methods.adaptation.ip_clip import IPCLIP, Interaction, StyleContent, Weights, protect
from percept.methods.adaptation.ip_domains import Domain, Pairs, marked, ownership, paired, protection, restyled
from percept.models.clip import unit


def method(**fields: Any) -> tuple[IPCLIP, Pairs]:
    torch.manual_seed(0)
    task = IPCLIP(IPCLIP.Config(hidden=8, **fields), tiny_base(), TINY_NAMES)
    label = torch.tensor([0, 1, 2, 1])
    batch = Pairs.of(*(task.see(torch.randn(4, 3, 16, 16) + shift, label) for shift in (0, 1)))
    task.prepare(batch.split())
    return task.eval(), batch


def test_the_generator_has_the_published_number_of_values() -> None:
    with torch.device("meta"):
        generator = StyleContent(12, 768, 256, 512)
    assert sum(each.numel() for each in generator.parameters()) == 8_666_125


def test_the_context_is_domain_tokens_twice_and_the_content_token_four_times() -> None:
    task, batch = method()
    one, _ = batch.split()
    with torch.no_grad():
        context = task.context(one)
        tokens = task.generator.domain_tokens(one.style)
        assert context.shape == (4, 2 * 3 + 4, 16)
        torch.testing.assert_close(context[:, :3], tokens)
        torch.testing.assert_close(context[:, 3:6], tokens)
        torch.testing.assert_close(context[:, 6:], task.generator.content_token(one.content).expand(-1, 4, -1))
        by_hand = task.generator.style[1](one.style[2, 1])
        torch.testing.assert_close(tokens[2, 1], by_hand)


def test_style_and_content_are_mean_and_deviation_over_tokens() -> None:
    task, _ = method()
    image = torch.randn(1, 3, 16, 16)
    seen, hidden = task.see(image, torch.tensor([0])), task.clip.vision(image, layers=(1,)).hidden[1][0]
    torch.testing.assert_close(seen.content[0, 1], hidden.mean(0))
    torch.testing.assert_close(seen.style[0, 1], (hidden.mean(0) + hidden.std(0)) / 2)


def test_the_terms_equal_a_loop_over_pairs() -> None:
    weights = Weights(answers=0.5, tokens=0.3, entropy=0.2, unauthorised=0.7, enhanced_unauthorised=0.4)
    task, batch = method(weights=weights)
    one, other = batch.split()
    with torch.no_grad():
        found = task.losses(batch)
        ce_u, kl, entropy = 0.0, 0.0, 0.0
        for row in range(4):
            own = task.seen_logits(one.rows(slice(row, row + 1)))[0].softmax(0)
            far = task.seen_logits(other.rows(slice(row, row + 1)))[0].softmax(0)
            ce_u -= float(far[other.label[row]].log()) / 4
            kl += float((own * (own / far).log()).sum()) / 4
            entropy -= float((own * own.log()).sum()) / 4
    assert float(found["unauthorised"]) == pytest.approx(0.7 * ce_u, rel=1e-4)
    assert float(found["answers"]) == pytest.approx(0.5 * kl, rel=1e-3)
    assert float(found["entropy"]) == pytest.approx(0.2 * entropy, rel=1e-4)
    with torch.no_grad():
        near, far = (task.generator.domain_tokens(each.style) for each in (one, other))
    assert float(found["tokens"]) == pytest.approx(0.3 * float((near - far).square().mean()), rel=1e-4)


def test_a_term_with_a_minus_sign_stops_at_the_cap() -> None:
    nothing = dict.fromkeys(
        ("authorised", "enhanced_authorised", "enhanced_unauthorised", "answers", "tokens", "entropy"), 0.0
    )
    only = Weights(**nothing)
    for cap, moves in ((1e-6, False), (1e6, True)):
        task, batch = method(weights=only, cap=cap)
        loss = task(batch)["loss"]
        assert float(loss.detach()) == pytest.approx(-1e-6) or moves
        loss.backward()
        grads = [each.grad for each in task.parameters() if each.requires_grad and each.grad is not None]
        assert any(bool(each.any()) for each in grads) == moves


@pytest.mark.parametrize(
    ("fields", "absent"),
    [
        ({"style": False}, ("generator.style", "prompt", "interaction")),
        ({"content": False}, ("generator.content", "generator.mix", "prompt")),
        ({"style": False, "content": False}, ("generator", "interaction")),
        ({"train_interaction": True, "self_enhanced": False, "cross_domain": False}, ("interaction", "prompt")),
    ],
)
def test_a_removed_part_is_not_trained(fields: dict[str, bool], absent: tuple[str, ...]) -> None:
    task, batch = method(**fields)
    task.check_trainable()
    assert task.declared()
    assert not [name for name in task.declared() if name.startswith(absent)]
    task.train()(batch)["loss"].backward()
    assert all(dict(task.named_parameters())[name].grad is not None for name in task.declared())


def test_the_two_kinds_of_enhanced_vectors_use_the_two_banks() -> None:
    task, batch = method()
    one, _ = batch.split()
    task.authorised_there.fill_(True)
    task.unauthorised_there.fill_(True)
    with torch.no_grad():
        both = task.enhance(one, "authorised", "unauthorised")
        task.unauthorised_bank.add_(1.0)
        after = task.enhance(one, "authorised", "unauthorised")
    assert torch.equal(both[0], after[0])
    assert not torch.equal(both[1], after[1])
    for fields, count in (({"self_enhanced": False}, 1), ({"self_enhanced": False, "cross_domain": False}, 0)):
        other, batch = method(**fields)
        other.unauthorised_there.fill_(True)
        assert len(other.enhance(batch.split()[0], "authorised", "unauthorised")) == count
        assert ("enhanced_authorised" in other.losses(batch)) == bool(count and other.unauthorised_there.any())


def test_classes_without_vectors_in_the_bank_take_no_part() -> None:
    torch.manual_seed(0)
    interaction = Interaction(6, 4).eval()
    vector, bank = unit(torch.randn(2, 6)), torch.randn(3, 6)
    there = torch.tensor([True, True, False])
    with torch.no_grad():
        torch.testing.assert_close(interaction(vector, bank, there), interaction(vector, bank[:2], there[:2]))


def test_a_bank_holds_the_surest_right_images_of_the_authorised_domain() -> None:
    task, _ = method(bank=1)
    hand = task.hand_vectors()
    weak = unit(hand[0] + 0.5 * hand[1])
    vectors = torch.stack([hand[0], weak, hand[1], hand[2]])
    blank = torch.zeros(4, 3, 16)
    domain = Domain(vector=vectors, style=blank, content=blank, label=torch.tensor([0, 0, 2, 2]))
    task.prepare((domain, domain))
    torch.testing.assert_close(task.authorised_bank[0], hand[0])
    assert task.authorised_there.tolist() == [True, False, True]  # hand[1] is labelled 2, so the frozen model is wrong
    assert task.unauthorised_there.tolist() == [True, True, True]  # answers in place of labels
    assert task.authorised_bank[1].tolist() == [0] * 12


def test_pairs_are_of_one_class() -> None:
    blank = torch.zeros(6, 3, 16)
    one = Domain(vector=torch.randn(6, 12), style=blank, content=blank, label=torch.tensor([0, 0, 1, 1, 2, 2]))
    pairs = paired(one, one, 3)
    assert torch.equal(pairs.label, pairs.other_label)
    assert sorted(pairs.label.tolist()) == [0, 0, 1, 1, 2, 2]


def test_protection_lowers_one_domain_and_keeps_the_other() -> None:
    torch.manual_seed(0)
    task = IPCLIP(IPCLIP.Config(hidden=8, self_enhanced=False, cross_domain=False), tiny_base(), TINY_NAMES)
    task.clip.log_scale.data.fill_(3.0)  # type: ignore[union-attr]
    label = torch.arange(3).repeat(6)
    vector = unit(task.hand_vectors()[label] + 0.05 * torch.randn(18, 12))
    style = 0.5 * torch.randn(18, 3, 16)
    one = Domain(vector=vector, style=style + 1, content=style, label=label)
    other = Domain(vector=vector.roll(3, 0), style=style - 1, content=style, label=label)
    protect(task, one, other, Training(epochs=30, batch=6, rate=2e-2, optimiser="adamw", weight_decay=0.0, warmup=0), seed=0)  # fmt: skip
    with torch.no_grad():
        right = [float((task.seen_logits(each).argmax(1) == label).float().mean()) for each in (one, other)]
    assert right[0] > right[1] + 0.3


def test_a_class_without_an_unauthorised_image_is_an_error() -> None:
    task, batch = method()
    one, _ = batch.split()
    few = replace(one, label=torch.zeros(4, dtype=torch.long))
    with pytest.raises(PerceptError, match=f"class {TINY_NAMES[1]} has no unauthorised image"):
        protect(task, one, few, IPCLIP.recipe(0), seed=0)


def test_measures() -> None:
    assert protection((0.9, 0.8), (0.9, 0.0)) == pytest.approx({"D_a": 0.0, "D_u": 0.8, "W_ua": 0.72})
    assert ownership(1.0, (1.0, 0.0)) == 1


def test_the_mark_covers_three_of_four_pixels_and_styles_are_repeatable() -> None:
    image = np.random.default_rng(0).integers(0, 250, (16, 16, 3), dtype=np.uint8)
    assert (marked(image) == 255).mean() == 0.75
    assert np.array_equal(restyled(image, 1), restyled(image, 1))
    assert len({restyled(image, seed).tobytes() for seed in range(12)}) > 6
    assert restyled(image, 3).shape == image.shape


def test_pixels_give_the_logits_of_what_the_tower_sees() -> None:
    task, _ = method()
    image = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        seen = task.seen_logits(task.see(image, torch.zeros(3, dtype=torch.long)))
        torch.testing.assert_close(task.class_logits(image), seen)
        torch.testing.assert_close(task.class_logits(image[1:2]), seen[1:2], atol=1e-4, rtol=1e-4)
        assert task.use(("cup", "book")).class_logits(image).shape == (3, 2)


def test_a_method_of_other_classes_is_trained_and_stored_with_them() -> None:
    task, batch = method()
    task.use(("cup", "book"))
    assert task.authorised_bank.shape == (2, 12)
    one, other = (Domain(**{name: value[:2] for name, value in each.tensors().items()}) for each in batch.split())
    protect(task, one, other, Training(epochs=1, batch=2, rate=1e-3, optimiser="adamw"), seed=0)
    again = IPCLIP(task.config, tiny_base(), ("cup", "book"))
    again.load_state_dict(task.state_dict())
