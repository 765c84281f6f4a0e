"""Rooms: the truth of every pixel is exact, and the texts hold in 3-D."""

import math
from functools import cache

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.world import COLOURS, held_out
from percept.world.palette import nearest
from percept.world.rooms import LABELS, RoomViews, Solid, correspondences, generate_room, point_cloud, relations_in_view
from percept.world.rooms.draw import _first_hits
from percept.world.rooms.room import is_reserved
from percept.world.rooms.texts import QUESTIONS, name

SPLITS = ("train", "evaluation")


@cache
def made(split: str = "train", count: int = 12) -> tuple[RoomViews, ...]:
    return tuple(generate_room(seed, split=split, views=3, size=64) for seed in range(count))


def inside(solid: Solid, points: np.ndarray, grow: float = 0.0) -> np.ndarray:
    """True for points inside a solid that is larger by `grow`; written independently of the intersections."""
    x, y, z = (points - np.array([solid.x, solid.y, solid.bottom])).T
    radius = solid.width / 2 + grow
    tall = (z >= -grow) & (z <= solid.height + grow)
    if solid.shape == "ball":
        return x * x + y * y + (z - solid.width / 2) ** 2 <= radius * radius
    if solid.shape == "cylinder":
        return tall & (np.hypot(x, y) <= radius)
    if solid.shape == "cone":
        return tall & (np.hypot(x, y) <= solid.width / 2 * (1 - z / solid.height) + grow)
    turn = math.radians(-solid.yaw)
    across, along = math.cos(turn) * x - math.sin(turn) * y, math.sin(turn) * x + math.cos(turn) * y
    return tall & (np.abs(across) <= radius) & (np.abs(along) <= radius)


def test_points_return_to_the_centres_of_their_pixels() -> None:
    for found in made():
        for view in found.views:
            places, depth = view.camera.project(view.camera.unproject(view.depth))
            across, down = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
            assert np.abs(places - np.stack([across.ravel(), down.ravel()], axis=1)).max() < 1e-6
            assert np.abs(depth - view.depth.ravel()).max() < 1e-9


def test_visible_points_lie_on_their_solid_and_nothing_is_before_them() -> None:
    for found in made():
        room = found.room
        for view in found.views:
            points, ids = view.camera.unproject(view.depth), view.ids.ravel()
            for number, solid in enumerate(room.solids, start=1):
                own = points[ids == number]
                assert inside(solid, own, 1e-4).all()
                assert not inside(solid, own, -1e-4).any()
            for share in (0.2, 0.5, 0.8, 0.95, 0.999):
                before = view.camera.centre + share * (points - view.camera.centre)
                assert not any(inside(solid, before, -2e-3).any() for solid in room.solids)
            far = points[ids == 0]
            ends = np.array([room.width, room.depth, room.height])
            gap = np.minimum(np.abs(far), np.abs(far - ends)).min(1)
            assert gap.max() < 1e-6


def test_a_point_of_one_view_is_in_another_view_or_hidden_by_something_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    rooms, compared = made(), 0
    monkeypatch.setattr("percept.world.rooms.draw._candidates", lambda camera, rays, corners: np.arange(len(rays)))
    for found in rooms:
        first, second = found.views[:2]
        points = first.camera.unproject(first.depth)
        places, depth = second.camera.project(points)
        shown = (depth > 0.1) & (places > 0).all(1) & (places < 64).all(1)
        rays = (points[shown] - second.camera.centre) / depth[shown, None]
        hit = _first_hits(found.room, second.camera, rays)
        assert (hit.depth <= depth[shown] + 1e-6).all()
        same = np.abs(hit.depth - depth[shown]) < 1e-6
        assert (hit.ids[same] == first.ids.ravel()[shown][same]).all()
        compared += int(same.sum())
    assert compared > 5000


def test_the_region_of_a_solid_contains_all_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    views = [view for found in made() for view in found.views]
    monkeypatch.setattr("percept.world.rooms.draw._candidates", lambda camera, rays, corners: np.arange(len(rays)))
    rooms = [found.room for found in made() for _ in found.views]
    for room, view in zip(rooms, views, strict=True):
        everything = _first_hits(room, view.camera, view.camera.rays())
        assert np.array_equal(everything.ids.reshape(64, 64), view.ids)
        assert np.array_equal(everything.depth.reshape(64, 64), view.depth)


def test_cameras_are_rigid_and_inside_the_room() -> None:
    for found in made():
        for view in found.views:
            rotation = view.camera.rotation
            assert np.allclose(rotation @ rotation.T, np.eye(3))
            assert np.linalg.det(rotation) == pytest.approx(1)
            x, y, z = view.camera.centre
            assert 0 < x < found.room.width
            assert 0 < y < found.room.depth
            assert 1 < z < found.room.height
            assert rotation[1, 2] < 0  # y of the camera points down


def test_clouds_carry_colour_class_and_solid() -> None:
    for found in made()[:4]:
        cloud = point_cloud(found.views)
        assert len(cloud.points) == 3 * 64 * 64
        for index, solid in enumerate(found.room.solids, start=1):
            own = cloud.ids == index
            assert {LABELS[label] for label in np.unique(cloud.labels[own])} <= {solid.shape}
            low, high = solid.corners().min(0), solid.corners().max(0)
            if solid.shape != "box":
                low, high = (
                    np.array([solid.x, solid.y, solid.bottom]) + sign * np.array([solid.width / 2] * 3)
                    for sign in (-1, 1)
                )
                low[2], high[2] = solid.bottom, solid.bottom + solid.height
            assert (cloud.points[own] >= low - 1e-6).all()
            assert (cloud.points[own] <= high + 1e-6).all()
        sparse = point_cloud(found.views, voxel=0.1)
        cubes = np.floor(sparse.points / 0.1).astype(int)
        assert len(np.unique(cubes, axis=0)) == len(cubes) < len(cloud.points)
        assert set(np.unique(cloud.views)) == {0, 1, 2}


def test_correspondences_are_the_same_place_in_the_room() -> None:
    pairs = 0
    for found in made():
        first, second = found.views[:2]
        here, there = correspondences(first, second)
        pairs += len(here)
        rows, columns = here[:, 1].astype(int), here[:, 0].astype(int)
        points = first.camera.unproject(first.depth).reshape(64, 64, 3)[rows, columns]
        assert np.abs(second.camera.project(points)[0] - there).max(initial=0) < 1e-6
    assert pairs > 3000


def test_solids_stay_apart_inside_the_room_and_stand_on_something() -> None:
    stacked = 0
    for found in made(count=12) + made("evaluation"):
        room = found.room
        for index, solid in enumerate(room.solids):
            assert solid.reach < solid.x < room.width - solid.reach
            assert solid.reach < solid.y < room.depth - solid.reach
            assert solid.bottom == (0.0 if solid.on is None else room.solids[solid.on].height)
            stacked += solid.on is not None
            for other in room.solids[:index]:
                apart = math.hypot(solid.x - other.x, solid.y - other.y) > solid.reach + other.reach
                assert apart or room.solids[index].on is not None
        names = [name(solid) for solid in room.solids]
        assert len(set(names)) == len(names)
    assert stacked > 1


def test_relations_hold_in_camera_coordinates() -> None:
    seen: set[str] = set()
    for found in made() + made("evaluation"):
        for view in found.views:
            local = [
                view.camera.rotation @ np.array(solid.centre) + view.camera.translation for solid in found.room.solids
            ]
            for first, relation, second in relations_in_view(found.room, view):
                seen.add(relation)
                one, other = found.room.solids[first], found.room.solids[second]
                assert (view.ids == first + 1).any()
                assert (view.ids == second + 1).any()
                assert {
                    "left of": local[first][0] < local[second][0],
                    "right of": local[first][0] > local[second][0],
                    "in front of": local[first][2] < local[second][2],
                    "behind": local[first][2] > local[second][2],
                    "on top of": one.bottom == pytest.approx(other.bottom + other.height),
                    "under": other.bottom == pytest.approx(one.bottom + one.height),
                    "next to": math.dist(one.centre, other.centre) < 1.0,
                }[relation]
    assert seen == {"left of", "right of", "in front of", "behind", "on top of", "under", "next to"}


def test_captions_name_the_visible_solids() -> None:
    for found in made():
        for view, text in zip(found.views, found.captions, strict=True):
            for index, solid in enumerate(found.room.solids):
                named = f"{solid.size} {solid.colour} {solid.shape}" in text
                assert named or (view.ids == index + 1).mean() < 0.0025
                assert not named or (view.ids == index + 1).any()


def test_answers_are_true() -> None:
    kinds = set()
    for found in made() + made("evaluation"):
        solids, view = found.room.solids, found.views[0]
        depth = [
            float((view.camera.rotation @ np.array(solid.centre) + view.camera.translation)[2]) for solid in solids
        ]
        by_name = {name(solid): index for index, solid in enumerate(solids)}
        for pair in found.pairs:
            kinds.add(pair.kind)
            things = [solids[index] for _, index in pair.things]
            assert not pair.choices or pair.choices.count(pair.answer) == 1
            if pair.kind == "count":
                assert int(pair.answer) == len(solids)
            elif pair.kind == "colour":
                assert things[0].colour == pair.answer
            elif pair.kind == "nearest":
                assert depth[by_name[pair.answer]] == min(depth)
            elif pair.kind == "distance":
                assert float(pair.answer) == pytest.approx(math.dist(things[0].centre, things[1].centre), abs=0.051)
            elif pair.kind == "height":
                assert solids[by_name[pair.answer]].height == max(thing.height for thing in things)
            elif pair.kind == "closer":
                gaps = [math.dist(things[0].centre, thing.centre) for thing in things[1:]]
                assert gaps[0] < gaps[1]
                assert name(things[1]) == pair.answer
            elif pair.kind == "support":
                assert things[0].on == by_name[name(things[1])]
    assert kinds == set(QUESTIONS)


def test_held_out_solids_are_in_the_evaluation_split_only() -> None:
    for found in made():
        assert not any(held_out(solid.shape, solid.colour, solid.size) for solid in found.room.solids)
    for found in made("evaluation"):
        assert any(is_reserved(solid) for solid in found.room.solids)
        assert found.pairs
        for pair in found.pairs:
            assert any(is_reserved(found.room.solids[index]) for _, index in pair.things)


def test_colours_can_be_recognised() -> None:
    right = total = 0
    for found in made() + made("evaluation"):
        view = found.views[0]
        for index, solid in enumerate(found.room.solids):
            red, green, blue = (round(value) for value in np.median(view.image[view.ids == index + 1], axis=0))
            right += nearest((red, green, blue)) == solid.colour
            total += 1
    assert right >= 0.8 * total
    assert total > 40
    assert {solid.colour for found in made() for solid in found.room.solids} <= set(COLOURS)


def test_the_same_seed_gives_the_same_bytes_and_a_record() -> None:
    one, again = (generate_room(7, views=2, size=48) for _ in range(2))
    assert one.record() == again.record()
    for here, there in zip(one.views, again.views, strict=True):
        assert here.image.tobytes() == there.image.tobytes()
        assert here.depth.tobytes() == there.depth.tobytes()
    record = one.record()
    assert len(record["views"]) == 2
    assert record["views"][0]["caption"] == one.captions[0]
    assert len(one.row("a.png")["conversations"]) == 2 * len(one.pairs)
    assert generate_room(7, views=2, size=96).room == one.room


@pytest.mark.parametrize(
    ("arguments", "hint"), [({"views": 0}, "1 to 16"), ({"size": 8}, "32 to 2048"), ({"split": "x"}, "split")]
)
def test_bad_arguments_say_what_is_possible(arguments: dict, hint: str) -> None:
    with pytest.raises(PerceptError, match=hint):
        generate_room(0, **arguments)
