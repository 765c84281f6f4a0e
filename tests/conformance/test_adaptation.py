"""Every adaptation method through the six checks of the harness: trainable set, neutral start, class swap, determinism, leaks, gradients."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from percept.core.errors import PerceptError
from percept.core.io import same_tensors
from percept.infer.identity import Identity
from percept.methods import INDEX
from percept.methods.adaptation import ADAPTATIONS
from percept.methods.adaptation.bench import Arm, Case, adaptation_class, run
from percept.methods.adaptation.contract import Adaptation, Views, tiny_base, tiny_shots
from percept.methods.adaptation.few import LabelledSet, Seen
from percept.methods.adaptation.measure import answer
from percept.methods.adaptation.texts import Base, text_vectors
from percept.methods.adaptation.trainer import fit
from percept.methods.saved import own_tensors

CLASSES = ("cup", "old book", "red cup", "photo")
OTHERS = ("book", "old cup")


@pytest.fixture(params=list(ADAPTATIONS))
def kind(request: pytest.FixtureRequest) -> type[Adaptation]:
    return adaptation_class(request.param)


def tiny(kind: type[Adaptation], seed: int = 0) -> tuple[Any, Views]:
    torch.manual_seed(seed)
    return kind.tiny()


def few_epochs(kind: type[Adaptation]) -> Any:
    training = kind.recipe(4)
    return replace(training, epochs=min(training.epochs, 3), batch=2)


def names_of(kind: type[Adaptation]) -> list[str]:
    return [name for name, target in ADAPTATIONS.items() if target == f"{kind.__module__}:{kind.__qualname__}"]


def test_1_only_the_declared_parameters_are_trained(kind: type[Adaptation]) -> None:
    method, batch = tiny(kind)
    assert method.trainable() == method.declared()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    if method.declared():
        optimiser = torch.optim.SGD([each for each in method.parameters() if each.requires_grad], lr=0.1)
        method.train()(batch)["loss"].backward()
        method.after_backward()
        optimiser.step()
        method.after_step(0)
    changed = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert changed | set(method.zero_at_first) == set(method.declared())


def test_2_a_neutral_start_equals_the_frozen_model(kind: type[Adaptation]) -> None:
    method, batch = tiny(kind)
    neutral = method.neutral_twin()
    if neutral is None:
        pytest.skip(f"{kind.__name__} declares no neutral start")
    neutral.use(OTHERS)
    expected = (
        neutral.clip.scale() * batch.vector @ text_vectors(neutral.base, [f"a photo of a {name}." for name in OTHERS]).T
    )
    with torch.no_grad():
        torch.testing.assert_close(neutral.eval().logits(batch), expected, atol=1e-5, rtol=0)


def test_3_other_classes_rebuild_what_depends_on_names_and_nothing_else(kind: type[Adaptation]) -> None:
    method, batch = tiny(kind)
    method.eval()
    before = {name: value.clone() for name, value in own_tensors(method).items()}
    if not method.other_classes:
        with pytest.raises(PerceptError, match="knows only"):
            method.use(OTHERS)
        return
    method.use(OTHERS)
    with torch.no_grad():
        assert method.logits(batch).shape == (len(batch), len(OTHERS))
    assert same_tensors(before, own_tensors(method))
    method.use(method.names[::-1])
    with torch.no_grad():
        turned = method.logits(batch)
        torch.testing.assert_close(method.use(OTHERS).logits(batch).flip(1), turned, atol=1e-5, rtol=1e-5)


def test_4_the_same_seed_gives_the_same_result(kind: type[Adaptation]) -> None:
    results = []
    for _ in range(2):
        method, batch = tiny(kind)
        shots = tiny_shots(batch.vector, batch.label, torch.zeros(4, 3, 16, 16) if batch.image is None else batch.image)
        fit(method, shots, few_epochs(kind), seed=3)
        results.append({name: value.clone() for name, value in own_tensors(method).items()})
    assert same_tensors(*results)


def test_5_nothing_of_new_classes_or_test_images_is_read_in_training(kind: type[Adaptation], audited: Any) -> None:
    seen, read = audited
    name = names_of(kind)[0]
    arm = Arm(method=name, config=kind.tiny_config(), training={"epochs": min(2, kind.recipe(2).epochs), "batch": 2})
    drawn = set(seen.data.drawn(2, 1).tolist())
    result = run(arm, seen, Case(shots=2, seed=1, crops=1))
    base = {row for row in drawn if seen.data.labels[row] in seen.data.part("base")}
    assert set(read) <= drawn | set(seen.data.test.tolist())
    assert result.method.names == seen.data.names("base")
    assert result.record["leaks"] == list(kind.leaks)
    assert result.record["trainable"] == sum(result.method.declared().values())
    shots = seen.shots(seen.data.drawn(2, 1), "base", crops=0)
    assert {seen.data.keys.index(key) for key in shots.keys} == base


def test_6_the_gradient_reaches_every_declared_parameter(kind: type[Adaptation]) -> None:
    method, batch = tiny(kind)
    if not method.declared():
        pytest.skip("nothing is trained")
    method.train()(batch)["loss"].backward()
    reached = {name for name, each in method.named_parameters() if each.grad is not None and bool(each.grad.any())}
    assert reached | set(method.zero_at_first) == set(method.declared())


def test_folding_keeps_the_logits(kind: type[Adaptation]) -> None:
    method, batch = tiny(kind)
    with torch.no_grad():
        before = method.eval().logits(batch)
        method.fold()
        torch.testing.assert_close(method.eval().logits(batch), before, atol=1e-5, rtol=1e-5)


def test_the_batch_order_of_one_image_does_not_matter(kind: type[Adaptation]) -> None:
    method, batch = tiny(kind)
    with torch.no_grad():
        together = method.eval().logits(batch)
        alone = torch.cat([method.logits(batch.rows(slice(row, row + 1))) for row in range(len(batch))])
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)


def test_a_method_that_trains_is_in_the_index(kind: type[Adaptation]) -> None:
    method, _ = tiny(kind)
    assert all(INDEX.get(name) == ADAPTATIONS[name] for name in names_of(kind)) == bool(method.declared())


class Encoder:
    """As much of an encoder as the harness needs, on random towers; remembers nothing."""

    name = "tiny"
    identity = Identity(name="tiny", image="0", text="0", dim=16)

    def __init__(self, base: Base) -> None:
        from percept.data.transforms import Preprocess

        self.model, self.tokenizer, self.preprocess = base.clip, base.tokenizer, Preprocess(size=16)

    @torch.no_grad()
    def image(self, images: Any) -> torch.Tensor:
        return self.model.embed_image(images)


@pytest.fixture
def audited() -> Any:
    """A set that remembers which images were read after its vectors were made."""
    torch.manual_seed(0)
    rng, read = np.random.default_rng(0), []
    pixels = rng.integers(0, 255, (24, 16, 16, 3), dtype=np.uint8)

    def image(row: int) -> Any:
        read.append(row)
        return pixels[row]

    labels = np.repeat(np.arange(4), 6)
    inside = np.tile(np.arange(6), 4) < 3
    data = LabelledSet(
        name="noise", classes=CLASSES, image=image, labels=labels, keys=tuple(map(str, range(24))), pool=np.flatnonzero(inside),
        test=np.flatnonzero(~inside), looks=np.arange(24),
    )  # fmt: skip
    encoder: Any = Encoder(tiny_base())
    vectors = encoder.image(torch.randn(24, 3, 16, 16))
    return Seen(data=data, encoder=encoder, vectors=vectors), read


def test_answers_of_new_classes_are_among_their_names(audited: Any) -> None:
    seen, _ = audited
    kind: Any = adaptation_class("zero-shot")
    method = kind.from_encoder(kind.Config(), seen.encoder, CLASSES).eval()
    found = answer(method, seen, seen.data.tested(seen.data.drawn(2, 1), "new"), "new")
    assert set(found.guess) <= {2, 3}
    assert set(found.truth) == {2, 3}


def test_preprocessed_images_give_the_same_logits_as_a_batch(kind: type[Adaptation]) -> None:
    torch.manual_seed(0)
    method, batch = tiny(kind)
    image = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        vector = method.base.clip.embed_image(image)
        views = replace(batch, vector=vector, image=image if kind.reads == "images" else None)
        torch.testing.assert_close(method.eval().class_logits(image), method.logits(views), atol=1e-4, rtol=1e-4)
