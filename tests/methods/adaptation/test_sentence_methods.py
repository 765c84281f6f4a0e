"""Methods with several texts for each class: mixture of prompts, BiomedCoOp and CoPrompt against loops of their equations."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import percept
from percept.core.errors import PerceptError
from percept.data.tokenizers import Tokenizer
from percept.methods.adaptation.biomedcoop import BiomedCoOp, distillation_loss, sentence_scores, usual
from percept.methods.adaptation.contract import Training, tiny_base, tiny_shots
from percept.methods.adaptation.coprompt import CoPrompt, consistency_loss
from percept.methods.adaptation.mocoop import MoCoOp, gate_loss, gates, split_template, text_loss
from percept.methods.adaptation.pcb import Described
from percept.methods.adaptation.prompts import SoftPrompt
from percept.methods.adaptation.sentences import PATTERNS, SentenceBank, sentences_of
from percept.methods.adaptation.texts import Base, base_of, text_vectors
from percept.methods.adaptation.trainer import fit
from percept.methods.saved import save_method
from percept.models.clip import CLIP, unit
from percept.models.config import ClipConfig, TextConfig, VisionConfig

NAMES = ("cat", "traffic light", "pair of scissors")


@pytest.fixture(scope="module")
def nano() -> Base:
    return base_of(percept.load("nano", device="cpu", dtype="float32"))


def paper_base() -> Base:
    """Towers of the sizes of CLIP ViT-B/16, without values."""
    tokenizer = Tokenizer.train(["a photo of a cat."], vocab_size=300, context=77)
    vision = VisionConfig(image_size=224, patch_size=16, width=768, layers=12, heads=12, pool="class", output_dim=512)
    text = TextConfig(context=77, vocabulary=tokenizer.vocab_size, width=512, layers=12, heads=8, output_dim=512)
    with torch.device("meta"):
        clip = CLIP(ClipConfig(vision=vision, text=text))
    return Base(clip=clip, tokenizer=tokenizer)


def vectors(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


# mixture of prompts


@pytest.mark.parametrize("template", ["a photo of a {}.", "a {} in a video game.", "{} texture."])
def test_an_expert_starts_as_its_template(nano: Base, template: str) -> None:
    prompt = SoftPrompt(split_template(template, nano.tokenizer), nano, NAMES)
    prompt.use(NAMES)
    expected = text_vectors(nano, [template.format(name) for name in NAMES])
    torch.testing.assert_close(prompt.vectors(nano.text).detach(), expected, atol=1e-5, rtol=0)


def test_templates_without_a_place_for_the_name_are_refused(nano: Base) -> None:
    with pytest.raises(PerceptError, match="for the class name and words around"):
        split_template("a photo of a cat.", nano.tokenizer)
    with pytest.raises(PerceptError, match="for the class name and words around"):
        split_template("{}.", nano.tokenizer)
    with pytest.raises(PerceptError, match="at least one template each"):
        MoCoOp.Config(groups=(("a {}.",), ()))


def test_the_router_uses_the_best_two_experts() -> None:
    torch.manual_seed(0)
    scores = torch.randn(5, 4)
    found = gates(scores, 2)
    for row in range(5):
        first, second = sorted(range(4), key=lambda g: -float(scores[row, g]))[:2]
        total = scores[row, first].exp() + scores[row, second].exp()
        expected = torch.zeros(4)
        expected[first], expected[second] = scores[row, first].exp() / total, scores[row, second].exp() / total
        torch.testing.assert_close(found[row], expected)


def test_the_losses_of_the_mixture_are_their_loops() -> None:
    torch.manual_seed(0)
    experts, prototypes, scores, near = vectors(2, 3, 8), vectors(2, 3, 8), torch.randn(4, 2), torch.randn(4, 2)
    rows = [-((experts[g, c] @ prototypes[g].T).log_softmax(dim=0)[c]) for g in range(2) for c in range(3)]
    torch.testing.assert_close(text_loss(experts, prototypes), torch.stack(rows).mean())
    for count in (1, 2):
        total = torch.zeros(())
        for row in range(4):
            raised = near[row].clone()
            raised[near[row].topk(count).indices] += 10
            total -= (raised.softmax(dim=0) * scores[row].log_softmax(dim=0)).sum() / 4
        torch.testing.assert_close(gate_loss(scores, near, count), total)


def test_the_mixture_is_a_weighted_sum_of_the_experts() -> None:
    torch.manual_seed(0)
    method, batch = MoCoOp.tiny()
    with torch.no_grad():
        experts, route = method.expert_vectors(), method.routes(batch)
        for row in range(4):
            mixed = sum(route[row, g] * experts[g] for g in range(3))
            torch.testing.assert_close(
                method.logits(batch)[row], method.clip.scale() * mixed @ batch.vector[row], atol=1e-4, rtol=1e-4
            )
    assert ((route > 0).sum(dim=1) == 2).all()


def test_each_part_of_the_mixture_can_be_switched_off() -> None:
    base = tiny_base()
    config = MoCoOp.tiny_config()
    _, batch = MoCoOp.tiny()
    off: Any = MoCoOp(replace(config, text_weight=0.0, gate_weight=0.0), base, ("cup", "book", "red cup"))
    assert set(off.losses(batch)) == {"cross_entropy"}
    uniform = MoCoOp(replace(config, router="uniform"), base, ("cup", "book", "red cup"))
    assert (uniform.routes(batch) == 1 / 3).all()
    uniform.check_trainable()
    fixed = MoCoOp(replace(config, router="random"), base, ("cup", "book", "red cup"))
    assert "router.weight" not in fixed.declared()
    assert set(fixed.losses(batch)) == {"cross_entropy", "text"}


def test_names_of_further_classes_are_aligned_and_recorded() -> None:
    torch.manual_seed(0)
    base = tiny_base()
    config = replace(MoCoOp.tiny_config(), more_names=("old", "cup"))
    method = MoCoOp(config, base, ("cup", "book"))
    assert method.aligned == ("cup", "book", "old")
    assert method.leaks == ("names of further classes",)
    assert MoCoOp(MoCoOp.tiny_config(), base, ("cup", "book")).leaks == ()
    _, batch = MoCoOp.tiny()
    assert method.logits(batch).shape == (4, 2)
    assert method.prototypes().shape == (3, 3, 12)


def test_the_mixture_has_the_counts_of_its_parts() -> None:
    base = paper_base()
    method = MoCoOp(MoCoOp.Config(groups=(("a a.{}",), ("a{}",), ("a {}",))), base, NAMES)
    method.check_trainable()
    learned = sum(prompt.config.context for prompt in method.prompts)
    assert sum(method.declared().values()) == 512 * learned + 3 * 512 + 3
    assert (MoCoOp.recipe(16).rate, MoCoOp.recipe(16).warmup, MoCoOp.Config().text_weight) == (0.032, 5, 5.0)


# BiomedCoOp


@pytest.mark.parametrize("spread", ["median", "any"])
def test_the_selection_does_not_change_when_scores_are_shifted_and_scaled(spread: str) -> None:
    torch.manual_seed(0)
    for _ in range(20):
        scores = torch.randn(24, dtype=torch.float64) * 3 + 20
        median = scores.median()
        scaled = (scores - median) / (scores - median).abs().median() if spread == "median" else 7 * scores - 3
        for threshold in (0.5, 1.25, 1.5, 2.0):
            assert torch.equal(usual(scores, threshold), usual(scaled, threshold))
    assert usual(torch.ones(5), 1.0).all()
    assert not usual(torch.tensor([1.0, 1.1, 0.9, 1.0, 9.0]), 1.5)[4]


def test_sentence_scores_and_distillation_are_their_loops() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 3, 5)
    expected = [sum(max(float(logits[b, c, s]) for c in range(3)) for b in range(4)) / 4 for s in range(5)]
    assert sentence_scores(logits).tolist() == pytest.approx(expected, rel=1e-5)
    student, teacher = torch.randn(4, 3), torch.randn(4, 3)
    p, q = teacher.softmax(dim=1), student.softmax(dim=1)
    divergence = sum(float(p[b, c] * (p[b, c] / q[b, c]).log()) for b in range(4) for c in range(3))
    assert float(distillation_loss(student, teacher)) == pytest.approx(divergence / 12, rel=1e-4)


def test_a_class_with_fewer_sentences_counts_each_once() -> None:
    base = tiny_base()
    bank = SentenceBank(base, [["a cup.", "the cup.", "an old cup."], ["a book."]])
    assert bank.present.tolist() == [[True, True, True], [True, False, False]]
    torch.testing.assert_close(bank.mean()[1], text_vectors(base, ["a book."])[0])
    own = text_vectors(base, ["a cup.", "an old cup."])
    kept = torch.tensor([True, False, True])
    torch.testing.assert_close(bank.mean(kept)[0], unit(own.mean(dim=0)))
    torch.testing.assert_close(bank.mean(torch.tensor([False, True, True]))[1], text_vectors(base, ["a book."])[0])
    with pytest.raises(PerceptError, match="class number 1 has no sentence"):
        SentenceBank(base, [["a cup."], []])


def test_sets_without_sentences_get_written_ones() -> None:
    _, batch = BiomedCoOp.tiny()
    shots = tiny_shots(batch.vector, batch.label, torch.zeros(4, 3, 16, 16))
    assert sentences_of(shots)[0][0] == "a red cup."
    own = sentences_of(replace(shots, sentences=()))
    assert (len(own), len(own[0]), own[1][0]) == (3, len(PATTERNS), "a cup.")
    assert len(set(PATTERNS)) == len(PATTERNS) == 24


def test_a_sentence_that_is_wrong_for_all_classes_is_rejected(nano: Base) -> None:
    torch.manual_seed(0)
    names = ("cat", "car", "house")
    sentences = [
        [*(f"a {words} {name}." for words in ("large", "small", "red", "blue", "green", "grey")), "no no no no no"]
        for name in names
    ]
    method = BiomedCoOp(BiomedCoOp.Config(), nano, names)
    bank = SentenceBank(nano, sentences)
    image = unit(bank.mean() + 0.02 * torch.randn(3, 256))
    shots = tiny_shots(image, torch.arange(3), torch.zeros(3, 3, 96, 96))
    shots = replace(shots, names=names, sentences=tuple(map(tuple, sentences)))
    fit(method, shots, Training(epochs=2, batch=3, crops=False), seed=0)
    assert method.kept_share.tolist() == [1.0] * 6 + [0.0]
    method.fold()
    assert method.bank is None


def test_the_parts_of_biomedcoop_can_be_switched_off() -> None:
    torch.manual_seed(0)
    method, batch = BiomedCoOp.tiny()
    assert set(method.losses(batch)) == {"cross_entropy", "consistency", "distillation"}
    expected = (method.class_vectors() - method.bank.mean()).square().mean() * 0.5  # type: ignore[union-attr]
    torch.testing.assert_close(method.losses(batch)["consistency"], expected)
    method.config = replace(method.config, consistency=0.0, distillation=0.0)
    assert set(method.losses(batch)) == {"cross_entropy"}
    method.config = replace(method.config, distillation=1.0, select=False, threshold=1e-9)
    everything = method.losses(batch)["distillation"]
    method.config = replace(method.config, select=True, threshold=100.0)
    torch.testing.assert_close(method.losses(batch)["distillation"], everything)
    with pytest.raises(PerceptError, match="threshold above 0"):
        BiomedCoOp.Config(threshold=0.0)


def test_scores_of_earlier_batches_can_be_kept() -> None:
    torch.manual_seed(0)
    method, batch = BiomedCoOp.tiny()
    method.config = replace(method.config, memory=0.75)
    one, other = batch.vector[:2], batch.vector[2:]
    method.selected(one)
    first = method._scores
    method.selected(other)
    own = sentence_scores(method.clip.scale() * torch.einsum("bd,csd->bcs", other, method.bank.vectors))  # type: ignore[union-attr]
    torch.testing.assert_close(method._scores, 0.25 * own + 0.75 * first)  # type: ignore[operator]


# CoPrompt


def test_coprompt_trains_as_many_values_as_published() -> None:
    method = CoPrompt(CoPrompt.Config(), paper_base(), NAMES)
    method.check_trainable()
    assert sum(method.declared().values()) == 3_817_216
    assert (CoPrompt.recipe(16).epochs, CoPrompt.recipe(16).batch, CoPrompt.recipe(16).rate) == (8, 4, 0.0035)
    assert (CoPrompt.Config().weight, CoPrompt.Config().image_share, CoPrompt.Config().text_share) == (1.0, 0.1, 0.2)


def test_the_losses_of_coprompt_are_their_equations() -> None:
    torch.manual_seed(0)
    method, batch = CoPrompt.tiny()
    assert batch.image is not None
    found, (text, image) = method.losses(batch), method.teachers(batch)
    classes, images = method.class_vectors(), method.image_vectors(batch)
    torch.testing.assert_close(
        found["text"], 1 - torch.stack([w @ t for w, t in zip(classes, text, strict=True)]).mean()
    )
    torch.testing.assert_close(found["image"], 1 - (images * image).sum(dim=1).mean())
    assert any(torch.equal(text, method.bank.vectors[:, s]) for s in range(3))  # type: ignore[union-attr]
    assert torch.equal(image, batch.vector)
    plain = super(CoPrompt, method).image_features(batch.image)
    adapter: Any = method.image_adapter
    hidden = (plain @ adapter.up.weight.T).relu()
    expected = 0.9 * plain + 0.1 * (hidden @ adapter.down.weight.T).relu()
    torch.testing.assert_close(method.image_features(batch.image), expected, atol=1e-5, rtol=1e-5)


def test_steps_use_different_sentences_of_coprompt() -> None:
    torch.manual_seed(0)
    method, batch = CoPrompt.tiny()
    used = []
    for step in range(12):
        used.append(method.teachers(batch)[0])
        method.after_step(step)
    assert len({float(each[0, 0]) for each in used}) == 3


def test_the_three_components_of_coprompt_can_be_switched_off() -> None:
    torch.manual_seed(0)
    method, batch = CoPrompt.tiny()
    method.config = replace(method.config, perturbed=False)
    assert batch.image is not None
    text, image = method.teachers(batch)
    torch.testing.assert_close(text, method.hand_vectors())
    torch.testing.assert_close(image, method.clip.embed_image(batch.image))
    method.config = replace(method.config, weight=0.0)
    assert set(method.losses(batch)) == {"cross_entropy"}
    bare = CoPrompt(replace(CoPrompt.tiny_config(), reduction=0), tiny_base(), ("cup", "book"))
    bare.check_trainable()
    assert not any("adapter" in name for name in bare.declared())
    with pytest.raises(PerceptError, match="at least 0"):
        CoPrompt.Config(weight=-1.0)


def test_the_consistency_of_equal_vectors_is_zero() -> None:
    one = vectors(4, 8)
    assert float(consistency_loss(one, 3 * one)) == pytest.approx(0, abs=1e-6)
    assert float(consistency_loss(one, -one)) == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("kind", [MoCoOp, BiomedCoOp, CoPrompt, Described])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saved_method_classifies_as_before(kind: Any, dtype: str, nano: Base, tmp_path: Any) -> None:
    images = torch.randn(3, 3, 96, 96)
    with torch.no_grad():
        shots = tiny_shots(nano.clip.embed_image(images), torch.arange(3), images)
    own = kind.Config(describe="scores") if kind is Described else kind.Config()
    method = kind(own, nano, NAMES)
    fit(method, replace(shots, names=NAMES), Training(epochs=1, batch=3), seed=0)
    method.fold()
    save_method(tmp_path / "saved", method, base="nano")
    opened: Any = percept.load(tmp_path / "saved", device="cpu", dtype=dtype)
    with torch.no_grad():
        expected, tolerance = method.class_logits(images), 1e-4 if dtype == "float32" else 0.5
        torch.testing.assert_close(opened.class_logits(images).float(), expected, atol=tolerance, rtol=0)
    assert opened.method.config == method.config
