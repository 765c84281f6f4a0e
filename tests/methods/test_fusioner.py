"""Fusioner: its loss against a loop, its towers untouched, its saved form, and that it learns."""

import pytest
import torch
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.losses.segmentation import mask_bce
from percept.methods.segmentation.fusioner import Fusioner


def test_the_loss_equals_a_loop_and_ignores_255() -> None:
    logits = torch.randn(2, 3, 4)
    mask = torch.tensor([0, 1, 255])[torch.randint(0, 3, (2, 3, 4))]
    terms = []
    for value, truth in zip(logits.flatten().tolist(), mask.flatten().tolist(), strict=True):
        if truth != 255:
            share = 1 / (1 + torch.exp(torch.tensor(-value)))
            terms.append(-(share.log() if truth else (1 - share).log()))
    torch.testing.assert_close(mask_bce(logits, mask), torch.stack(terms).mean())
    assert float(mask_bce(logits, torch.full_like(mask, 255))) == 0.0


def test_training_leaves_the_towers_unchanged_and_lowers_the_loss() -> None:
    task, batch = Fusioner.tiny()
    before = {name: value.clone() for name, value in task.clip.state_dict().items()}
    optimiser = torch.optim.AdamW([each for each in task.parameters() if each.requires_grad], lr=1e-2)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = task.train()(batch)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in task.clip.state_dict().items())
    assert not task.clip.training


def test_patches_lie_in_the_space_of_the_pooled_vectors() -> None:
    task, batch = Fusioner.tiny()
    found = task.patches(batch.image)
    tower = task.clip.vision
    out = tower(batch.image, pool=False)
    lone = tower.pooled(out.tokens[1:2, out.prefix + 5 : out.prefix + 6], out.prefix)
    torch.testing.assert_close(found[1].flatten(0, 1)[5], F.normalize(lone[0], dim=-1))


def test_the_text_decides_and_logits_are_bounded() -> None:
    task, batch = Fusioner.tiny()
    patches = task.patches(batch.image)
    one, other = task.logits(patches, batch.text), task.logits(patches, -batch.text)
    assert one.shape == (3, 8, 8)
    assert not torch.allclose(one, other)
    assert float(one.detach().abs().max()) <= 1 / 0.07 + 1e-3
    share = task.probability(batch.image, batch.text)
    assert share.shape == (3, 16, 16)
    assert ((share >= 0) & (share <= 1)).all()


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(PerceptError, match="multiple of heads"):
        Fusioner.Config(width=10, heads=4)
