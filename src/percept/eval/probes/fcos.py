"""Detection with a light head on a simple feature pyramid from the patches of one layer.

The pyramid is that of Li et al. 2022 (ViTDet), arXiv:2203.16527: maps of twice, once and half the resolution of the patches, all from the
same tokens. The head is that of Tian et al. 2019 (FCOS), arXiv:1904.01355: every place inside the middle of a box predicts its
distances to the sides, a class, and how central it is. Differs from both: 64 channels, one shared convolution, three levels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.eval.probes.boxes import Detected, Truth, average_precision, suppress
from percept.eval.probes.head import Head, stacked
from percept.eval.probes.linear import Standardise
from percept.eval.probes.outcome import Outcome
from percept.eval.probes.probe import Setup
from percept.eval.probes.stream import OnPatches

CHANNELS = 64
SCALES = (2.0, 1.0, 0.5)
"""Resolution of each level relative to the patches."""
REACH = 8.0
"""A level takes boxes whose farthest side is at most this many of its cells away; the last one takes all larger ones."""
CENTRE = 1.5
"""Half the side, in cells, of the square in the middle of a box whose places predict it."""
STEPS, BATCH, RATE = 150, 16, 3e-3
LEAST_SCORE, OVERLAP, MOST = 0.02, 0.6, 100
"""Least score of a detection, IoU above which the weaker of two is dropped, and detections of an image."""


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Boxes found in one image, best first."""

    boxes: Float[Tensor, "k 4"]
    """xyxy in [0, 1]."""
    labels: Int[Tensor, " k"]
    scores: Float[Tensor, " k"]


@dataclass(frozen=True, kw_only=True)
class Level:
    """Outputs at one resolution."""

    places: Float[Tensor, "n 2"]
    """Centres of the cells, (x, y) in patches."""
    cell: float
    """Side of a cell in patches."""
    classes: Float[Tensor, "b n c"]
    """Logits."""
    sides: Float[Tensor, "b n 4"]
    """Distances to the left, top, right and bottom side in patches."""
    centres: Float[Tensor, "b n"]
    """Logits of being central."""


class FCOS(nn.Module):
    """Takes maps [b, w, y, x]; returns outputs of three levels."""

    def __init__(self, width: int, classes: int, channels: int = CHANNELS) -> None:
        super().__init__()
        self.standardise = Standardise(width)
        self.finer = nn.ConvTranspose2d(width, channels, 2, stride=2)
        self.same = nn.Conv2d(width, channels, 1)
        self.coarser = nn.Conv2d(width, channels, 2, stride=2)
        self.mix = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(8, channels), nn.Conv2d(channels, channels, 3, padding=1)) for _ in SCALES
        )
        self.shared = nn.Sequential(nn.GroupNorm(8, channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(8, channels), nn.ReLU())  # fmt: skip
        self.classify, self.locate = nn.Conv2d(channels, classes, 1), nn.Conv2d(channels, 5, 1)
        self.scales = nn.Parameter(torch.ones(len(SCALES)))
        assert self.classify.bias is not None
        nn.init.constant_(self.classify.bias, -4.6)  # every class starts at a probability of 0.01
        nn.init.normal_(self.classify.weight, std=0.01)

    def forward(self, features: Float[Tensor, "b w y x"]) -> list[Level]:
        """Return the outputs of each level, the finest first."""
        x = self.standardise(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        odd = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), mode="replicate")
        maps = (self.finer(x), self.same(x), self.coarser(odd))
        return [
            self._level(self.shared(mix(one)), number)
            for number, (mix, one) in enumerate(zip(self.mix, maps, strict=True))
        ]

    def _level(self, x: Float[Tensor, "b c y x"], number: int) -> Level:
        cell = 1 / SCALES[number]
        rows, columns = ((torch.arange(side, device=x.device) + 0.5) * cell for side in x.shape[-2:])
        places = torch.cartesian_prod(rows, columns).flip(1)
        located = self.locate(x).flatten(2)
        sides = F.softplus(located[:, :4] * self.scales[number]).transpose(1, 2) * cell
        return Level(
            places=places, cell=cell, classes=self.classify(x).flatten(2).transpose(1, 2), sides=sides, centres=located[:, 4]
        )  # fmt: skip

    @torch.no_grad()
    def detect(self, features: Float[Tensor, "b w y x"]) -> list[Detections]:
        """Return the boxes of each image."""
        levels = self(features)
        size = torch.tensor([features.shape[-1], features.shape[-2]] * 2, device=features.device)
        return [self._detect_one(levels, row, size) for row in range(len(features))]

    def _detect_one(self, levels: list[Level], row: int, size: Tensor) -> Detections:
        scores = torch.cat(
            [(one.classes[row].sigmoid() * one.centres[row].sigmoid()[:, None]).sqrt() for one in levels]
        )
        boxes = torch.cat([corners(one.places, one.sides[row]) for one in levels])
        best, order = scores.flatten().topk(min(1000, scores.numel()))
        order = order[best > LEAST_SCORE]
        place, label = order // scores.shape[1], order % scores.shape[1]
        boxes, found = (boxes[place] / size).clamp(0, 1), scores.flatten()[order]
        kept = suppress(boxes, found, label, OVERLAP)[:MOST]
        return Detections(boxes=boxes[kept].cpu(), labels=label[kept].cpu(), scores=found[kept].cpu())


def corners(places: Float[Tensor, "*n 2"], sides: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Return boxes xyxy from places and distances to the sides."""
    return torch.cat([places - sides[..., :2], places + sides[..., 2:]], dim=-1)


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What a level should predict at its places."""

    classes: Int[Tensor, "b n"]
    """Class, or -1 where no box is predicted."""
    sides: Float[Tensor, "b n 4"]


def aim_at(level: Level, number: int, boxes: Float[Tensor, "b m 4"], labels: Int[Tensor, "b m"]) -> Aim:
    """Return the targets of a level; of several boxes at a place, the smallest counts.

    Args:
        level: its places.
        number: which of the levels it is.
        boxes: xyxy in patches.
        labels: classes; -1 for rows without a box.
    """
    x, y = level.places[:, 0, None], level.places[:, 1, None]
    edges = boxes[:, None]  # [b, 1, m, 4]
    sides = torch.stack([x - edges[..., 0], y - edges[..., 1], edges[..., 2] - x, edges[..., 3] - y], dim=-1)
    middle = (edges[..., :2] + edges[..., 2:]) / 2
    central = ((torch.stack([x, y], dim=-1) - middle).abs() <= CENTRE * level.cell).all(dim=-1)
    far = sides.amax(dim=-1)
    low = 0.0 if number == 0 else REACH * level.cell / 2
    high = float("inf") if number == len(SCALES) - 1 else REACH * level.cell
    usable = (sides.amin(dim=-1) > 0) & central & (far > low) & (far <= high) & (labels[:, None] >= 0)
    area = (edges[..., 2] - edges[..., 0]) * (edges[..., 3] - edges[..., 1])
    best = torch.where(usable, area, float("inf")).min(dim=-1)
    chosen = best.indices
    classes = torch.where(best.values.isfinite(), labels.gather(1, chosen), -1)
    return Aim(classes=classes, sides=sides.gather(2, chosen[..., None, None].expand(-1, -1, 1, 4))[:, :, 0])


def centrality(sides: Float[Tensor, "k 4"]) -> Float[Tensor, " k"]:
    """Return the geometric mean of the ratios of opposite distances: 1 in the middle of a box, 0 at its edge."""
    across, down = sides[:, ::2], sides[:, 1::2]
    ratios = across.amin(dim=1) / across.amax(dim=1) * (down.amin(dim=1) / down.amax(dim=1))
    return ratios.clamp(min=0).sqrt()


def focal_loss(logits: Float[Tensor, "*n c"], targets: Float[Tensor, "*n c"]) -> Float[Tensor, ""]:
    """Return the summed focal loss with α 0.25 and γ 2 (Lin et al. 2017, arXiv:1708.02002)."""
    plain = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    chance = torch.where(targets > 0, logits.sigmoid(), 1 - logits.sigmoid())
    return (torch.where(targets > 0, 0.25, 0.75) * (1 - chance).square() * plain).sum()


def giou_loss(found: Float[Tensor, "k 4"], truth: Float[Tensor, "k 4"]) -> Float[Tensor, " k"]:
    """Return 1 - GIoU of distances from the same places (Rezatofighi et al. 2019, arXiv:1902.09630)."""
    area = lambda sides: (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3])  # noqa: E731
    both, hull = area(torch.minimum(found, truth)), area(torch.maximum(found, truth))
    union = (area(found) + area(truth) - both).clamp(min=1e-6)
    return 1 - both / union + (hull - union) / hull.clamp(min=1e-6)


def detection_loss(
    levels: Sequence[Level], boxes: Float[Tensor, "b m 4"], labels: Int[Tensor, "b m"]
) -> Float[Tensor, ""]:
    """Return focal loss + GIoU loss weighted by centrality + cross-entropy of centrality, per place with a box."""
    aims = [aim_at(level, number, boxes, labels) for number, level in enumerate(levels)]
    classes, sides = torch.cat([aim.classes for aim in aims], dim=1), torch.cat([aim.sides for aim in aims], dim=1)
    logits, located, centres = (
        torch.cat([getattr(level, name) for level in levels], dim=1) for name in ("classes", "sides", "centres")
    )
    inside = classes >= 0
    wanted = F.one_hot(classes.clamp(min=0), logits.shape[-1]).float() * inside[..., None]
    loss = focal_loss(logits, wanted) / inside.sum().clamp(min=1)
    if not inside.any():
        return loss
    weight = centrality(sides[inside])
    located_loss = (giou_loss(located[inside], sides[inside]) * weight).sum() / weight.sum().clamp(min=1e-6)
    return loss + located_loss + F.binary_cross_entropy_with_logits(centres[inside], weight)


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedBoxes:
    """A trained detector."""

    model: FCOS
    setup: Setup

    def judge(self, features: Sequence[Tensor], targets: Sequence[Truth]) -> Mapping[str, Outcome]:
        """Return COCO's average precision over IoU 0.5 to 0.95, and at 0.5; boxes are compared in shares of the image."""
        found = [
            detection for part in _parts(features) for detection in self.model.detect(stacked(part, self.setup.device))
        ]
        detected = [
            Detected(boxes=one.boxes.numpy(), labels=one.labels.numpy(), scores=one.scores.numpy()) for one in found
        ]
        return average_precision(targets, detected, len(self.setup.classes))

    def head(self, layer: int) -> Head:
        """Return the trained head."""
        width = self.setup.frame.width
        return Head(task="boxes", kind="fcos", layer=layer, width=width, classes=self.setup.classes, module=self.model)


class Boxes(OnPatches):
    """COCO's average precision of a light FCOS head. Targets are `boxes.Truth`."""

    whole = True

    def thin(self, features: dict[int, Tensor], target: Any, rng: np.random.Generator) -> tuple[dict[int, Tensor], Any]:
        """Return the sample as it is."""
        return features, target

    def fit(self, features: Sequence[Tensor], targets: Sequence[Truth], *, seed: int) -> FittedBoxes:
        """Train on all images."""
        maps = stacked(features, self.setup.device)
        boxes, labels = _padded(targets, maps)
        if (labels < 0).all():
            raise PerceptError(f"none of the {len(targets)} training images has a box. Check the annotations.")
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(seed)
            model = FCOS(maps.shape[1], len(self.setup.classes)).to(maps.device)
            model.standardise = Standardise.of(maps.permute(0, 2, 3, 1).flatten(0, 2))
            _train(model, maps, boxes, labels)
        return FittedBoxes(model=model.eval().requires_grad_(False), setup=self.setup)


def _parts(features: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    return (features[first : first + BATCH] for first in range(0, len(features), BATCH))


def _padded(targets: Sequence[Truth], maps: Tensor) -> tuple[Float[Tensor, "b m 4"], Int[Tensor, "b m"]]:
    """Return the boxes of all images in patches, with rows of label -1 where an image has fewer; crowds are left out."""
    most = max(1, *(len(target.boxes) for target in targets)) if len(targets) > 1 else max(1, len(targets[0].boxes))
    boxes, labels = torch.zeros(len(targets), most, 4), torch.full((len(targets), most), -1)
    for row, target in enumerate(targets):
        single = ~target.crowd
        count = int(single.sum())
        boxes[row, :count] = torch.from_numpy(target.boxes[single]).float()
        labels[row, :count] = torch.from_numpy(target.labels[single])
    size = torch.tensor([maps.shape[-1], maps.shape[-2]] * 2)
    return (boxes * size).to(maps.device), labels.to(maps.device)


def _train(model: FCOS, maps: Tensor, boxes: Tensor, labels: Tensor) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    order = torch.randperm(len(maps))
    for step in range(STEPS):
        start = step * BATCH % len(maps)
        part = order.roll(-start)[:BATCH]
        if start + BATCH >= len(maps):
            order = torch.randperm(len(maps))
        loss = detection_loss(model(maps[part]), boxes[part], labels[part])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()
