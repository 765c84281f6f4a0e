"""The small detector: places of masks, naming by two heads, training on planted things, saving."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from percept.core.errors import PerceptError
from percept.methods.adaptation.contract import TINY_NAMES, tiny_base
from percept.methods.detection.heads import pasted
from percept.methods.detection.regions import crops
from percept.methods.detection.vild import Proposed, Scenes, ViLD
from percept.methods.saved import own_tensors
from percept.models.clip import unit

WIDTH = 12


def tiny() -> tuple[ViLD, Scenes]:
    torch.manual_seed(0)
    return ViLD.tiny()


def found(task: ViLD, count: int) -> tuple[Proposed, torch.Tensor]:
    boxes = torch.stack([torch.tensor([0.1 * n, 0.1, 0.1 * n + 0.3, 0.6]) for n in range(count)])
    tokens = task.see(torch.randn(1, 3, 16, 16))[0]
    masks = torch.zeros(count, 16, 16, dtype=torch.bool)
    return Proposed(boxes=boxes, score=torch.ones(count), vector=unit(torch.randn(count, WIDTH)), masks=masks), tokens


def test_samples_of_a_box_are_the_pixels_under_it() -> None:
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    whole = crops(maps, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([0]), 4)
    torch.testing.assert_close(whole, maps)
    corner = crops(maps, torch.tensor([[0.5, 0.0, 1.0, 0.5]]), torch.tensor([0]), 2)
    torch.testing.assert_close(corner, maps[:, :, :2, 2:])


def test_a_map_is_pasted_where_its_box_is() -> None:
    drawn = pasted(torch.ones(1, 5, 5), torch.tensor([[0.25, 0.5, 0.75, 1.0]]), (8, 12))
    expected = torch.zeros(8, 12)
    expected[4:, 3:9] = 1
    torch.testing.assert_close(drawn[0], expected)


def test_the_heads_are_mixed_by_the_exponents_of_base_and_new_classes() -> None:
    task, _ = tiny()
    task.config = replace(task.config, test_temperature=0.5, class_overlap=1.0)
    things, tokens = found(task.eval(), 2)
    classes, base = unit(torch.randn(3, WIDTH)), torch.tensor([True, True, False])
    result = task.named(things, tokens, classes, base)
    with torch.no_grad():
        own = task.text_vectors(task.maps(tokens[None]), things.boxes, torch.tensor([0, 0]))
        text = (torch.cat([own @ classes.T, own @ unit(task.elsewhere)[:, None]], dim=1) / 0.5).softmax(dim=1)[:, :3]
        image = (things.vector @ classes.T / 0.5).softmax(dim=1)
    for box, label, score in zip(result.boxes, result.label.tolist(), result.score.tolist(), strict=True):
        row = int((things.boxes == box).all(dim=1).nonzero()[0])
        share = 2 / 3 if base[label] else 1 / 3
        assert score == pytest.approx(float(text[row, label] ** share * image[row, label] ** (1 - share)), rel=1e-4)
    assert len(result.label) == 6


def test_without_a_text_head_the_image_head_names() -> None:
    torch.manual_seed(0)
    task = ViLD(ViLD.Config(hidden=0, mask_channels=4, mask_side=6), tiny_base(), TINY_NAMES).eval()
    things, tokens = found(task, 1)
    result = task.named(things, tokens, things.vector, torch.tensor([True]))
    assert result.score.tolist() == [1.0]
    assert "classes" not in task(ViLD.tiny()[1])


def test_finding_does_not_depend_on_classes() -> None:
    task, batch = tiny()
    one = {name: float(value.detach()) for name, value in task.eval().finding(batch).items()}
    task.class_vectors.normal_()
    relabelled = replace(batch, label=torch.where(batch.label >= 0, 1, batch.label))
    assert {name: float(value.detach()) for name, value in task.finding(relabelled).items()} == one


def test_training_finds_the_planted_thing_and_draws_it() -> None:
    torch.manual_seed(0)
    task = ViLD(ViLD.Config(hidden=16, samples=2, mask_channels=8, mask_side=8), tiny_base(), TINY_NAMES)
    image, masks = torch.zeros(12, 3, 16, 16), torch.zeros(12, 1, 16, 16, dtype=torch.bool)
    boxes = torch.zeros(12, 1, 4)
    for number in range(12):
        x, y = 8 * (number % 2), 8 * (number // 2 % 2)
        image[number, :, y : y + 8, x : x + 8] = 1.0
        masks[number, 0, y : y + 8, x : x + 8] = True
        boxes[number, 0] = torch.tensor([x, y, x + 8, y + 8]) / 16
    batch = Scenes(image=image, boxes=boxes, label=torch.zeros(12, 1, dtype=torch.long), masks=masks)
    optimiser = torch.optim.AdamW([each for each in task.parameters() if each.requires_grad], lr=1e-2)
    task.train()
    for _ in range(60):
        optimiser.zero_grad()
        task(batch)["loss"].backward()
        optimiser.step()
    result = task.eval().detect(image[:4], task.class_vectors, torch.ones(3, dtype=torch.bool))
    for one, box, mask in zip(result, boxes[:4, 0], masks[:4, 0], strict=True):
        assert float((one.boxes[0] - box).abs().max()) < 0.15
        assert float((one.masks[0] & mask).sum() / (one.masks[0] | mask).sum()) > 0.6


def test_a_state_opens_in_a_new_detector_and_holds_no_tower(tmp_path: Path) -> None:
    task, batch = tiny()
    task.prepare(task.see(batch.image))
    own = own_tensors(task)
    assert not any(name.startswith("clip.") for name in own)
    again, _ = tiny()
    again.load_state_dict(own, strict=False)
    torch.testing.assert_close(again.eval()(batch)["loss"], task.eval()(batch)["loss"], atol=0, rtol=0)


def test_wrong_shares_are_an_error() -> None:
    with pytest.raises(PerceptError, match="shares from 0 to 1"):
        ViLD.Config(base_share=1.5)
