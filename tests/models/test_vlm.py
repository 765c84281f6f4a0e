"""The perception language model: what comes from the tower, stitching, gradients, stages, refusals."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError
from percept.models import config as config_module
from percept.models.config import Kind
from percept.models.language import VLMConfig
from percept.models.projector import Projector, position_features
from percept.models.towers import build_tower
from percept.models.vision import VisionTower
from percept.models.vlm import VLM, assembled, reconfigured, with_layer_scale
from tests.models import small
from tests.models.second import ConvConfig, facts
from tests.models.talking import DECODER, EACH, IMAGE, TALKING, TOWER, VIDEO, decoder, ids, prompt, vlm

assert_close = partial(torch.testing.assert_close, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_visual_tokens_are_the_patches_of_the_last_residual_stream_projected_then_pooled() -> None:
    model, tiles = vlm(), small.images(5)
    found = model.encode(tiles)
    assert found.shape == (5, EACH, DECODER.width)
    states = model.vision(tiles, layers=(2,)).hidden[2][:, 1:]
    projected = model.projector.down(nn.functional.gelu(model.projector.up(states))).unflatten(1, (2, 2, 2, 2))
    assert_close(found, projected.mean(dim=(2, 4)).flatten(1, 2))
    for chunk in (1, 2, 5):
        assert_close(model.encode(tiles, chunk=chunk), found)
    assert reconfigured(model, pooling=1).encode(tiles).shape == (5, 16, DECODER.width)
    assert model.projector.pooling == 2


@torch.no_grad()
def test_a_norm_before_the_projector_makes_the_scale_of_the_tower_irrelevant() -> None:
    model, states = Projector(8, 12, norm=True), torch.randn(2, 4, 8)
    plain = Projector(8, 12)
    plain.up, plain.down = model.up, model.down
    normalised = nn.functional.layer_norm(states, (8,))
    assert_close(model(states, (2, 2)), plain(normalised, (2, 2)))
    torch.testing.assert_close(model(100 * states, (2, 2)), model(states, (2, 2)), atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_positions_tell_equal_tokens_of_an_image_apart() -> None:
    model, plain = Projector(8, 12, pooling=2, positions=True), Projector(8, 12, pooling=2)
    plain.up, plain.down = model.up, model.down
    states = torch.randn(1, 1, 8).expand(2, 24, 8)
    assert_close(model(states, (4, 6)), plain(states, (4, 6)))  # they begin at zero
    assert model.place is not None
    model.place.weight.normal_()
    tokens = model(states, (4, 6))
    assert torch.equal(tokens[0], tokens[1])
    assert torch.cdist(tokens[0], tokens[0])[~torch.eye(6, dtype=torch.bool)].min() > 0.1
    expected = [[torch.pi * rate * (cell + 0.5) / 3 for rate in (1, 2, 4, 8)] for cell in range(3)]
    across = position_features((2, 3), states)[:3, 8:]
    assert_close(across, torch.cat([torch.tensor(expected).sin(), torch.tensor(expected).cos()], dim=1))


@torch.no_grad()
def test_numbers_of_frames_tell_equal_frames_apart_and_restart_in_every_conversation() -> None:
    model = VLM(replace(vlm().config, projector_frames=True)).eval()
    visual = model.encode(small.images(1)).expand(4, -1, -1)
    assert torch.equal(model.numbered(visual, [4]), visual)  # they begin at zero
    assert model.projector.frame is not None
    model.projector.frame.weight.normal_()
    numbered = model.numbered(visual, [3, 1])
    shifts = (numbered - visual)[:, 0]
    assert_close(numbered - visual, shifts[:, None].expand_as(visual))
    assert_close(shifts[3], shifts[0])
    assert torch.cdist(shifts[:3], shifts[:3])[~torch.eye(3, dtype=torch.bool)].min() > 0.1
    rows, tiles = torch.cat([prompt(2, words=3), prompt(2, words=3)]), small.images(4)
    by_tiles = model(rows, tiles=tiles)
    assert_close(by_tiles, model(rows, visual=model.numbered(model.encode(tiles), [2, 2])))
    assert not torch.allclose(by_tiles, model(rows, visual=model.encode(tiles)))


@torch.no_grad()
def test_norm_and_positions_of_the_projector_stay_when_the_pooling_changes() -> None:
    model = VLM(replace(vlm().config, projector_norm=True, projector_positions=True, projector_frames=True))
    assert reconfigured(model, pooling=1).encode(small.images(1)).shape == (1, 16, DECODER.width)


@pytest.mark.parametrize("setting", ["projector_norm", "projector_positions", "projector_frames"])
def test_settings_that_need_other_parameters_are_refused(setting: str) -> None:
    for before in (False, True):
        model = VLM(replace(vlm().config, **{setting: before}))
        with pytest.raises(PerceptError, match=f"{setting} need a projector with other parameters"):
            reconfigured(model, **{setting: not before})


@torch.no_grad()
def test_a_tile_of_other_sides_is_pooled_too() -> None:
    assert vlm().encode(small.images(1, 24, 16)).shape == (1, 3 * 2, DECODER.width)
    assert vlm().encode(small.images(1, 20, 16)).shape == (1, 2 * 2, DECODER.width)


@torch.no_grad()
def test_visual_tokens_stand_where_the_placeholders_are_row_by_row() -> None:
    model = vlm()
    visual = torch.randn(3, EACH, DECODER.width)
    rows = torch.cat([prompt(2, words=3), torch.cat([ids(4), torch.full((1, 4), VIDEO), ids(4)], dim=1)])
    found = model.embed(rows, visual)
    places = (rows == IMAGE) | (rows == VIDEO)
    assert torch.equal(found[places], visual.flatten(0, 1))
    assert torch.equal(found[~places], model.decoder.embedding(rows)[~places])


@pytest.mark.parametrize(
    ("images", "placeholders", "words"),
    [
        (3, 2, "more images than placeholders: 3 tiles of 4 visual tokens are 12, and the prompt has 8"),
        (1, 2, "fewer images than placeholders: 1 tiles of 4 visual tokens are 4, and the prompt has 8"),
        (0, 2, "8 placeholders of visual tokens, but no images were given"),
        (1, 0, "more images than placeholders"),
    ],
)
def test_images_and_placeholders_have_to_fit(images: int, placeholders: int, words: str) -> None:
    tiles = small.images(images) if images else None
    with pytest.raises(PerceptError, match=words):
        vlm()(prompt(placeholders), tiles=tiles)


def test_inputs_that_exclude_each_other() -> None:
    model, tiles = vlm(), small.images(1)
    for options, words in (
        ({"ids": prompt(1), "tiles": tiles, "visual": model.encode(tiles)}, "tiles and their visual tokens"),
        ({"ids": prompt(1), "embeddings": torch.zeros(1, 8, 16)}, "embeddings were given together with ids"),
        ({"tiles": tiles}, "there are no token ids"),
    ):
        with pytest.raises(PerceptError, match=words):
            model(**options)


def test_gradients_reach_every_part() -> None:
    model = with_layer_scale(vlm(), drop_path=0.0).train()
    logits = model(prompt(2), tiles=small.images(2))
    logits[:, -1].logsumexp(dim=-1).sum().backward()
    lacking = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert lacking == []


def test_in_stage_one_only_the_projector_gets_gradients() -> None:
    model = vlm().train()
    model.requires_grad_(False)
    model.projector.requires_grad_(True)
    model(prompt(1), tiles=small.images(1)).sum().backward()
    reached = {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert reached == {"projector"}


@torch.no_grad()
def test_logits_of_chosen_positions_only() -> None:
    model, rows, tiles = vlm(), torch.cat([prompt(1), prompt(1)]), small.images(2)
    at = torch.zeros(rows.shape, dtype=torch.bool)
    at[0, 5], at[1, 2], at[1, 7] = True, True, True
    whole = model(rows, tiles=tiles)
    assert whole.shape == (2, 8, DECODER.vocabulary)
    torch.testing.assert_close(model(rows, tiles=tiles, at=at), whole[at])


@torch.no_grad()
def test_a_packed_row_with_images_equals_its_samples_and_a_cache_too() -> None:
    model = vlm()
    samples = [(prompt(2), small.images(2)), (ids(5), None), (prompt(1, words=6), small.images(1))]
    alone = [model(row, tiles=tiles) for row, tiles in samples]
    row = torch.cat([sample for sample, _ in samples], dim=1)
    tiles = torch.cat([tiles for _, tiles in samples if tiles is not None])
    packed = model(row, tiles=tiles, segments=[(1, sample.shape[1]) for sample, _ in samples])
    assert_close(packed, torch.cat(alone, dim=1))
    cache = model.decoder.new_cache(1, 12)
    first, rest = samples[0][0][:, :9], samples[0][0][:, 9:]
    parts = [model(first, tiles=samples[0][1], cache=cache), model(rest, cache=cache)]
    assert_close(torch.cat(parts, dim=1), alone[0])


@pytest.mark.parametrize("class_token", [True, False])
@torch.no_grad()
def test_any_tower_can_be_put_in_front_cut_after_a_layer(class_token: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pooled = "attention" if class_token else "average"
    tower = VisionTower(replace(small.VISION, class_token=class_token, pool=pooled)).eval()
    model = assembled(tower, decoder(), layer=1, pooling=2, image_token=IMAGE, stop_ids=(1,))
    assert model.config.vision.layers == 2
    assert not [name for name, _ in model.named_parameters() if "pool." in name or "norm_post" in name]
    tiles = small.images(2)
    states = tower(tiles, layers=(1,)).hidden[1][:, tower.prefix :]
    torch.testing.assert_close(model.encode(tiles), model.projector(states, (4, 4)))
    assert model(prompt(2), tiles=tiles).shape == (1, 12, DECODER.vocabulary)
    assert model.vision.blocks[0] is tower.blocks[0]
    monkeypatch.setitem(config_module.TOWERS, "conv", Kind(**facts()))
    conv = build_tower(ConvConfig(image_size=24, patch_size=6, width=8, layers=3))
    other = assembled(conv, decoder(), layer=1, image_token=IMAGE, stop_ids=(1,))
    assert other.encode(torch.randn(2, 3, 24, 24)).shape == (2, EACH, DECODER.width)
    assert from_dict(VLMConfig, to_dict(other.config)) == other.config


def test_layer_scale_is_inserted_with_its_value_and_everything_else_is_shared() -> None:
    first = vlm(vision=replace(TOWER, layer_scale=None))
    second = with_layer_scale(first, layer_scale=0.1, drop_path=0.25)
    old, new = dict(first.named_parameters()), dict(second.named_parameters())
    added = new.keys() - old.keys()
    assert len(added) == 2 * 3
    assert all(torch.equal(new[name], torch.full((16,), 0.1)) for name in added)
    assert all(new[name] is old[name] for name in old)
    assert second.config.vision.drop_path == 0.25
    assert [block.drop_path.rate for block in second.vision.blocks] == [0.25] * 3
    third = with_layer_scale(second, layer_scale=0.7, drop_path=0.0)
    assert all(third.get_parameter(name) is new[name] for name in new)
    fresh = VLM(second.config)
    assert fresh.load_state_dict(second.state_dict()).missing_keys == []


def test_a_new_projector_is_normal_cut_at_three_deviations_biases_too() -> None:
    for parameter in Projector(40, 400).parameters():
        drawn: Tensor = parameter.detach() * 400**0.5
        assert float(drawn.abs().max()) <= 3
        assert float(drawn.std()) == pytest.approx(0.987, abs=0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pooling": 0}, "pooling=0; it must be at least 1"),
        ({"pooling": 5}, "pooling=5 needs at least as many patches"),
        ({"image_token": 50}, "ids below 50"),
        ({"stop_ids": (-1,)}, "ids below 50"),
        ({"vision": small.VISION}, "cut it"),
    ],
)
def test_configurations_that_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        replace(TALKING, **changes)
