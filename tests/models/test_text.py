"""The text tower: tokens up to the end token count, prompts follow the start token."""

import pytest
import torch

from percept.core.errors import PerceptError
from percept.models.text import TextTower
from percept.nn.context import Context
from tests.models.small import END, START, TEXT, clip, linear, texts


def tower() -> TextTower:
    return TextTower(TEXT).eval()


def test_tokens_after_the_end_change_nothing() -> None:
    model, ids = tower(), texts(4)
    changed = ids.clone()
    for row, end in enumerate(ids.argmax(dim=-1)):
        changed[row, end + 1 :] = torch.randint(1, START, (TEXT.context - int(end) - 1,))
    assert not torch.equal(ids, changed)
    torch.testing.assert_close(model(changed).pooled, model(ids).pooled)
    before = ids.clone()
    before[:, 1] = (before[:, 1] % (START - 2)) + 1
    assert not torch.allclose(model(before).pooled, model(ids).pooled, atol=1e-3)


def test_encoding_trims_the_padding_away() -> None:
    model, ids = clip(), texts(4)
    assert model.text is not None
    torch.testing.assert_close(model.encode_text(ids), model.text(ids).pooled)
    short = ids[:1]
    torch.testing.assert_close(model.encode_text(short), model.encode_text(ids)[:1])


def test_embeddings_in_are_ids_in() -> None:
    model, ids = tower(), texts()
    ends = ids.argmax(dim=-1)
    from_embeddings = model(embeddings=model.embedding(ids), ends=ends)
    assert torch.equal(from_embeddings.pooled, model(ids).pooled)
    with pytest.raises(PerceptError, match="positions of their end tokens"):
        model(embeddings=model.embedding(ids))
    with pytest.raises(PerceptError, match="give token ids"):
        model()


def test_an_end_can_be_given() -> None:
    model, ids = tower(), texts()
    out = model(ids, ends=torch.tensor([1, 1, 1]))
    torch.testing.assert_close(out.pooled, out.tokens[:, 1] @ model.projection)


def test_bias_joins_the_causal_mask() -> None:
    model, ids = tower(), texts()
    nothing = torch.zeros(TEXT.context, TEXT.context)
    torch.testing.assert_close(model(ids, bias=nothing).tokens, model(ids).tokens)
    nothing[1:, 0] = float("-inf")
    assert not torch.allclose(model(ids, bias=nothing).tokens, model(ids).tokens, atol=1e-3)


@pytest.mark.parametrize("at", [0, 1])
def test_extra_tokens_follow_the_start_token_and_the_end_is_still_found(at: int) -> None:
    model, ids = tower(), texts()
    extra = torch.randn(2, 16)
    out = model(ids, extra={at: extra}, layers=(0, 1))
    rows, ends = torch.arange(3), ids.argmax(dim=-1) + 2
    torch.testing.assert_close(out.pooled, out.tokens[rows, ends] @ model.projection)
    assert out.hidden[1].shape == (3, TEXT.context + 2, 16)
    x = model.embedding(ids) + model.positions
    for index, one in enumerate(model.blocks):
        if index == at:
            x = torch.cat([x[:, :1], extra.expand(3, -1, -1), x[:, 1:]], dim=1)
        x = one(x, Context(causal=True))
    torch.testing.assert_close(out.tokens, model.norm(x))
    # causal: the start token sees nothing inserted
    torch.testing.assert_close(out.tokens[:, 0], model(ids).tokens[:, 0])


def test_extra_tokens_do_not_move_an_end_at_the_start() -> None:
    model, ids = tower(), torch.tensor([[END, 0, 0], [START, 5, END]])
    out = model(ids, extra={0: torch.randn(2, 16)})
    torch.testing.assert_close(out.pooled, out.tokens[[0, 1], [0, 4]] @ model.projection)


def test_a_bias_goes_with_extra_tokens() -> None:
    model, ids, extra = tower(), texts(), torch.randn(2, 16)
    hide = torch.zeros(TEXT.context + 2, TEXT.context + 2)
    hide[:, 1:3] = float("-inf")
    hide[1:3, 1:3] = 0
    found, plain = model(ids, extra={0: extra}, bias=hide), model(ids)
    torch.testing.assert_close(found.pooled, plain.pooled, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ids", [[[START, END + 1]], [[START, -1]]])
def test_an_id_outside_the_vocabulary(ids: list[list[int]]) -> None:
    with pytest.raises(PerceptError, match="0 to 39"):
        tower()(torch.tensor(ids))


def test_a_text_longer_than_the_context() -> None:
    with pytest.raises(PerceptError, match="11 tokens does not fit the context of 10"):
        tower()(torch.ones(1, 11, dtype=torch.int64))


def test_checkpointing_reaches_every_parameter_with_the_same_gradient() -> None:
    model, ids = tower(), texts()
    gradients = []
    for checkpointing in (False, True):
        model.checkpointing = checkpointing
        model.zero_grad()
        model(ids).pooled.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        torch.testing.assert_close(gradients[1][name], gradient)


def test_initialisation_scales_residual_outputs_down_with_depth() -> None:
    first = tower().requires_grad_(False).blocks[0]
    for name, deviation in (
        ("attention.qkv", 16**-0.5),
        ("attention.out", 16**-0.5 * 4**-0.5),
        ("mlp.up", 32**-0.5),
        ("mlp.down", 16**-0.5 * 4**-0.5),
    ):
        part = linear(first, name)
        assert float(part.weight.std()) == pytest.approx(deviation, rel=0.2)
        assert not part.bias.any()


def test_equal_beginnings_may_be_computed_once() -> None:
    model, ids = tower(), texts(6)
    ends = ids.argmax(dim=-1)
    same = int(ends.min())
    rows = model.embedding(ids).clone()
    for start in (0, 3):  # two groups of three texts
        rows[start : start + 3, :same] = rows[start, :same]
    expected = model(embeddings=rows, ends=ends)
    found = model(embeddings=rows, ends=ends, shared=same, starts=2)
    torch.testing.assert_close(found.pooled, expected.pooled)
    torch.testing.assert_close(found.tokens, expected.tokens[:, same:])
    model.checkpointing = True
    torch.testing.assert_close(model(embeddings=rows, ends=ends, shared=same, starts=2).pooled, expected.pooled)
