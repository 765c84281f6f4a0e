"""The models of curation: TL;DR's captioner with a codebook, and TIP-CLIP."""

import pytest
import torch
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.losses.contrastive import info_nce
from percept.methods.curation.tldr import Captioner, Codebook
from percept.methods.curation.visualness import Judged, Visualness


def test_a_codebook_takes_the_nearest_entry_and_passes_the_gradient_on() -> None:
    torch.manual_seed(0)
    book = Codebook(6, 4, beta=0.25)
    tokens = torch.randn(2, 3, 4, requires_grad=True)
    found = book(tokens)
    loss = torch.zeros(())
    for image in range(2):
        for place in range(3):
            token = tokens[image, place]
            nearest = min(
                range(6), key=lambda code, token=token: float((token - book.entries[code]).detach().square().sum())
            )
            assert int(found.codes[image, place]) == nearest
            torch.testing.assert_close(found.tokens[image, place], book.entries[nearest])
            entry = book.entries[nearest]
            loss = loss + (token.detach() - entry).square().sum() + 0.25 * (token - entry.detach()).square().sum()
    torch.testing.assert_close(found.loss, loss / 24)
    (gradient,) = torch.autograd.grad(found.tokens.sum(), tokens)
    torch.testing.assert_close(gradient, torch.ones_like(tokens))


def test_the_captioner_sees_the_image_and_no_later_token() -> None:
    torch.manual_seed(0)
    task, batch = Captioner.tiny()
    entries = task.quantise(batch.image).tokens
    logits = task.logits(entries, batch.tokens[:, :-1])
    changed = batch.tokens[:, :-1].clone()
    changed[:, 3] = (changed[:, 3] + 1) % 18
    again = task.logits(entries, changed)
    torch.testing.assert_close(again[:, :3], logits[:, :3])
    assert not torch.allclose(again[:, 3:], logits[:, 3:])
    assert not torch.allclose(task.logits(entries.flip(0), batch.tokens[:, :-1])[:, 0], logits[:, 0])


def test_captions_are_learned_and_generated() -> None:
    torch.manual_seed(0)
    task, batch = Captioner.tiny()
    optimiser = torch.optim.AdamW([each for each in task.parameters() if each.requires_grad], lr=2e-2)
    for _ in range(150):
        optimiser.zero_grad()
        task(batch)["loss"].backward()
        optimiser.step()
    written = task.generate(batch.image, start=18, end=19, most=6)
    assert sum(one == ids[1:-1] for one, ids in zip(written, batch.tokens.tolist(), strict=True)) >= 3
    assert task.codes(batch.image).shape == (4, 5)
    with pytest.raises(PerceptError, match="at least 2"):
        Captioner.Config(codes=1)


def test_texts_that_are_not_visual_are_paired_with_the_null_image() -> None:
    torch.manual_seed(0)
    task, batch = Visualness.tiny()
    clip = task.clip
    null = clip.embed_image(task.null[None])[0]
    images = clip.embed_image(batch.image)
    paired = torch.stack([image if visual else null for image, visual in zip(images, batch.visual, strict=True)])
    expected = info_nce(paired, clip.embed_text(batch.tokens), clip.scale())
    torch.testing.assert_close(task(batch)["loss"], expected)
    other = Judged(image=batch.image.clone(), tokens=batch.tokens, visual=batch.visual)
    other.image[1] += 1  # the image of a text that is not visual
    torch.testing.assert_close(task(other)["loss"], task(batch)["loss"])


def test_training_separates_visual_texts_by_their_distance_from_the_null_image() -> None:
    torch.manual_seed(0)
    task, batch = Visualness.tiny()
    optimiser = torch.optim.AdamW(task.parameters(), lr=5e-3)
    for _ in range(60):
        optimiser.zero_grad()
        task(batch)["loss"].backward()
        optimiser.step()
    values = task.visualness(batch.tokens)
    assert values[batch.visual].min() > values[~batch.visual].max()
    torch.testing.assert_close(
        values, 1 - F.cosine_similarity(task.clip.embed_text(batch.tokens), task.clip.embed_image(task.null[None]))
    )
    only = Judged(image=batch.image, tokens=batch.tokens, visual=torch.zeros(4, dtype=torch.bool))
    assert bool(task(only)["loss"].isfinite())
