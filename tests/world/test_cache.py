"""The cache of generated images: its files, its compositions, and the batches made from it."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.tokenizers import Tokenizer
from percept.world import CATEGORIES, COLOURS, Scene, held_out, triples
from percept.world import cache as module
from percept.world.augment import NONE, Augment, Draws, cropped
from percept.world.cache import SIDE, TEXTS, WorldData, draw_cache, some_texts
from percept.world.regions import NAMES
from percept.world.source import Stage, WorldSource, described, stages_of

DATA = WorldData(pairs=20)
UNTOUCHED = replace(DATA, augment=NONE)
STAGES = (Stage(0, 48), Stage(3, 64), Stage(5, 96))
WINDOWS = (Stage(0, 48, "words"), Stage(4, 40, "regions"), Stage(8, 64))


@pytest.fixture(scope="module")
def small_chunks() -> Iterator[None]:
    """Three files of at most 8 pairs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", 8)
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, small_chunks: None) -> Path:
    return draw_here(tmp_path_factory.mktemp("world"))


def draw_here(home: Path, data: WorldData = DATA) -> Path:
    """Draw in this process, where CHUNK is small."""
    folder = home / module._cache_name(data)
    folder.mkdir(parents=True)
    for first in range(0, data.pairs, module.CHUNK):
        module._draw_chunk(folder, data, first)
    return folder


def source(
    folder: Path, data: WorldData = DATA, *, batch: int = 8, seed: int = 0, stages: tuple[Stage, ...] = STAGES
) -> WorldSource:
    return WorldSource(data, folder, words_of(folder), batch=batch, stages=stages, seed=seed)


def words_of(folder: Path) -> Tokenizer:
    return Tokenizer.train(some_texts(folder, 100), vocab_size=400, context=32)


def annotations(folder: Path, name: str) -> list[Any]:
    """Return one field of all images."""
    return [row for path in sorted(folder.glob("*.json")) for row in json.loads(path.read_text())[name]]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_files_hold_images_and_texts_of_all_pairs(drawn: Path) -> None:
    assert sorted(contents(drawn)) == [f"{first:08d}.{kind}" for first in (0, 8, 16) for kind in ("ids", "json", "npy")]
    images = [np.load(path) for path in sorted(drawn.glob("*.npy"))]
    assert [len(array) for array in images] == [16, 16, 8]
    assert all(array.shape[1:] == (SIDE, SIDE, 3) and array.dtype == np.uint8 for array in images)
    texts, regions = annotations(drawn, "texts"), annotations(drawn, "regions")
    assert len(texts) == len(regions) == 40
    assert {len(names) for row in regions for _, names in row} == {len(NAMES)}
    assert {len(row) for row in texts} == {len(TEXTS)}
    numbered = [np.load(path) for path in sorted(drawn.glob("*.ids"))]
    assert [array.shape for array in numbered] == [(len(array), SIDE, SIDE) for array in images]
    assert {len(row) for row in annotations(drawn, "contrary")} == {4}
    assert some_texts(drawn, 7) == [text for row in texts[:2] for text in row][:7]


def test_the_number_of_workers_and_an_interruption_change_no_byte(tmp_path: Path) -> None:
    data = WorldData(pairs=3)
    folders = [draw_cache(data, tmp_path / str(workers), workers=workers) for workers in (1, 2)]
    whole = contents(folders[0])
    assert contents(folders[1]) == whole
    (folders[1] / "00000000.npy").unlink()  # interrupted after the texts and before the images
    (folders[1] / "00000000.json").write_text("[[")
    assert draw_cache(data, tmp_path / "2", workers=1) == folders[1]
    assert contents(folders[1]) == whole


def test_a_complete_cache_is_not_drawn_again(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "map_processes", None)
    times = {path: path.stat().st_mtime_ns for path in drawn.iterdir()}
    assert draw_cache(DATA, drawn.parent) == drawn
    assert {path: path.stat().st_mtime_ns for path in drawn.iterdir()} == times


def test_the_name_of_the_folder_depends_on_what_is_drawn() -> None:
    changes = ({"seed": 1}, {"pairs": 21}, {"style": "plain"}, {"stretched": 0.1}, {"stretch": 0.1})
    drawn_otherwise = {module._cache_name(replace(DATA, **change)) for change in changes}
    assert len(drawn_otherwise | {module._cache_name(DATA)}) == 6
    assert module._cache_name(replace(DATA, augment=NONE, twins=0.1)) == module._cache_name(DATA)


def test_no_image_shows_a_held_out_composition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every scene that would be drawn for 1 500 pairs, as the default recipe draws them."""
    scenes: list[Scene] = []

    class Blank:
        image = np.zeros((SIDE, SIDE, 3), np.uint8)

    def remember(scene: Scene, **options: object) -> Blank:
        scenes.append(scene)
        return Blank()

    monkeypatch.setattr(module, "render", remember)
    monkeypatch.setattr(module, "regions_of", lambda drawn: [])
    monkeypatch.setattr(module, "ids_of", lambda drawn: drawn.image[..., 0])
    for number in range(1500):
        assert len(list(module._pair(number, WorldData()))) == 2
    assert len(scenes) == 3000
    leaked = [scene.seed for scene in scenes if any(held_out(*triple) for triple in triples(scene))]
    assert leaked == []
    assert {scene.split for scene in scenes} == {"train"}
    assert {scene.style for scene in scenes} > {"plain", "sketch", "rendition"}
    twins = [same_places(*pair) for pair in zip(scenes[::2], scenes[1::2], strict=True)]
    assert 0.9 < sum(twins) / len(twins) <= 1  # where no twin obeys the rule, another scene takes the place


def test_no_window_shows_what_is_held_out_for_single_things() -> None:
    """The names of the windows of 150 pairs, with colours, are not held-out compositions."""
    shown = 0
    for number in range(150):
        for item in module._pair(number, WorldData()):
            for _, (kind, coloured, _) in item.regions:
                category, words = kind.split(" ", 1)[1], coloured.split()
                for colour in COLOURS:
                    if colour in words:
                        shown += 1
                        assert not held_out(category, colour, "alone"), (number, coloured)
    assert shown > 300


def same_places(first: Scene, second: Scene) -> bool:
    """True if both have the same background and things of the same sizes, mirrored or not."""
    sizes = [Counter(thing.scale for thing in scene.things) for scene in (first, second)]
    return sizes[0] == sizes[1] and first.background_seed == second.background_seed


def test_texts_belong_to_their_images(drawn: Path) -> None:
    """Texts, regions and pixels on disk equal those generated again."""
    rows, regions = annotations(drawn, "texts"), annotations(drawn, "regions")
    for number in range(3):
        again = list(module._pair(number, DATA))
        assert [item.texts for item in again] == rows[2 * number : 2 * number + 2]
        assert json.loads(json.dumps([item.regions for item in again])) == regions[2 * number : 2 * number + 2]
        images, numbered = (np.load(drawn / f"00000000.{kind}", mmap_mode="r") for kind in ("npy", "ids"))
        for offset, item in enumerate(again):
            assert np.array_equal(images[2 * number + offset], item.image)
            assert np.array_equal(numbered[2 * number + offset], item.ids)


def test_things_of_a_batch_are_those_of_the_images(drawn: Path) -> None:
    """Patch labels agree with the ids on disk, and names with the labels; no name is that of a held-out thing."""
    world, words, rows = source(drawn, UNTOUCHED), words_of(drawn), annotations(drawn, "things")
    batch, numbers = world.batch(6), world.numbers_of(6)
    ids = np.concatenate([np.load(path) for path in sorted(drawn.glob("*.ids"))])[numbers]
    assert batch.cover is not None and batch.things is not None and batch.names is not None  # noqa: PT018
    assert batch.cover.shape == (8, 144)
    named = 0
    for sample, number in enumerate(numbers):
        for patch, cover in enumerate(batch.cover[sample].tolist()):
            row, column = divmod(patch, 12)
            cell = ids[sample, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            assert cover < 0 or (cell == cover + 1).mean() >= 0.4
            assert cover != -1 or (cell == 0).mean() >= 0.9
        for slot, (category, colour, name) in enumerate(rows[number]):
            assert batch.things[sample, slot].tolist() == [category, colour]
            kept = held_out(list(CATEGORIES)[category], list(COLOURS)[colour], "alone")
            assert kept == (not name) or colour < 0
            expected = words([name])[0] if name else torch.zeros_like(words([""])[0])
            assert torch.equal(batch.names[sample, slot], expected)
            named += bool(name)
        assert (batch.things[sample, len(rows[number]) :] == -1).all()
        assert (batch.names[sample, len(rows[number]) :] == 0).all()
    assert named > 8


def test_right_and_wrong_texts_are_a_pair_of_the_image(drawn: Path) -> None:
    world, words, rows = source(drawn), words_of(drawn), annotations(drawn, "contrary")
    chosen = set()
    for step in range(4):
        batch = world.batch(step)
        contrary = batch.contrary
        assert contrary is not None
        assert batch.said is not None
        assert batch.claims is not None
        for sample, number in enumerate(world.numbers_of(step)):
            assert contrary[sample].shape[:2] == (2, 2)  # one of each kind: colours, sides
            for kind in (0, 1):
                pairs = [torch.equal(contrary[sample, kind], words(texts)) for texts, _ in rows[number][2 * kind :][:2]]
                assert any(pairs)
                chosen.add(2 * kind + pairs.index(True))
                _, claims = rows[number][2 * kind + pairs.index(True)]
                ids = [[claim for claim in row.tolist() if claim] for row in batch.said[sample, kind]]
                assert ids == claims
            assert [claim for claim in batch.claims[sample].tolist() if claim] == annotations(drawn, "claims")[number]
    assert chosen == {0, 1, 2, 3}


def test_a_stage_may_show_a_share_of_the_patches_only(drawn: Path) -> None:
    world = source(drawn, stages=(Stage(0, 96, keep=0.5), Stage(3, 96)))
    first, second = (world.batch(step).keep for step in (0, 1))
    assert first is not None
    assert second is not None
    for kept in (first, second):
        assert len(kept) == 72
        assert kept.tolist() == sorted(set(kept.tolist()))
        assert 0 <= int(kept.min()) < int(kept.max()) < 144
    assert not torch.equal(first, second)
    assert torch.equal(first, source(drawn, stages=world.stages).batch(0).keep)  # type: ignore[arg-type]
    assert world.batch(3).keep is None


def test_a_batch_is_a_function_of_its_step(drawn: Path) -> None:
    first, second = source(drawn), source(drawn)
    later = [first.batch(step) for step in range(7)]
    for step in (6, 0, 3):  # a second source, in a different order, as after a resume
        again, before = second.batch(step).tensors(), later[step].tensors()
        assert again.keys() == before.keys() >= {"image", "tokens", "cover", "claims", "contrary", "said"}
        assert all(torch.equal(again[name], before[name]) for name in again)
    assert not torch.equal(later[0].tensors()["tokens"], later[1].tensors()["tokens"])
    assert not torch.equal(source(drawn, seed=1).batch(0).tensors()["tokens"], later[0].tensors()["tokens"])


def test_images_grow_with_the_stages_and_are_in_the_range_of_the_models(drawn: Path) -> None:
    data = source(drawn)
    for step, size in ((0, 48), (2, 48), (3, 64), (4, 64), (5, 96), (50, 96)):
        image = data.batch(step).tensors()["image"]
        assert image.shape == (8, 3, size, size)
        assert image.dtype == torch.float32
        assert -1 <= float(image.min()) < float(image.max()) <= 1


@pytest.mark.parametrize("batch", [8, 9])
def test_an_epoch_visits_each_pair_once_and_twins_stand_side_by_side(drawn: Path, batch: int) -> None:
    data = replace(DATA, pairs=20)
    world = source(drawn, data, batch=batch)
    whole = int(batch * data.twins) // 2
    per_step = batch - whole
    orders = []
    for epoch in range(2):
        seen: list[int] = []
        for step in range(epoch * (20 // per_step), (epoch + 1) * (20 // per_step)):
            numbers = world.numbers_of(step)
            assert len(numbers) == len(set(numbers)) == batch
            first, second = numbers[:whole], numbers[whole : 2 * whole]
            assert (second - first == 1).all()  # each image and its twin
            assert (first % 2 == 0).all()
            seen += [int(number) // 2 for number in (*first, *numbers[2 * whole :])]
        assert len(seen) == len(set(seen)) == 20 // per_step * per_step
        orders.append(seen)
    assert orders[0] != orders[1]


def test_either_image_of_a_pair_that_is_not_whole_is_taken(drawn: Path) -> None:
    world = source(drawn, replace(DATA, twins=0.0))
    sides = Counter(int(number) % 2 for step in range(20) for number in world.numbers_of(step))
    assert min(sides[0], sides[1]) > 50  # of 160; seven standard deviations from the mean is 36


def test_shares_of_twins_at_both_ends(drawn: Path) -> None:
    none = source(drawn, replace(DATA, twins=0.0)).numbers_of(0)
    assert len({int(number) // 2 for number in none}) == 8
    only = source(drawn, replace(DATA, twins=1.0)).numbers_of(0)
    assert sorted(Counter(int(number) // 2 for number in only).values()) == [2, 2, 2, 2]


def test_a_batch_that_needs_more_pairs_than_exist_is_refused(drawn: Path) -> None:
    with pytest.raises(PerceptError, match="20 pairs are fewer than the 30 of one batch"):
        source(drawn, batch=40).batch(0)


def test_tokens_are_those_of_the_chosen_kind_of_text(drawn: Path) -> None:
    rows = annotations(drawn, "texts")
    for kind in range(len(TEXTS)):
        world = source(drawn, replace(DATA, weights=tuple(float(place == kind) for place in range(len(TEXTS)))))
        expected = words_of(drawn)([rows[number][kind] for number in world.numbers_of(2)])
        assert torch.equal(world.batch(2).tensors()["tokens"], expected)
        assert torch.equal(world.batch(2).tensors()["words"], expected)


def test_all_texts_of_a_step_are_of_one_kind_and_kinds_change(drawn: Path) -> None:
    world, rows, words = source(drawn), annotations(drawn, "texts"), words_of(drawn)
    kinds = set()
    for step in range(12):
        tokens = world.batch(step).tensors()["tokens"]
        numbers = world.numbers_of(step)
        fitting = [
            kind for kind in range(len(TEXTS)) if torch.equal(tokens, words([rows[number][kind] for number in numbers]))
        ]
        assert fitting
        kinds |= set(fitting)
    assert len(kinds) > 2


def test_windows_come_with_the_names_of_their_things(drawn: Path) -> None:
    """Words only at first, then texts too; each window is cropped from the image of its region."""
    data = replace(UNTOUCHED, region_weights=(0.0, 1.0, 0.0))
    world, words = source(drawn, data, stages=WINDOWS), words_of(drawn)
    regions = [(image, *region) for image, row in enumerate(annotations(drawn, "regions")) for region in row]
    assert len(regions) > 40
    for step in (0, 3, 4, 7):
        batch = world.batch(step)
        chosen = world._walk(step, 8, len(regions), "regions")
        expected = words([regions[number][2][1] for number in chosen])
        assert batch.tensors()["image"].shape == (8, 3, 48 if step < 4 else 40, 48 if step < 4 else 40)
        assert torch.equal(batch.tensors()["words"], expected)
        assert (batch.tokens is None) == (step < 4)
        assert batch.tokens is None or torch.equal(batch.tokens, expected)
    assert world.batch(8).tensors()["image"].shape == (8, 3, 64, 64)
    again = source(drawn, data, stages=WINDOWS).batch(3)
    assert torch.equal(again.tensors()["image"], world.batch(3).tensors()["image"])


def test_windows_loosen_until_the_scenes_begin(drawn: Path) -> None:
    world = source(drawn, stages=WINDOWS)
    assert [world.looseness(step) for step in (0, 4, 8)] == [0, 0.5, 1]
    assert source(drawn, stages=WINDOWS[:1]).looseness(5) == 1


def test_without_augmentation_an_image_equals_that_on_disk(drawn: Path) -> None:
    world = source(drawn, UNTOUCHED)
    images = np.concatenate([np.load(path) for path in sorted(drawn.glob("*.npy"))])
    expected = torch.from_numpy(images[world.numbers_of(6)]).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(world.batch(6).tensors()["image"], expected, atol=1e-5, rtol=0)


def test_brightness_stays_within_its_bound(drawn: Path) -> None:
    world = source(drawn, replace(UNTOUCHED, augment=replace(NONE, brightness=0.15)))
    plain = source(drawn, UNTOUCHED)
    drawn_ratios = []
    for step in (5, 6):
        bright, usual = (each.batch(step).tensors()["image"] + 1 for each in (world, plain))
        ratio = (bright.mean(dim=(1, 2, 3)) / usual.mean(dim=(1, 2, 3))).tolist()
        assert all(0.84 < value < 1.16 for value in ratio)
        assert max(ratio) - min(ratio) > 0.02
        drawn_ratios.append(ratio)
    assert drawn_ratios[0] != pytest.approx(drawn_ratios[1], abs=0.01)


def test_shares_are_within_bounds() -> None:
    with pytest.raises(PerceptError, match="noise"):
        Augment(noise=-0.1)


def test_crops_leave_out_a_few_pixels_anywhere() -> None:
    ramp = torch.arange(SIDE, dtype=torch.uint8)
    image = torch.stack([ramp.expand(SIDE, SIDE), ramp[:, None].expand(SIDE, SIDE), ramp.expand(SIDE, SIDE)])[None]
    draws, edges = Draws(0, torch.device("cpu")), []
    for _ in range(200):
        pixels, ids = cropped(image, image[:, 1], SIDE, 8, draws)
        seen = pixels[0].float()
        assert (ids[0] - seen[1]).abs().max() <= 1.5  # cropped alike; nearest against bilinear
        edges.append((seen[0].min().item(), SIDE - 1 - seen[0].max().item(), seen[1].min().item()))
    left, right, top = (np.array(values) for values in zip(*edges, strict=True))
    assert (left + right).max() == pytest.approx(8, abs=1)
    assert min(left.max(), right.max(), top.max()) > 5
    assert max(left.min(), right.min(), top.min()) == pytest.approx(0, abs=0.01)
    assert (left != top).any()


def test_images_that_are_not_square_are_squashed() -> None:
    image = np.zeros((SIDE, 2 * SIDE, 3), np.uint8)
    image[:, SIDE:] = 200
    squashed = module._squashed(image, Image.Resampling.BILINEAR)
    assert squashed.shape == (SIDE, SIDE, 3)
    assert (int(squashed[5, 5, 0]), int(squashed[5, -5, 0])) == (0, 200)
    square = np.zeros((SIDE, SIDE, 3), np.uint8)
    assert module._squashed(square, Image.Resampling.NEAREST) is square


def test_contrast_and_noise_keep_the_mean_and_leave_some_images_unchanged(drawn: Path) -> None:
    plain = source(drawn, UNTOUCHED).batch(5).tensors()["image"]
    flat = source(drawn, replace(UNTOUCHED, augment=replace(NONE, contrast=0.3))).batch(5).tensors()["image"]
    spread = flat.flatten(1).std(dim=1) / plain.flatten(1).std(dim=1)
    assert 0.68 < float(spread.min()) < float(spread.max()) < 1.32
    assert float(spread.max() - spread.min()) > 0.1
    noisy = torch.cat(
        [
            source(drawn, replace(UNTOUCHED, augment=replace(NONE, noise=0.1))).batch(step).tensors()["image"]
            for step in (5, 6)
        ]
    )
    plain = torch.cat([plain, source(drawn, UNTOUCHED).batch(6).tensors()["image"]])
    changed = (noisy - plain).flatten(1).std(dim=1)
    assert 0 < int((changed > 0).sum()) < len(changed)
    assert float(changed.max()) < 0.21


def test_seeds_of_pairs_do_not_meet() -> None:
    seeds = [derive(0, kind, number) for kind in ("pair", "scene", "other") for number in range(2000)]
    assert len(set(seeds)) == 6000
    assert random.Random(seeds[0]).random() != random.Random(seeds[1]).random()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pairs": 0}, "pairs must be at least 1"),
        ({"augment": Augment(crop=200)}, "got 200"),
        ({"twins": 1.5}, "twins must be from 0 to 1"),
        ({"weights": (0.0, 0.0, 0.0, 0.0)}, "not all 0"),
        ({"weights": (1.0,)}, "weights must be 4"),
        ({"region_weights": (1.0, -1.0, 1.0)}, "region_weights"),
    ],
)
def test_impossible_data_is_refused(change: dict, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        replace(DATA, **change)


def test_impossible_stages_are_refused() -> None:
    with pytest.raises(PerceptError, match="at least 1 pixel"):
        Stage(0, 0)
    with pytest.raises(PerceptError, match="above 0 and at most 1"):
        Stage(0, 48, keep=0.0)
    with pytest.raises(PerceptError, match="'scenes'"):
        Stage(0, 8, "scene")


def test_inks_are_for_images_without_visible_colours(drawn: Path) -> None:
    inked, plain = (source(drawn, replace(UNTOUCHED, augment=how)) for how in (replace(NONE, inked=1.0), NONE))
    rows, seen = annotations(drawn, "things"), set()
    for step in range(5, 12):
        changed = (inked.batch(step).tensors()["image"] - plain.batch(step).tensors()["image"]).abs().amax((1, 2, 3))
        for number, change in zip(plain.numbers_of(step), changed.tolist(), strict=True):
            colourless = rows[number][0][1] < 0
            assert (change > 0.1) == colourless
            seen.add(colourless)
    assert seen == {True, False}


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_the_shares_of_all_processes_are_the_global_batch(drawn: Path, world_size: int) -> None:
    world = source(drawn, stages=(Stage(0, 48, "words"), Stage(1, 40, "regions"), Stage(2, 64, keep=0.5)))
    for step in range(3):
        whole = world.batch(step)
        shares = [world.batch(step, rank=rank, world_size=world_size) for rank in range(world_size)]
        assert [len(share) for share in shares] == [
            8 * (n + 1) // world_size - 8 * n // world_size for n in range(world_size)
        ]
        for name, value in whole.tensors().items():
            parts = [share.tensors()[name] for share in shares]
            if name == "keep":
                assert all(torch.equal(part, value) for part in parts)
            else:
                torch.testing.assert_close(torch.cat(parts), value, atol=1e-6, rtol=0)


def test_stages_follow_their_shares_of_the_steps() -> None:
    stages = stages_of((("words", 48, 1.0, 0.5), ("regions", 64, 1.0, 0.25), ("scenes", 96, 0.5, 0.25)), 4)
    assert stages == (Stage(0, 48, "words"), Stage(2, 64, "regions"), Stage(3, 96, "scenes", 0.5))
    assert described(stages)[3] == "stage 3 of 3, scenes of 96 pixels, 50 % of the patches seen"
    with pytest.raises(PerceptError, match=r"sum to 0\.9"):
        stages_of((("words", 48, 1.0, 0.5), ("scenes", 96, 1.0, 0.4)), 4)
    with pytest.raises(PerceptError, match="'scenes'"):
        stages_of((("scene", 48, 1.0, 1.0),), 4)
    with pytest.raises(PerceptError, match="above 0"):
        stages_of((("words", 48, 1.0, 1.5), ("scenes", 48, 1.0, -0.5)), 4)
