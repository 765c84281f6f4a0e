"""The objective of PLM against a loop by hand, and its forms against each other."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.data.chat.batch import ChatBatch
from percept.methods.language.plm import PLM, Config, normalised, packed
from percept.models.vlm import VLM


def by_hand(task: PLM, batch: ChatBatch) -> torch.Tensor:
    """Return the mean over all tokens to learn of -log p(token | everything before it), one conversation and token at a time."""
    losses, first = [], 0
    for row in range(len(batch)):
        length, count = int(batch.lengths[row]), int(batch.tile_counts[row])
        tiles = normalised(batch.tiles[first : first + count], torch.float32) if count else None
        first += count
        for place in range(1, length):
            if batch.learned[row, place]:
                logits = task.vlm(batch.ids[row : row + 1, :place], tiles=tiles)
                losses.append(-F.log_softmax(logits[0, -1], dim=-1)[batch.ids[row, place]])
    return torch.stack(losses).mean()


def test_the_loss_is_that_of_the_paper() -> None:
    task, batch = PLM.tiny()
    with torch.no_grad():
        assert torch.allclose(task(batch)["loss"], by_hand(task, batch), atol=1e-5)


@pytest.mark.parametrize(
    "change", [{"packed": False}, {"micro_tokens": 13}, {"checkpointing": True}, {"packed": False, "micro_tokens": 1}]
)
def test_every_form_has_the_same_loss_and_gradient(change: dict) -> None:
    task, batch = PLM.tiny()
    other = PLM(Config(**change), task.vlm)
    values, gradients = [], []
    for each in (task, other):
        for part in (each.vlm.decoder, each.vlm.vision):
            setattr(part, "checkpointing", each.config.checkpointing)  # noqa: B010
        each.zero_grad()
        loss = each(batch)["loss"]
        loss.backward()
        values.append(loss.detach())
        gradients.append(
            {
                name: parameter.grad.clone()
                for name, parameter in task.vlm.named_parameters()
                if parameter.grad is not None
            }
        )
    assert torch.allclose(*values, atol=1e-6)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-5), name


def test_padding_and_the_order_of_rows_have_no_meaning() -> None:
    task, batch = PLM.tiny()
    mess = batch.ids.clone()
    mess[torch.arange(12) >= batch.lengths[:, None]] = 3  # the image token
    order = torch.tensor([2, 1, 0])
    turned = replace(
        batch,
        ids=mess[order],
        learned=batch.learned[order],
        lengths=batch.lengths[order],
        tile_counts=batch.tile_counts[order],
        tiles=batch.tiles.flip(0),
    )
    for config in (Config(), Config(packed=False)):
        each = PLM(config, task.vlm)
        assert torch.allclose(each(turned)["loss"], each(batch)["loss"], atol=1e-6)


def test_an_image_of_several_rows_is_encoded_once() -> None:
    task, batch = PLM.tiny()
    ids, learned = batch.ids[[1, 0, 2, 0]], batch.learned[[1, 0, 2, 0]]
    lengths, counts = batch.lengths[[1, 0, 2, 0]], torch.tensor([1, 1, 0, 1])
    common = {"ids": ids, "learned": learned, "lengths": lengths, "tile_counts": counts}
    repeated = ChatBatch(**common, tiles=batch.tiles[[1, 0, 0]])
    shared = ChatBatch(**common, tiles=batch.tiles, tile_places=torch.tensor([1, 0, 0]))
    seen: list[int] = []
    task.vlm.vision.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    for config in (Config(), Config(packed=False), Config(micro_tokens=13)):
        each = PLM(config, task.vlm)
        assert torch.allclose(each(shared)["loss"], each(repeated)["loss"], atol=1e-6)
    assert seen[:2] == [2, 3]
    part = shared.rows(slice(1, 4))
    assert torch.equal(part.tiles, batch.tiles[:1])
    assert part.places.tolist() == [0, 0]


def test_a_batch_without_targets_gives_zero_and_no_nan() -> None:
    task, batch = PLM.tiny()
    empty = replace(batch, learned=torch.zeros_like(batch.learned))
    out = task(empty)
    out["loss"].backward()
    assert float(out["loss"].detach()) == 0
    assert float(out["answer_tokens"]) == 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in task.parameters() if parameter.grad is not None)


def test_text_alone_has_a_gradient_for_every_part() -> None:
    task, batch = PLM.tiny()
    task(batch.rows(slice(2, 3)))["loss"].backward()
    assert all(parameter.grad is not None for parameter in task.vlm.projector.parameters())


def test_rows_of_a_batch_keep_their_tiles() -> None:
    _, batch = PLM.tiny()
    assert torch.equal(batch.rows(slice(1, 3)).tiles, batch.tiles[1:])
    assert batch.rows(slice(2, 3)).ids.shape == (1, 7)
    assert len(batch.rows(slice(2, 3)).tiles) == 0


def test_micro_tokens_must_be_positive() -> None:
    with pytest.raises(PerceptError, match="micro_tokens"):
        Config(micro_tokens=0)


def test_every_answer_weighs_the_same_if_asked() -> None:
    task, batch = PLM.tiny()
    whole = task(batch)
    single = PLM(Config(by_answer=True), task.vlm)
    rows = [task(batch.rows(slice(row, row + 1)))["loss"] for row in range(len(batch))]  # an answer each
    torch.testing.assert_close(single(batch)["loss"], torch.stack(rows).mean())
    assert not torch.isclose(single(batch)["loss"], whole["loss"])
    parts = PLM(Config(by_answer=True, micro_tokens=12), task.vlm)
    torch.testing.assert_close(parts(batch)["loss"], single(batch)["loss"])


def questions_about_an_image() -> tuple[PLM, ChatBatch]:
    """Two images with three and two questions, and a row of text."""
    task, _ = PLM.tiny()
    rows, learned, counts, places = [], [], [], []
    for image, ends in ((0, (7, 4, 9)), (1, (5, 5))):
        beginning = [5 + image, 3, 3, 3, 3, 8]
        for number, end in enumerate(ends):
            rows.append([*beginning, 10 + number, *torch.randint(4, 40, (end,)).tolist()])
            learned.append([place >= 9 for place in range(len(rows[-1]))])
            counts.append(1)
            places.append(image)
    rows.insert(1, [9, 4, 7, 11])
    learned.insert(1, [False, False, True, True])
    counts.insert(1, 0)
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    known = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in learned], batch_first=True)
    return task, ChatBatch(
        ids=ids,
        learned=known,
        lengths=torch.tensor([len(row) for row in rows]),
        tile_counts=torch.tensor(counts),
        tiles=torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8),
        tile_places=torch.tensor(places),
    )


@pytest.mark.parametrize("frames", [False, True])
def test_questions_about_an_image_share_their_beginning_and_nothing_else(frames: bool) -> None:
    task, batch = questions_about_an_image()
    if frames:
        torch.manual_seed(0)
        task.vlm = VLM(replace(task.vlm.config, projector_frames=True))
        assert task.vlm.projector.frame is not None
        nn.init.normal_(task.vlm.projector.frame.weight)
    ordered = batch.sorted_by_length()
    row = packed(ordered, task.vlm.placeholders(ordered.ids))
    assert row.branches == [None, (6, 6, 6), (6, 5, 8, 10)]
    assert row.segments == [(1, 4), (1, 18), (1, 29)]
    assert int((row.ids == 3).sum()) == 8
    gradients = []
    for config in (Config(), Config(packed=False), Config(by_answer=True), Config(by_answer=True, packed=False)):
        task.zero_grad()
        loss = PLM(config, task.vlm)(batch)["loss"]
        loss.backward()
        gradients.append(
            [loss.detach()] + [each.grad.clone() for each in task.vlm.parameters() if each.grad is not None]
        )
    for one, other in (gradients[:2], gradients[2:]):
        for left, right in zip(one, other, strict=True):
            torch.testing.assert_close(left, right, atol=2e-6, rtol=1e-4)


def test_rows_that_differ_before_their_image_or_answer_at_once_share_nothing() -> None:
    task, batch = questions_about_an_image()
    other = batch.ids.clone()
    other[:, 0] = torch.arange(len(batch)) + 20
    early = batch.learned.clone()
    early[:, 2:] = torch.arange(2, early.shape[1]) < batch.lengths[:, None]
    for changed in (replace(batch, ids=other), replace(batch, learned=early)):
        ordered = changed.sorted_by_length()
        assert packed(ordered, task.vlm.placeholders(ordered.ids)).branches is None
        losses = [PLM(config, task.vlm)(changed)["loss"] for config in (Config(), Config(packed=False))]
        torch.testing.assert_close(*losses)
