"""Tracking by label propagation, matching and unsupervised masks: naive loops, known answers, and inputs that do not fit."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.infer.grid import dense_layer, with_grid
from percept.infer.masks import connected, object_map, object_maps, object_masks
from percept.infer.matching import find_points, match, mutual
from percept.infer.tracking import Propagation, hardened, one_hot, propagate, track
from tests.infer import tiny


def naive(features: list[torch.Tensor], first: torch.Tensor, settings: Propagation) -> list[torch.Tensor]:
    """The loops of DINO's eval_video_segmentation.py, one target patch at a time."""
    maps = [F.normalize(each, dim=-1) for each in features]
    results = [first]
    height, width = first.shape[1:]
    for number in range(1, len(maps)):
        sources = [0, *range(max(1, number - settings.context), number)]
        labels = torch.zeros_like(first)
        for y, x in itertools.product(range(height), range(width)):
            found = []
            for source, down, across in itertools.product(sources, range(height), range(width)):
                if abs(down - y) <= settings.radius and abs(across - x) <= settings.radius:
                    cosine = float(maps[number][y, x] @ maps[source][down, across])
                    found.append((math.exp(cosine / settings.temperature), results[source][:, down, across]))
            best = sorted(found, key=lambda pair: -pair[0])[: settings.neighbours]
            total = sum(weight for weight, _ in best)
            labels[:, y, x] = sum(weight / total * label for weight, label in best)
        results.append(labels)
    return results


@pytest.mark.parametrize(
    "settings",
    [Propagation(), Propagation(context=2, radius=1, neighbours=3), Propagation(context=0, radius=2, temperature=0.5)],
)
def test_propagation_equals_the_naive_loops(settings: Propagation) -> None:
    features = list(torch.randn(5, 4, 5, 6))
    first = torch.rand(3, 4, 5).softmax(dim=0)
    expected = naive(features, first, settings)
    found = list(propagate(iter(features), first, settings))
    assert len(found) == 5
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.sum(dim=0), torch.ones(4, 5))


def test_rows_in_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, first = list(torch.randn(3, 4, 5, 6)), torch.rand(2, 4, 5)
    whole = list(propagate(features, first))
    monkeypatch.setattr("percept.infer.tracking.ROWS", 3)
    for one, other in zip(propagate(features, first), whole, strict=True):
        torch.testing.assert_close(one, other)


def test_a_moving_square_is_followed_exactly() -> None:
    """Features are one-hot codes of an image that moves by one patch per frame; labels move with them."""
    codes = torch.eye(64).view(8, 8, 64)
    frames = [codes.roll(number, dims=1) for number in range(4)]
    first = one_hot(np.pad(np.full((2, 2), 7, np.uint8), ((3, 3), (1, 5))), [7])
    for number, labels in enumerate(propagate(frames, first, Propagation(neighbours=1))):
        assert torch.equal(labels, first.roll(number, dims=2))


def test_labels_become_pixels() -> None:
    labels = torch.tensor([[[0.9, 0.9], [0.9, 0.6]], [[0.1, 0.1], [0.1, 0.4]]])
    assert hardened(labels, (2, 2)).tolist() == [[0, 0], [0, 1]]  # 0.4 is the largest of its label


def test_tracking_with_an_encoder() -> None:
    encoder = tiny.encoder()
    frames = [np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)] * 3
    mask = np.zeros((32, 48), np.uint8)
    mask[8:24, 8:24], mask[16:32, 32:48] = 3, 200
    found = list(track(encoder, iter(frames), mask, patches=6))
    assert len(found) == 3
    assert found[0] is mask
    assert all(set(np.unique(each)) <= {0, 3, 200} for each in found)
    assert (found[2] == mask).mean() > 0.9  # a still video: the masks stay


def test_what_tracking_refuses() -> None:
    encoder, frame = tiny.encoder(), np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(PerceptError, match="marks no object"):
        next(track(encoder, [frame], np.zeros((16, 16), np.uint8)))
    with pytest.raises(PerceptError, match="no frames"):
        next(track(encoder, [], np.ones((16, 16), np.uint8)))
    with pytest.raises(PerceptError, match="do not fit features"):
        list(propagate(list(torch.randn(2, 4, 4, 3)), torch.ones(2, 3, 4)))
    with pytest.raises(PerceptError, match="temperature above 0"):
        Propagation(temperature=0.0)
    with pytest.raises(PerceptError, match="2 to 256 patches"):
        with_grid(encoder, 1)


def test_the_default_layer_is_at_two_thirds() -> None:
    encoder = tiny.encoder()  # 3 blocks
    assert [dense_layer(encoder, layer) for layer in (None, 0, -1)] == [1, 0, 2]
    with pytest.raises(PerceptError):
        dense_layer(encoder, 3)


def test_mutual_neighbours_equal_naive_loops() -> None:
    first, second = torch.randn(3, 4, 5), torch.randn(4, 2, 5)
    one, other = F.normalize(first.flatten(0, 1), dim=-1), F.normalize(second.flatten(0, 1), dim=-1)
    expected = set()
    for row in range(12):
        column = max(range(8), key=lambda place: float(one[row] @ other[place]))
        if max(range(12), key=lambda place: float(one[place] @ other[column])) == row:
            expected.add((row, column))
    found = mutual(first, second)
    rows = (found.first[:, 1] * 3).long() * 4 + (found.first[:, 0] * 4).long()
    columns = (found.second[:, 1] * 4).long() * 2 + (found.second[:, 0] * 2).long()
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == expected
    cosines = one @ other.T
    gains = [float(cosines[row, column] - (cosines[row].mean() + cosines[:, column].mean()) / 2) for row, column in zip(rows, columns, strict=True)]  # fmt: skip
    assert gains == sorted(gains, reverse=True)
    torch.testing.assert_close(found.cosine, cosines[rows, columns])
    assert len(found.spread(1)) == 1
    assert len(found.spread(50)) <= len(found)


def test_key_points_of_a_shifted_map_are_found_within_half_a_patch() -> None:
    smooth = F.interpolate(torch.randn(1, 16, 5, 5), (16, 16), mode="bicubic")[0].permute(1, 2, 0)
    first, second = smooth[:, :12], smooth[:, 3:15]  # the second begins 3 patches to the right
    points = torch.tensor([[0.5, 0.25], [0.75, 0.7]])
    found = find_points(first, second, points)
    assert (found.cosine <= 1 + 1e-6).all()
    assert ((found.second - (points - torch.tensor([3 / 12, 0]))).abs() * torch.tensor([12, 16]) < 0.5).all()


def test_points_are_found_in_the_same_map_although_one_patch_is_the_mean_of_all() -> None:
    """An interpolated feature is closer to the mean than to the patches around it."""
    features = torch.ones(9, 12, 32) + 0.6 * torch.randn(9, 12, 32)
    features[0, 0] = 1.0
    points = torch.rand(50, 2)
    found = find_points(features, features, points)
    assert ((found.second - points).abs() * torch.tensor([12, 9])).max() < 0.6  # up to half a patch at the border
    assert (found.cosine > 0.98).all()


def test_fine_places_equal_naive_interpolation() -> None:
    first, second = torch.randn(3, 4, 100), torch.randn(5, 6, 100)
    points = torch.rand(4, 2)
    found = find_points(first, second, points)
    places = torch.cartesian_prod((torch.arange(40) + 0.5) / 40, (torch.arange(48) + 0.5) / 48).flip(1)
    vectors = [
        F.grid_sample(F.normalize(each, dim=-1).permute(2, 0, 1)[None], 2 * at[None, None] - 1, padding_mode="border", align_corners=False)[0, :, 0]
        for each, at in ((first, points), (second, places))
    ]  # fmt: skip
    cosines = F.normalize(vectors[0], dim=0).T @ F.normalize(vectors[1], dim=0)
    torch.testing.assert_close(found.cosine, cosines.max(dim=1).values)
    torch.testing.assert_close(found.second, places[cosines.argmax(dim=1)])


def test_a_match_is_ambiguous_if_a_far_place_is_as_similar() -> None:
    first, second = torch.zeros(10, 10, 3), torch.zeros(10, 10, 3)
    first[..., 0] = second[..., 0] = 1
    first[2, 2] = second[2, 2] = second[8, 2] = torch.tensor([0.0, 1, 0])
    first[5, 5] = second[5, 5] = second[6, 7] = torch.tensor([0.0, 0, 1])  # the second one is near
    found = find_points(first, second, torch.tensor([[0.25, 0.25], [0.55, 0.55]]))
    assert found.ambiguous.tolist() == [True, False]
    pairs = mutual(first, second)
    shown = {tuple(point): bool(each) for point, each in zip(pairs.first.mul(10).long().tolist(), pairs.ambiguous, strict=True)}  # fmt: skip
    assert (shown[2, 2], shown[5, 5]) == (True, False)
    assert not find_points(
        first[:3, :3], second[:3, :3], torch.tensor([[0.5, 0.5]])
    ).ambiguous.any()  # all of it is near


def test_matching_an_image_with_itself() -> None:
    encoder = tiny.encoder()
    image = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    found = match(encoder, image, image, patches=6)
    assert len(found) == 24
    torch.testing.assert_close(found.first, found.second)
    points = torch.tensor([[0.25, 0.375]])
    assert (match(encoder, image, image, points=points, patches=6).second - points).abs().max() < 0.1
    with pytest.raises(PerceptError, match="from 0 to 1"):
        match(encoder, image, image, points=torch.tensor([[1.5, 0.0]]))


def scene() -> torch.Tensor:
    """Features of a background with two squares of two other kinds."""
    features = torch.zeros(10, 12, 3)
    features[..., 0] = 1
    features[2:5, 2:5] = torch.tensor([0.0, 1, 0])
    features[6:9, 7:11] = torch.tensor([0.0, 0, 1])
    return features


def test_the_cut_finds_objects_in_turn() -> None:
    one, other = object_maps(scene(), 2)
    masks = [(each > 0) for each in (one, other)]
    truth = [(scene()[..., 2] > 0), (scene()[..., 1] > 0)]
    assert {tuple(mask.flatten().tolist()) for mask in masks} == {tuple(mask.flatten().tolist()) for mask in truth}


def test_an_image_without_objects_has_none() -> None:
    assert object_map(torch.ones(4, 4, 3)) is None
    assert object_maps(torch.ones(1, 2, 3), 2) == []


def test_the_second_vector_solves_the_generalised_problem() -> None:
    scipy = pytest.importorskip("scipy.linalg")
    from percept.infer.masks import second_vector

    features = F.normalize(torch.randn(30, 4), dim=-1)
    weights = torch.where(features @ features.T > 0.2, 1.0, 1e-5).double().numpy()
    degrees = np.diag(weights.sum(axis=1))
    expected = scipy.eigh(degrees - weights, degrees)[1][:, 1]
    found = second_vector(features, 0.2).numpy()
    cosine = abs(found @ expected) / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine == pytest.approx(1, abs=1e-6)


def test_connected_parts_equal_scipy() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    mask = torch.rand(15, 17) > 0.45
    labels, _ = ndimage.label(mask.numpy())
    seed = int(mask.flatten().float().argmax())
    assert (connected(mask, seed).numpy() == (labels == labels.flatten()[seed])).all()


def test_object_masks_have_the_size_asked_for_and_do_not_overlap() -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    masks = object_masks(tiny.encoder(), image, count=2, patches=6, size=(24, 36))
    assert masks.shape[1:] == (24, 36)
    assert masks.sum(axis=0).max(initial=0) <= 1
    with pytest.raises(PerceptError, match="at least 1"):
        object_masks(tiny.encoder(), image, count=0)


def test_the_mean_cosine_equals_that_of_all_pairs() -> None:
    from percept.infer.masks import mean_cosine

    features = torch.randn(3, 4, 5)
    vectors = F.normalize(features.flatten(0, 1), dim=-1)
    assert mean_cosine(features) == pytest.approx(float((vectors @ vectors.T).mean()), abs=1e-6)
