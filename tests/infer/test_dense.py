"""Tokens and maps of any layer, pooled vectors, the pooling head's attention, and cutting."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from percept import PerceptError
from percept.infer.dense import Hidden, PoolAttention
from percept.infer.encoder import Encoder
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from tests.infer import tiny

SHAPES = [(24, 24), (16, 40), (40, 16), (24, 24), (8, 8)]


def pictures() -> list[Tensor]:
    return [torch.randn(3, *shape) for shape in SHAPES]


def changed(**changes) -> Encoder:
    """A tiny encoder without text whose tower differs."""
    vision = replace(tiny.config().vision, output_dim=None, **changes)
    return Encoder(
        CLIP(ClipConfig(vision=vision)),
        preprocess=tiny.encoder().preprocess,
    )


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return tiny.encoder()


def test_hidden_gives_any_layers_of_any_shapes_in_one_pass(encoder, monkeypatch):
    given, passes = pictures(), []
    real = encoder.model.vision.packed
    monkeypatch.setattr(
        encoder.model.vision, "packed", lambda pack, **keys: passes.append(len(pack)) or real(pack, **keys)
    )
    rows = list(encoder.hidden(given, layers=(0, 2, -1)))
    assert passes == [3]  # at most 4 go together: three shapes as one row, the last picture by itself
    for row, picture in zip(rows, given, strict=True):
        with torch.no_grad():
            out = encoder.model.vision(picture[None], layers=(0, 2))
        assert isinstance(row, Hidden)
        assert (row.grid, row.prefix, list(row.tokens)) == (out.grid, 1, [0, 2, -1])
        for layer in (0, 2):
            torch.testing.assert_close(row.tokens[layer], out.hidden[layer][0], atol=1e-5, rtol=1e-5)
        assert torch.equal(row.tokens[2], row.tokens[-1])
        assert torch.equal(row.map(0).flatten(0, 1), row.patches(0))
        assert torch.equal(torch.cat([row.class_token(0)[None], row.patches(0)]), row.tokens[0])
        assert row.map(0).shape == (*row.grid, 16)


def test_there_is_one_result_per_picture(encoder):
    picture = torch.randn(3, 16, 24)
    (alone,), (again, other) = encoder.hidden(picture), encoder.hidden([picture, picture + 1])
    assert isinstance(alone, Hidden)
    torch.testing.assert_close(alone.tokens[-1], again.tokens[-1])
    assert not torch.allclose(again.tokens[-1], other.tokens[-1])
    assert [type(one) for one in encoder.attention([picture, picture])] == [PoolAttention] * 2
    assert list(encoder.hidden([])) == encoder.attention([]) == []


def test_the_final_norm_is_the_one_of_the_model(encoder):
    picture = torch.randn(2, 3, 24, 32)
    with torch.no_grad():
        out = encoder.model.vision(picture, layers=(0,))
        early = encoder.model.vision.norm_post(out.hidden[0])
    torch.testing.assert_close(encoder.tokens(picture, norm=True), out.tokens)
    torch.testing.assert_close(encoder.tokens(picture, layer=0, norm=True), early)
    torch.testing.assert_close(encoder.features(picture, 0, norm=True)[0], early[:, 1:].unflatten(1, (3, 4)))
    assert not torch.allclose(encoder.tokens(picture, layer=0), early, atol=1e-2)


def test_the_class_token_can_be_left_out(encoder):
    picture = torch.randn(2, 3, 24, 32)
    whole = encoder.tokens(picture)
    assert torch.equal(encoder.tokens(picture, class_token=False), whole[:, 1:])
    without = changed(class_token=False)
    assert torch.equal(without.tokens(picture), without.tokens(picture, class_token=False))
    with pytest.raises(PerceptError, match="no class token"):
        next(without.hidden(picture[0])).class_token(-1)


def test_pooled_vectors_are_those_of_image_before_their_length_is_taken_away(encoder):
    given = pictures()
    vectors = encoder.pooled(given)
    assert vectors.shape == (5, tiny.DIM)
    assert not torch.allclose(vectors.norm(dim=1), torch.ones(5), atol=0.05)
    torch.testing.assert_close(vectors / vectors.norm(dim=1, keepdim=True), encoder.image(given))
    with torch.no_grad():
        torch.testing.assert_close(vectors[1:2], encoder.model.encode_image(given[1][None]), atol=1e-5, rtol=1e-5)
    assert encoder.pooled([]).shape == (0, tiny.DIM)


def test_attention_is_that_of_the_pooling_query(encoder):
    given = pictures()
    for found, picture in zip(encoder.attention(given), given, strict=True):
        tower, grid = encoder.model.vision, (picture.shape[1] // 8, picture.shape[2] // 8)
        assert found.maps.shape == (2, *grid)
        torch.testing.assert_close(found.maps.sum(dim=(1, 2)) + found.class_token, torch.ones(2))
        with torch.no_grad():
            tokens = tower(picture[None]).tokens
            _, _, value = tower.pool._project(tokens)
            weights = torch.cat([found.class_token[:, None], found.maps.flatten(1)], dim=1)
            mixed = (weights[None, :, None] @ value).transpose(1, 2).flatten(-2)
            pooled = tower.pool.out(mixed)
            pooled = (pooled + tower.pool.mlp(tower.pool.norm(pooled)))[:, 0] @ tower.projection
        torch.testing.assert_close(encoder.pooled(picture), pooled, atol=1e-5, rtol=1e-4)


def test_attention_without_a_class_token_gives_it_nothing():
    (found,) = changed(class_token=False).attention(torch.randn(3, 16, 24))
    assert found.class_token.tolist() == [0, 0]
    torch.testing.assert_close(found.maps.sum(dim=(1, 2)), torch.ones(2))


@pytest.mark.parametrize(
    ("pool", "words"), [("none", "returns tokens only"), ("class", "class token"), ("average", "the mean")]
)
def test_attention_of_a_model_that_pools_without_it(pool, words):
    one = changed(pool=pool)
    with pytest.raises(PerceptError, match=words):
        one.attention(torch.randn(3, 24, 24))


@pytest.mark.parametrize("after", [0, 1, -1])
def test_a_cut_encoder_gives_what_the_whole_one_gives_there(encoder, after):
    given, short = pictures(), encoder.cut(after)
    assert len(short.model.vision.blocks) == after % 3 + 1
    for ours, whole in zip(short.hidden(given), encoder.hidden(given, after), strict=True):
        torch.testing.assert_close(ours.tokens[-1], whole.tokens[after], atol=1e-5, rtol=1e-5)
    assert short.dim == 0
    assert short.identity.name == f"tiny up to block {after % 3}"
    assert short.identity.image not in (
        encoder.identity.image,
        encoder.cut((after + 1) % 3).identity.image,
    )
    own = {id(parameter) for parameter in encoder.model.parameters()}
    assert all(id(parameter) in own for parameter in short.model.parameters())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda one: one.cut(3), "layers 0 to 2"),
        (lambda one: one.cut(-4), "layers 0 to 2"),
        (lambda one: one.cut(after=1).cut(2), "layers 0 to 1"),
        (lambda one: one.cut(after=1).image(torch.randn(3, 24, 24)), "tokens, not one vector"),
        (lambda one: one.cut(after=1).text("a cup"), "no text tower"),
        (lambda one: one.cut(after=1).tokens(torch.randn(3, 24, 24), norm=True), "no final norm"),
        (lambda one: one.cut(after=1).attention(torch.randn(3, 24, 24)), "no pooling head"),
        (lambda one: one.hidden(torch.randn(3, 24, 24), [0, 3]), "layers 0 to 2"),
        (lambda one: one.features(torch.randn(3, 24, 24), []), "no layers were given"),
        (lambda one: next(one.hidden("nowhere.png")), "nowhere.png"),
        (lambda one: one.features(b"no picture"), "not an image"),
        (lambda one: one.attention(b""), "empty"),
        (lambda one: one.features(pictures()), "use encoder.hidden"),
        (lambda one: one.tokens(pictures()), "use encoder.hidden"),
        (lambda one: one.tokens([]), "no images were given"),
        (lambda one: next(one.hidden(torch.randn(3, 26, 21))), "26 × 21 pixels does not divide into patches of 8. Resize it to 24 × 24"),
        (lambda one: one.image(torch.randn(2, 3, 24, 7)), "Resize it to 24 × 8"),
        (lambda one: one.resizing("nativ"), "did you mean 'native'"),
        (lambda one: one.resizing("keep", tokens=9), "a budget for resize='native'"),
    ],
)  # fmt: skip
def test_mistakes_are_explained(encoder, call, words):
    with pytest.raises(PerceptError, match=words):
        call(encoder)


def test_layers_may_be_numpy_integers():
    encoder, images = tiny.encoder(), torch.zeros(1, 3, 20, 20, dtype=torch.uint8)
    expected = encoder.features(images, (0, 2))
    for layers in (np.array([0, 2]), [np.int64(0), 2]):
        found = encoder.features(images, layers)
        assert list(found) == [0, 2]
        assert torch.equal(found[2], expected[2])
    assert torch.equal(encoder.features(images, np.int64(2))[2], expected[2])
    assert encoder.cut(np.int64(1)).model.config.vision.layers == 2
