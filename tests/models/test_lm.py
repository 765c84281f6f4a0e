"""The decoder: cache = no cache, ragged batch = single rows, packed = single, openings, sizes."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError
from percept.fast import adopt
from percept.models.language import DecoderConfig, RopeScaling
from percept.models.lm import Decoder
from percept.models.zoo import ASSISTANTS, DECODERS
from percept.nn.cache import KVCache
from percept.weights.layouts.plm import build_empty
from tests.conformance.wrapping import replaceable, wrap
from tests.models.talking import DECODER, STOP, decoder, ids

assert_close = partial(torch.testing.assert_close, atol=2e-5, rtol=1e-4)


def logits(model: Decoder, tokens: Tensor, **options: object) -> Tensor:
    return model.logits(model(tokens, **options).tokens)  # pyright: ignore[reportArgumentType]


def padded(rows: list[Tensor], length: int | None = None) -> Tensor:
    width = length or max(row.shape[1] for row in rows)
    return torch.cat([torch.cat([row, ids(width - row.shape[1])], dim=1) for row in rows])


@torch.no_grad()
def test_with_a_cache_the_logits_are_those_without() -> None:
    model, tokens = decoder(), ids(20, batch=2)
    whole = logits(model, tokens)
    for cuts in ([0, 20], [0, 7, 20], [0, 5, 6, 7, 8, 15, 20], [*range(21)]):
        cache = model.new_cache(2, 20)
        parts = [logits(model, tokens[:, start:end], cache=cache) for start, end in pairwise(cuts)]
        assert_close(torch.cat(parts, dim=1), whole)
        assert cache.lengths == (20, 20)


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("seed", range(6))
@torch.no_grad()
def test_a_ragged_batch_gives_what_its_rows_give_alone(seed: int, adopted: bool) -> None:
    """Two ragged calls, then single tokens, of which some rows leave early."""
    torch.manual_seed(seed)
    model = decoder(seed)
    if adopted:
        adopt(model.requires_grad_(False), pack=True)
    batch = int(torch.randint(2, 6, ()))
    cache = model.new_cache(batch, 40)
    seen: list[list[int]] = [[] for _ in range(batch)]
    for width, least in ((9, 1), (5, 0), (1, 0), (1, 0), (1, 1)):
        counts = torch.randint(least, width + 1, (batch,)).tolist()
        rows = [ids(count) for count in counts]
        found = logits(model, padded(rows, width), cache=cache, counts=counts)
        for number, (row, count) in enumerate(zip(rows, counts, strict=True)):
            seen[number] += row[0].tolist()
            alone = logits(model, torch.tensor([seen[number]]))
            assert_close(found[number, :count], alone[0, len(seen[number]) - count :])
    assert cache.lengths == tuple(map(len, seen))


def greedy(model: Decoder, prompts: list[Tensor], steps: int) -> list[list[int]]:
    """Greedy continuations of a batch; a row that has stopped stays in it with no new token."""
    counts = [prompt.shape[1] for prompt in prompts]
    cache = model.new_cache(len(prompts), max(counts) + steps)
    out, answers = logits(model, padded(prompts), cache=cache, counts=counts), [[] for _ in prompts]
    last = out[torch.arange(len(prompts)), torch.tensor(counts) - 1]
    for _ in range(steps):
        running = [not answer or answer[-1] != STOP for answer in answers]
        tokens = last.argmax(dim=-1, keepdim=True)
        for answer, token, runs in zip(answers, tokens[:, 0].tolist(), running, strict=True):
            answer += [token] * runs
        last = logits(model, tokens, cache=cache, counts=[int(runs) for runs in running])[:, 0]
    return answers


@pytest.mark.parametrize("seed", range(8))
@torch.no_grad()
def test_greedy_tokens_of_a_batch_are_exactly_those_of_single_calls(seed: int) -> None:
    torch.manual_seed(seed)
    model = decoder(seed, tied=False)
    prompts = [ids(int(length)) for length in torch.randint(1, 20, (5,))]
    together = greedy(model, prompts, 12)
    assert together == [greedy(model, [prompt], 12)[0] for prompt in prompts]
    assert len({token for answer in together for token in answer}) > 5


@torch.no_grad()
def test_a_shared_prefix_is_kept_and_used_for_several_questions() -> None:
    model, prefix, questions = decoder(), ids(10), [ids(3), ids(6), ids(1)]
    first = model.new_cache(1, 10)
    model(prefix, cache=first)
    cache = first.take([0, 0, 0], capacity=20)
    for _ in range(2):  # the second time the questions are cut off again
        found = logits(model, padded(questions), cache=cache, counts=[3, 6, 1])
        assert cache.lengths == (13, 16, 11)
        for row, question in zip(found, questions, strict=True):
            alone = logits(model, torch.cat([prefix, question], dim=1))[0, 10:]
            assert_close(row[: question.shape[1]], alone)
        cache.truncate(10)
    assert first.lengths == (10,)


@torch.no_grad()
def test_a_packed_row_equals_its_sequences_and_padding_changes_nothing() -> None:
    model, sequences = decoder(), [ids(5), ids(5), ids(2), ids(9)]
    row = logits(model, torch.cat(sequences, dim=1), segments=[(2, 5), (1, 2), (1, 9)])
    alone = [logits(model, sequence) for sequence in sequences]
    assert_close(row, torch.cat(alone, dim=1))
    batch = logits(model, padded(sequences))
    for found, expected in zip(batch, alone, strict=True):
        assert_close(found[: expected.shape[1]], expected[0])


def test_gradients_reach_every_parameter_and_checkpointing_changes_none() -> None:
    tokens, gradients = ids(9, batch=2), []
    for checkpointing in (False, True):
        model = decoder(tied=False, qkv_bias=True).train()
        model.checkpointing = checkpointing
        logits(model, tokens).logsumexp(dim=-1).sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
        assert all(gradient is not None and bool(gradient.any()) for name, gradient in gradients[-1].items())
    for name, plain in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], plain)


@pytest.mark.parametrize("way", ["plain", "packed", "cached"])
def test_every_linear_layer_can_be_replaced(way: str) -> None:
    tokens = ids(6)
    for name in replaceable(decoder(tied=False)):
        model = decoder(tied=False).requires_grad_(False)
        options = {"packed": {"segments": [(1, 4), (1, 2)]}, "cached": {"cache": model.new_cache(1, 6)}}.get(way, {})
        before = logits(model, tokens, **({} if way == "cached" else options)).detach()
        wrapper = wrap(model, name)
        adopt(model, pack=True)
        after = logits(model, tokens, **options)
        after.square().sum().backward()
        assert wrapper.acted()
        assert not torch.allclose(after, before, atol=1e-3)
    assert len(replaceable(decoder(tied=False))) == 3 * 7 + 1


@torch.no_grad()
def test_hidden_states_come_out_and_embeddings_go_in() -> None:
    model, tokens = decoder(), ids(7, batch=2)
    out = model(tokens, layers=(0, -1))
    assert list(out.hidden) == [0, -1]
    torch.testing.assert_close(model.norm(out.hidden[-1]), out.tokens)
    torch.testing.assert_close(model(embeddings=model.embedding(tokens)).tokens, out.tokens)
    torch.testing.assert_close(model.logits(out.tokens), out.tokens @ model.embedding.weight.T)
    untied = decoder(tied=False)
    assert untied.head is not None
    torch.testing.assert_close(untied.logits(out.tokens), out.tokens @ untied.head.weight.T)


@torch.no_grad()
def test_a_token_sees_itself_and_those_before_it() -> None:
    model, tokens = decoder(), ids(8)
    changed = tokens.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 47
    same = (logits(model, tokens) == logits(model, changed)).all(dim=-1)[0]
    assert same.tolist() == [True] * 5 + [False] * 3


def test_refusals() -> None:
    model = decoder()
    cases = (
        (lambda: model(ids(65)), "65 tokens, images and answer included, do not fit the context of 64"),
        (lambda: model(ids(70), segments=[(1, 65), (1, 5)]), "do not fit the context"),
        (lambda: model.new_cache(1, 65), "do not fit the context of 64"),
        (lambda: model(), "neither token ids and embeddings were given"),
        (lambda: model(ids(2), embeddings=torch.zeros(1, 2, 16)), "both token ids and embeddings"),
        (lambda: model(torch.tensor([[50]])), "token ids must be 0 to 49"),
        (lambda: model(ids(1), layers=(3,)), "there is no layer 3"),
    )
    for call, words in cases:
        with pytest.raises(PerceptError, match=words):
            call()
    assert model(ids(70), segments=[(2, 35)]).tokens.shape == (1, 70, 16)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kv_heads": 3}, "4 heads do not share 3 kv_heads"),
        ({"heads": 0}, "heads=0; it must be at least 1"),
        ({"heads": 3, "kv_heads": 3}, "width 16 does not divide into 3 heads"),
        ({"head_dim": 3}, "even number of head channels"),
        ({"layers": 513}, "at most 512"),
    ],
)
def test_configurations_that_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        decoder(**changes)
    with pytest.raises(PerceptError, match="high above low"):
        RopeScaling(factor=8.0, low=4.0, high=1.0)


def test_a_configuration_survives_json() -> None:
    for config in (DECODER, *DECODERS.values()):
        assert from_dict(DecoderConfig, to_dict(config)) == config


COUNTS = {
    "Llama-3.2-1B": 1_235_814_400, "Llama-3.2-3B": 3_212_749_824, "Llama-3.1-8B": 8_030_261_248,
    "Qwen2.5-0.5B": 494_032_768, "Qwen2.5-1.5B": 1_543_714_304, "Qwen2.5-3B": 3_085_938_688, "Qwen2.5-7B": 7_615_616_512,
}  # fmt: skip
PARTS = {
    "Perception-LM-1B": (1235.8, 291.4, 6.3, 1533.5), "Perception-LM-3B": (3212.7, 291.4, 12.6, 3516.8),
    "Perception-LM-8B": (8030.3, 1740.9, 23.1, 9794.3),
}  # fmt: skip
"""Parameters in millions of decoder, vision tower, projector and all."""


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_published_numbers_of_parameters(name: str) -> None:
    assert count(build_empty(DECODERS[name], name)) == COUNTS[name]


@pytest.mark.parametrize("name", PARTS)
def test_published_numbers_of_parameters_of_each_part(name: str) -> None:
    config = ASSISTANTS[name].config
    assert config is not None
    model = build_empty(config, name)
    parts = [model.get_submodule(part) for part in ("decoder", "vision", "projector")]
    assert tuple(round(count(part) / 1e6, 1) for part in (*parts, model)) == PARTS[name]
    assert config.tile_tokens == 256
    kilobytes = {"1B": 32, "3B": 112, "8B": 128}[name[-2:]]
    cache = KVCache(
        layers=config.decoder.layers, batch=1, heads=config.decoder.kv_heads, head_dim=config.decoder.head_width,
        capacity=1, dtype=torch.bfloat16, device=torch.device("meta"),
    )  # fmt: skip
    assert cache.nbytes == (1 + 1) * kilobytes * 1024  # one token, and the slot for padding


def test_new_weights_are_small_and_residual_branches_smaller() -> None:
    model = Decoder(DecoderConfig(vocabulary=500, width=64, layers=8, heads=4, kv_heads=2, hidden=128))
    down, up = (model.get_parameter(f"blocks.3.mlp.{name}.weight") for name in ("down", "up"))
    assert float(up.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert float(down.detach().std()) == pytest.approx(0.02 / 4, rel=0.1)
    assert float(model.embedding.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
