"""The vision tower: its switches, its openings, and cutting it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.models import vision
from percept.models.vision import VisionTower
from percept.nn.rope import rope_2d
from tests.models.small import VISION, clip, images, linear


def tower(**changes: object) -> VisionTower:
    return VisionTower(replace(VISION, **changes)).eval()  # type: ignore[arg-type]


def test_without_rotary_positions_it_is_a_stack_of_pytorch_encoder_layers() -> None:
    ours = tower(rope=False)
    layers = [
        nn.TransformerEncoderLayer(16, 2, 64, 0.0, nn.GELU(), batch_first=True, norm_first=True).eval()
        for _ in range(3)
    ]
    for layer, ours_block in zip(layers, ours.blocks, strict=True):
        layer.load_state_dict({theirs(name): value for name, value in ours_block.state_dict().items()})
    image = images()
    x = F.conv2d(image, ours.patch.weight, stride=4).flatten(2).transpose(1, 2)
    x = ours.norm_pre(ours.add_positions(x, (4, 4)))
    for layer in layers:
        # run piece by piece: the whole layer's fast path of evaluation is less exact
        x = x + layer.self_attn(layer.norm1(x), layer.norm1(x), layer.norm1(x), need_weights=False)[0]
        x = x + layer.linear2(F.gelu(layer.linear1(layer.norm2(x))))
    torch.testing.assert_close(ours(image).tokens, ours.norm_post(x), atol=1e-5, rtol=1e-5)
    rotary = tower()
    rotary.load_state_dict(ours.state_dict())
    assert not torch.allclose(rotary(image).tokens, ours(image).tokens, atol=1e-2)


def theirs(name: str) -> str:
    for old, new in (
        ("attention.qkv.", "self_attn.in_proj_"),
        ("attention.out.", "self_attn.out_proj."),
        ("mlp.up.", "linear1."),
        ("mlp.down.", "linear2."),
        ("norm_", "norm"),
    ):
        name = name.replace(old, new)
    return name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"class_token": False},
        {"rope": False, "absolute_positions": False},
        {"layer_scale": 0.1, "norm_pre": False, "norm_post": False},
        {"pool": "class"},
        {"pool": "average", "class_token": False},
        {"pool": "none", "output_dim": None},
        {"hidden": 20, "output_dim": None},
    ],
)
def test_every_switch_runs_on_any_grid_and_reaches_every_parameter(changes: dict) -> None:
    model = tower(**changes)
    out = model(images(2, 12, 22))  # 3 rows and 5 columns, two pixels left over
    prefix = int(model.config.class_token)
    assert (out.grid, out.prefix, out.tokens.shape) == ((3, 5), prefix, (2, 15 + prefix, 16))
    (out.tokens if out.pooled is None else out.pooled).square().sum().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []
    assert out.pooled is None or out.pooled.shape == (2, model.config.output_dim or 16)


def test_pooling_by_class_token_and_by_mean() -> None:
    for kind in ("class", "average"):
        model = tower(pool=kind)
        out = model(images())
        vector = out.tokens[:, 0] if kind == "class" else out.tokens.mean(dim=1)
        torch.testing.assert_close(out.pooled, vector @ model.projection)
        prompted = model(images(), extra={0: torch.randn(2, 16)})
        own = prompted.tokens[:, [0, *range(3, 19)]]  # inserted tokens are not part of the mean
        vector = own[:, 0] if kind == "class" else own.mean(dim=1)
        torch.testing.assert_close(prompted.pooled, vector @ model.projection)


def test_capabilities_say_what_is_missing() -> None:
    model = tower()
    tokens = model(images(), layers=(-1,)).hidden[-1]
    torch.testing.assert_close(model.normed(tokens), model.norm_post(tokens))
    torch.testing.assert_close(model.pool_weights(tokens).sum(dim=-1), torch.ones(3, 2))
    single = torch.eye(17).expand(3, 17, 17)[:, :1]
    assert model.pool is not None
    torch.testing.assert_close(
        model.pool_regions(tokens, single)[:, 0], model.pooled(tokens[:, :1], prefix=1), atol=1e-5, rtol=1e-5
    )
    short = model.cut(0)
    for call, words in ((short.normed, "no final norm"), (short.pool_weights, "returns tokens only")):
        with pytest.raises(PerceptError, match=words):
            call(tokens)
    with pytest.raises(PerceptError, match="returns the mean"):
        tower(pool="average").pool_regions(tokens, single)


def test_positions_and_rotations_can_be_given() -> None:
    model, image, nothing = tower(), images(), torch.zeros(17, 16)
    assert model.positions is not None
    same = model(image, positions=model.positions, rope=lambda prefix: rope_2d((4, 4), 8, prefix=prefix, first=1))
    assert torch.equal(same.tokens, model(image).tokens)
    still = rope_2d((4, 4), 8, prefix=1, first=1)
    bare = tower(rope=False, absolute_positions=False)
    bare.load_state_dict({name: value for name, value in model.state_dict().items() if name != "positions"})
    unturned = model(image, positions=nothing, rope=lambda _: (torch.ones_like(still[0]), torch.zeros_like(still[1])))
    torch.testing.assert_close(unturned.tokens, bare(image).tokens)


def test_pixels_beyond_the_last_patch_change_nothing() -> None:
    model, image = tower(), images(1, 16, 18)
    changed = image.clone()
    changed[..., 16:] = 9
    assert torch.equal(model(image).tokens, model(changed).tokens)


def test_embeddings_in_are_pictures_in() -> None:
    model, image = tower(), images()
    embeddings, grid = model.embed_patches(image)
    assert torch.equal(model(embeddings=embeddings, grid=grid).tokens, model(image).tokens)
    with pytest.raises(PerceptError, match="do not fill a grid of 4x5"):
        model(embeddings=embeddings, grid=(4, 5))
    with pytest.raises(PerceptError, match="together with their grid"):
        model(embeddings=embeddings)
    with pytest.raises(PerceptError, match="give one of the two"):
        model(image, embeddings=embeddings, grid=grid)
    with pytest.raises(PerceptError, match="smaller than one 4x4 patch"):
        model(images(1, 3, 16))


def test_hidden_states_are_before_the_final_norm_and_pooling_can_be_left_out() -> None:
    model, image = tower(), images()
    out = model(image, layers=(0, -1), pool=False)
    assert out.pooled is None
    torch.testing.assert_close(model.norm_post(out.hidden[-1]), out.tokens)
    torch.testing.assert_close(model.pooled(out.tokens, out.prefix), model(image).pooled)


def test_prompts_stand_behind_the_class_token_and_do_not_move_the_patches() -> None:
    model, image = tower(), images()
    prompt = torch.randn(2, 16, requires_grad=True)
    out = model(image, extra={0: prompt})
    assert (out.prefix, out.tokens.shape[1]) == (3, 16 + 3)
    assert out.pooled is not None
    out.pooled.sum().backward()
    assert prompt.grad is not None
    assert bool(prompt.grad.any())
    hide = torch.zeros(19, 19)
    hide[:, 1:3] = float("-inf")
    hidden = model(image, extra={0: prompt}, bias=hide)
    plain = model(image)
    torch.testing.assert_close(hidden.tokens[:, 3:], plain.tokens[:, 1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("after", [0, 1, -1, -2])
def test_cutting_gives_the_hidden_state_and_shares_parameters(after: int) -> None:
    model, image = tower(layer_scale=0.1), images()
    model.checkpointing = True
    short = model.cut(after)
    expected = model(image, layers=(after,)).hidden[after]
    out = short(image)
    assert torch.equal(out.tokens, expected)
    assert out.pooled is None
    own = {id(parameter) for parameter in model.parameters()}
    assert all(id(parameter) in own for parameter in short.parameters())
    assert len(short.blocks) == short.config.layers == after % 3 + 1
    assert short.checkpointing
    assert not short.training
    out.tokens.sum().backward()
    assert model.patch.weight.grad is not None


def test_cutting_at_a_layer_that_is_not_there() -> None:
    with pytest.raises(PerceptError, match="layers 0 to 2"):
        tower().cut(3)


def test_checkpointing_in_the_tower() -> None:
    model, image = tower(), images()
    found: list[list[Tensor | None]] = []
    for checkpointing in (False, True):
        model.checkpointing = checkpointing
        model.zero_grad()
        out = model(image)
        out.pooled.sum().backward()
        found.append([out.pooled.detach(), *(parameter.grad for parameter in model.parameters())])
    for plain, recomputed in zip(*found, strict=True):
        assert plain is not None
        torch.testing.assert_close(recomputed, plain)


def test_a_model_used_for_inference_first_can_still_be_trained() -> None:
    model, image = tower(), images()
    with torch.inference_mode():
        model(image)
    model(image).tokens.sum().backward()
    assert model.patch.weight.grad is not None


def test_initialisation_is_the_one_of_the_reference() -> None:
    model = tower(width=64, layers=2, heads=2, image_size=64, layer_scale=0.1).requires_grad_(False)
    assert model.positions is not None
    assert model.pool is not None
    assert float(model.positions.std()) == pytest.approx(64**-0.5, rel=0.05)
    qkv = linear(model, "blocks.0.attention.qkv")
    assert float(qkv.weight.abs().max()) <= (6 / (64 + 192)) ** 0.5
    assert not qkv.bias.any()
    assert bool((model.state_dict()["blocks.1.scale_2.gamma"] == 0.1).all())
    assert float(model.pool.probe.std()) == pytest.approx(1, rel=0.3)


def test_vectors_do_not_depend_on_the_rest_of_the_batch() -> None:
    model, image = clip(), images(4)
    together = model.embed_image(image)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model.embed_image(image[order]), together[order])
    torch.testing.assert_close(model.embed_image(image[2:3]), together[2:3])


def test_kept_patches_keep_their_positions() -> None:
    """Dropping patches equals hiding them from everybody: nothing else of the others changes."""
    ours, image, keep = tower(), images(), torch.tensor([0, 3, 7, 8, 15])
    out = ours(image, keep=keep, layers=(0,))
    hidden = torch.full((17, 17), float("-inf"))
    seen = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + keep])
    hidden[:, seen] = 0
    expected = ours(image, bias=hidden, pool=False).tokens[:, seen]
    torch.testing.assert_close(out.tokens, expected, atol=1e-5, rtol=1e-5)
    assert (out.grid, out.prefix, out.hidden[0].shape[1]) == ((4, 4), 1, 6)
    whole = ours(image, keep=torch.arange(16))
    torch.testing.assert_close(whole.tokens, ours(image).tokens)
    assert out.pooled is not None
    with_extra = ours(image, keep=keep, extra={1: torch.randn(2, 16)})
    assert with_extra.tokens.shape[1] == 8


SHAPES = [(2, 12, 20), (1, 20, 12), (3, 16, 16), (1, 4, 28), (1, 14, 19)]
"""Batches of several sizes: two grids of one length side by side, the trained grid, a strip, and odd sides."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"class_token": False, "rope": False},
        {"absolute_positions": False, "layer_scale": 0.1},
        {"pool": "class"},
        {"pool": "average", "norm_post": False},
        {"pool": "none", "output_dim": None},
    ],
)
def test_packed_pictures_are_as_each_alone(changes: dict, dtype: torch.dtype) -> None:
    model, given = tower(**changes).to(dtype), [images(*shape) for shape in SHAPES]
    with torch.no_grad():
        found = model.packed(given, layers=(0, -1))
        for out, batch in zip(found, given, strict=True):
            alone = [model(batch[row : row + 1], layers=(0, -1)) for row in range(len(batch))]
            assert (out.grid, out.prefix, out.hidden.keys()) == (alone[0].grid, alone[0].prefix, {0, -1})
            kept = ["tokens", *([] if out.pooled is None else ["pooled"])]
            pairs = [(getattr(out, name), torch.cat([getattr(one, name) for one in alone])) for name in kept]
            pairs += [(out.hidden[layer], torch.cat([one.hidden[layer] for one in alone])) for layer in (0, -1)]
            for ours, expected in pairs:
                tolerance = 1e-5 if dtype == torch.float32 else 0.03
                torch.testing.assert_close(ours, expected, atol=tolerance, rtol=tolerance)
            assert (out.pooled is None) == (alone[0].pooled is None)


def test_packed_pictures_reach_every_parameter_and_not_each_other() -> None:
    model = tower()
    given = [images(*shape).requires_grad_() for shape in SHAPES]
    first, *_ = model.packed(given)
    assert first.pooled is not None
    first.pooled[0].square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    reached = [given[0].grad[row] for row in (0, 1)] + [batch.grad for batch in given[1:]]  # type: ignore[index]
    assert bool(reached[0].any())
    assert not any(bool(other.any()) for other in reached[1:])


def test_packing_without_pooling_and_of_nothing() -> None:
    model = tower()
    assert [out.pooled for out in model.packed([images(), images(1, 8, 8)], pool=False)] == [None, None]
    with pytest.raises(PerceptError, match="nothing to pack was given"):
        model.packed([])
    with pytest.raises(PerceptError, match="smaller than one 4x4 patch"):
        model.packed([images(), images(1, 3, 16)])


def test_rotation_tables_of_many_grids_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "ROPES", 3)
    model, image = tower(), images(1, 8, 8)
    first = model(image).tokens
    for side in (8, 12, 16, 20, 24):
        model(images(1, side, 8))
    assert [key[0] for key in model._ropes] == [(4, 2), (5, 2), (6, 2)]
    assert torch.equal(model(image).tokens, first)
