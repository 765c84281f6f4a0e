"""The text tower: what counts is what stands before the end token."""

import pytest
import torch

from percept.core.errors import PerceptError
from percept.models.text import TextTower
from tests.models.small import END, START, TEXT, block, clip, texts


def tower() -> TextTower:
    return TextTower(TEXT).eval()


def test_tokens_behind_the_end_change_nothing() -> None:
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


def test_an_end_can_be_said() -> None:
    model, ids = tower(), texts()
    out = model(ids, ends=torch.tensor([1, 1, 1]))
    torch.testing.assert_close(out.pooled, out.tokens[:, 1] @ model.projection)


def test_bias_joins_the_causal_mask() -> None:
    model, ids = tower(), texts()
    nothing = torch.zeros(TEXT.context, TEXT.context)
    torch.testing.assert_close(model(ids, bias=nothing).tokens, model(ids).tokens)
    nothing[1:, 0] = float("-inf")
    assert not torch.allclose(model(ids, bias=nothing).tokens, model(ids).tokens, atol=1e-3)


def test_extra_tokens_stand_in_front_and_the_end_is_still_found() -> None:
    model, ids = tower(), texts()
    out = model(ids, extra={0: torch.randn(2, 16)}, layers=(0,))
    ends = ids.argmax(dim=-1) + 2
    torch.testing.assert_close(out.pooled, out.tokens[torch.arange(3), ends] @ model.projection)
    assert out.hidden[0].shape == (3, TEXT.context + 2, 16)
    # the first inserted token sees only itself, so the texts cannot change it
    assert torch.allclose(out.hidden[0][:, 0], out.hidden[0][:1, 0])


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
    first = block(tower().requires_grad_(False).blocks, 0)
    for part, deviation in (
        (first.attention.qkv, 16**-0.5),
        (first.attention.out, 16**-0.5 * 4**-0.5),
        (first.mlp.up, 32**-0.5),
        (first.mlp.down, 16**-0.5 * 4**-0.5),
    ):
        assert float(part.weight.std()) == pytest.approx(deviation, rel=0.2)
        assert not part.bias.any()
