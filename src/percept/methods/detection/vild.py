"""ViLD: a detector that finds things without naming them, and names them by class vectors of a text tower.

Gu et al. 2022, arXiv:2104.13921; the constants are those of dyabel/detpro (Du et al. 2022, arXiv:2203.14940). On the patches of a frozen tower:

    proposals   boxes of things of any class                               FCOS with one class, trained on the base classes
    masks       a map of 28 × 28 in each box, of no class                  binary cross-entropy
    text head   r = MLP(patches in the box),  p_text = softmax([cos(r, w_c); cos(r, background)] / T)
                trained by cross-entropy on the base classes with T = 0.01; the background vector is learned; T = 0.007 afterwards
    image head  f = the vector of the region,  p_image = softmax(cos(f, w_c) / T)
    a class     p_text^(2/3) p_image^(1/3) if it is a base class, p_text^(1/3) p_image^(2/3) if it is new

Differs from it: one-stage proposals on a frozen tower in place of Mask R-CNN; the image head, which ViLD distils from crops, is here the
pooling head over the patches of the region, without training; a class is multiplied by the score of its proposal, whose weight is a guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.batch import Batch
from percept.eval.probes.boxes import suppress
from percept.eval.probes.fcos import FCOS, corners, detection_loss
from percept.eval.probes.linear import Standardise
from percept.methods.adaptation.contract import TINY_NAMES, tiny_base
from percept.methods.adaptation.texts import TEMPLATE, Base, base_of, check_names, filled, text_vectors
from percept.methods.detection.heads import MaskHead, pasted
from percept.methods.detection.regions import BACKGROUND, assigned, crops, jittered, region_vectors, scattered
from percept.models.clip import unit


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenes(Batch):
    """Images as the frozen tower sees them, with labelled things."""

    image: Float[Tensor, "b 3 y x"]
    """Preprocessed images."""
    boxes: Float[Tensor, "b m 4"]
    """xyxy in [0, 1]; zeros in rows without a thing."""
    label: Int[Tensor, "b m"]
    """Class of each box; `BACKGROUND` in rows without a thing."""
    masks: Bool[Tensor, "b m y x"]
    """Visible pixels of each thing."""
    tokens: Float[Tensor, "b n w"] | None = None
    """Of the frozen tower, after the final norm; computed if they are not given."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Proposed:
    """Things found in one image, without names."""

    boxes: Float[Tensor, "k 4"]
    """xyxy in [0, 1]."""
    score: Float[Tensor, " k"]
    vector: Float[Tensor, "k d"]
    """Unit vectors of the image head."""
    masks: Bool[Tensor, "k y x"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Named things of one image, best first."""

    boxes: Float[Tensor, "k 4"]
    """xyxy in [0, 1]."""
    label: Int[Tensor, " k"]
    score: Float[Tensor, " k"]
    masks: Bool[Tensor, "k y x"]


class ViLD(nn.Module):
    """The detector. Its towers are frozen; base classes are those it was trained on."""

    base_parts = ("clip",)
    shown = ("proposals", "masks", "classes")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes are ours; temperatures and mixing are the paper's."""

        hidden: int = 256
        """Hidden units of the text head; 0 removes it, so that the image head alone names."""
        samples: int = 3
        """Samples of the patches down and across a box that the text head reads."""
        mask_channels: int = 32
        """Channels of the mask head."""
        mask_side: int = 28
        """Side of a predicted mask in samples."""
        temperature: float = 0.01
        """Divides cosines in training."""
        test_temperature: float = 0.007
        """Divides cosines when things are named."""
        base_share: float = 2 / 3
        """Exponent of the text head for base classes; the image head has the rest."""
        new_share: float = 1 / 3
        """Exponent of the text head for new classes."""
        proposal_share: float = 1.0
        """Exponent of the score of the proposal."""
        proposals: int = 50
        """Most proposals of an image."""
        proposal_overlap: float = 0.7
        """IoU above which the weaker of two proposals is dropped."""
        class_overlap: float = 0.5
        """IoU above which the weaker of two things of one class is dropped."""
        most: int = 50
        """Most named things of an image."""

        def __post_init__(self) -> None:
            shares = (self.base_share, self.new_share)
            if min(self.temperature, self.test_temperature) <= 0 or not all(0 <= share <= 1 for share in shares):
                raise PerceptError(
                    f"temperatures must be above 0 and shares from 0 to 1, got {self.temperature}, {self.test_temperature} and {shares}."
                )

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        """Freeze the towers and make the heads; the base classes start with the vectors of the template."""
        super().__init__()
        self.config, self.clip, self.template = config, base.clip.requires_grad_(False), template
        self.names, vision = check_names(names), base.clip.config.vision
        self.proposals = FCOS(vision.width, 1)
        self.masks = MaskHead(vision.width, config.mask_channels, config.mask_side)
        self.text: nn.Sequential | None = None
        length = base.text.config.output_dim
        if config.hidden:
            inputs = vision.width * config.samples**2
            self.text = nn.Sequential(nn.Linear(inputs, config.hidden), nn.ReLU(), nn.Linear(config.hidden, length))
            self.elsewhere = nn.Parameter(torch.randn(length) * length**-0.5)
        self.class_vectors: Tensor
        self.register_buffer("class_vectors", text_vectors(base, filled(template, self.names)))
        self.steps = 0
        """Training steps taken, which decide the random boxes of the next one; 0 repeats those of a new detector."""

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        side = self.clip.config.vision.grid
        return side, side

    def train(self, mode: bool = True) -> "ViLD":
        """Set the mode of what is trained; the frozen towers stay in evaluation mode."""
        super().train(mode)
        self.clip.eval()
        return self

    @torch.no_grad()
    def see(self, image: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b n w"]:
        """Return the tokens of the frozen tower after the final norm."""
        return self.clip.vision(image, pool=False).tokens

    def maps(self, tokens: Float[Tensor, "b n w"]) -> Float[Tensor, "b w y x"]:
        """Return the patches of tokens as a map, standardised as the proposals are."""
        patches = tokens[:, tokens.shape[1] - self.grid[0] * self.grid[1] :].float()
        return self.proposals.standardise(patches).transpose(1, 2).unflatten(2, self.grid)

    def prepare(self, tokens: Float[Tensor, "b n w"]) -> None:
        """Standardise patches by the mean and deviation that they have in training images."""
        patches = tokens[:, tokens.shape[1] - self.grid[0] * self.grid[1] :].float()
        self.proposals.standardise = Standardise.of(patches.flatten(0, 1))

    # training

    def forward(self, batch: Scenes) -> dict[str, Tensor]:
        """Return the sum of the losses of all heads, and each of them."""
        losses = self.finding(batch)
        if self.text is not None:
            losses["classes"] = self.naming(batch)
        return {"loss": torch.stack(list(losses.values())).sum(), **{name: each.detach() for name, each in losses.items()}}  # fmt: skip

    def finding(self, batch: Scenes) -> dict[str, Tensor]:
        """Return the losses of proposals and masks, which know no classes."""
        self.steps += self.training
        tokens = batch.tokens if batch.tokens is not None else self.see(batch.image)
        patches = tokens[:, tokens.shape[1] - self.grid[0] * self.grid[1] :].float()
        size = torch.tensor([self.grid[1], self.grid[0]] * 2, device=tokens.device)
        levels = self.proposals(patches.transpose(1, 2).unflatten(2, self.grid))
        return {
            "proposals": detection_loss(levels, batch.boxes * size, batch.label.clamp(max=0)),
            "masks": self._drawing(batch, tokens),
        }

    def _drawing(self, batch: Scenes, tokens: Float[Tensor, "b n w"]) -> Float[Tensor, ""]:
        """Return the cross-entropy of the masks in slightly wrong boxes."""
        boxes, owner, masks = [], [], []
        for number in range(len(batch)):
            there = batch.label[number] != BACKGROUND
            if not bool(there.any()):
                continue
            truth = batch.boxes[number, there]
            loose = jittered(truth, 3, self._dice("masks", number))
            thing = torch.arange(len(truth), device=truth.device).repeat(3)
            boxes.append(loose)
            owner.append(torch.full((len(loose),), number, device=truth.device))
            masks.append(crops(batch.masks[number, there][:, None].float(), loose, thing, self.config.mask_side)[:, 0])
        if not boxes:
            return tokens.sum() * 0
        logits = self.masks(self.maps(tokens), batch.image.float(), torch.cat(boxes), torch.cat(owner))
        return F.binary_cross_entropy_with_logits(logits, torch.cat(masks))

    def naming(self, batch: Scenes) -> Float[Tensor, ""]:
        """Return the cross-entropy of the text head over the base classes and background."""
        self.steps += self.training
        tokens = batch.tokens if batch.tokens is not None else self.see(batch.image)
        boxes, labels, owner = [], [], []
        for number in range(len(batch)):
            there, dice = batch.label[number] != BACKGROUND, self._dice("names", number)
            truth = batch.boxes[number, there]
            tried = torch.cat([jittered(truth, 5, dice), scattered(8, dice).to(truth)])
            boxes.append(tried)
            labels.append(assigned(tried, truth, batch.label[number, there])[0])
            owner.append(torch.full((len(tried),), number, device=truth.device))
        label = torch.cat(labels)
        vectors = self.text_vectors(self.maps(tokens), torch.cat(boxes), torch.cat(owner))
        logits = vectors @ self._named(self.class_vectors).T / self.config.temperature
        return F.cross_entropy(logits, torch.where(label == BACKGROUND, len(self.class_vectors), label))

    def _dice(self, *parts: str | int) -> torch.Generator:
        """Return random numbers that differ in every training step, and are the same whenever nothing is trained."""
        return torch.Generator().manual_seed(derive(self.steps if self.training else 0, *parts))

    def text_vectors(
        self, maps: Float[Tensor, "b w y x"], boxes: Float[Tensor, "k 4"], owner: Int[Tensor, " k"]
    ) -> Float[Tensor, "k d"]:
        """Return the unit vectors that the text head gives to boxes."""
        assert self.text is not None
        return unit(self.text(crops(maps, boxes, owner, self.config.samples).flatten(1)))

    def _named(self, vectors: Float[Tensor, "c d"]) -> Float[Tensor, "n d"]:
        return torch.cat([vectors, unit(self.elsewhere)[None]])

    # use

    @torch.no_grad()
    def propose(self, image: Float[Tensor, "3 y x"], tokens: Float[Tensor, "n w"] | None = None) -> Proposed:
        """Return the things of one preprocessed image, best first."""
        tokens = self.see(image[None])[0] if tokens is None else tokens.float()
        patches = tokens[len(tokens) - self.grid[0] * self.grid[1] :]
        levels = self.proposals(patches.T.unflatten(1, self.grid)[None])
        score = torch.cat([(one.classes[0, :, 0].sigmoid() * one.centres[0].sigmoid()).sqrt() for one in levels])
        places = torch.cat([corners(one.places, one.sides[0]) for one in levels])
        boxes = (places / torch.tensor([self.grid[1], self.grid[0]] * 2, device=places.device)).clamp(0, 1)
        best = score.topk(min(300, len(score))).indices
        best = best[(boxes[best, 2:] - boxes[best, :2]).amin(dim=1) > 0.02]
        same = torch.zeros(len(best), dtype=torch.long, device=best.device)
        kept = best[suppress(boxes[best], score[best], same, self.config.proposal_overlap)[: self.config.proposals]]
        vector = region_vectors(self.clip.vision, tokens, self.grid, boxes[kept])  # type: ignore[arg-type]
        return Proposed(
            boxes=boxes[kept], score=score[kept], vector=vector, masks=self._drawn(image, tokens, boxes[kept])
        )

    def _drawn(
        self, image: Float[Tensor, "3 y x"], tokens: Float[Tensor, "n w"], boxes: Float[Tensor, "k 4"]
    ) -> Bool[Tensor, "k y x"]:
        owner = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
        shares = self.masks(self.maps(tokens[None]), image[None].float(), boxes, owner).sigmoid()
        return pasted(shares, boxes, tuple(image.shape[1:])) > 0.5

    @torch.no_grad()
    def named(
        self, found: Proposed, tokens: Float[Tensor, "n w"], classes: Float[Tensor, "c d"], base: Bool[Tensor, " c"]
    ) -> Found:
        """Name the things of one image.

        Args:
            found: its things.
            tokens: of the image, as `see` returns them.
            classes: unit vectors of the classes to name.
            base: True for classes that the text head was trained on.
        """
        config = self.config
        logs = (found.vector @ classes.T / config.test_temperature).log_softmax(dim=1)
        if self.text is not None:
            owner = torch.zeros(len(found.boxes), dtype=torch.long, device=tokens.device)
            own = self.text_vectors(self.maps(tokens[None].float()), found.boxes, owner)
            text = (own @ self._named(classes).T / config.test_temperature).log_softmax(dim=1)[:, :-1]
            share = torch.where(base, config.base_share, config.new_share)
            logs = share * text + (1 - share) * logs
        scores = logs.exp() * found.score[:, None] ** config.proposal_share
        best, order = scores.flatten().topk(min(4 * config.most, scores.numel()))
        place, label = order // len(classes), order % len(classes)
        kept = suppress(found.boxes[place], best, label, config.class_overlap)[: config.most]
        place = place[kept]
        return Found(boxes=found.boxes[place], label=label[kept], score=best[kept], masks=found.masks[place])

    def detect(self, image: Float[Tensor, "b 3 y x"], classes: Float[Tensor, "c d"], base: Bool[Tensor, " c"]) -> list[Found]:  # fmt: skip
        """Find and name the things of preprocessed images; see `named`."""
        tokens = self.see(image)
        return [self.named(self.propose(one, own), own, classes, base) for one, own in zip(image, tokens, strict=True)]

    @classmethod
    def from_encoder(cls, config: Config, encoder: object, names: Sequence[str], template: str = TEMPLATE) -> "ViLD":
        """Build the detector on an encoder, for `percept.methods.saved`."""
        return cls(config, base_of(encoder), names, template)

    @classmethod
    def tiny(cls) -> tuple["ViLD", Scenes]:
        """Return a detector of some thousand parameters and a batch for it."""
        config = cls.Config(hidden=8, samples=2, mask_channels=4, mask_side=6)
        task = cls(config, tiny_base(), TINY_NAMES)
        boxes = torch.tensor([[[0.1, 0.1, 0.9, 0.8], [0.5, 0.4, 1.0, 1.0]], [[0.0, 0.2, 0.4, 0.7], [0.0, 0.0, 0.0, 0.0]]])  # fmt: skip
        masks = torch.zeros(2, 2, 16, 16, dtype=torch.bool)
        masks[:, :, 4:10, 3:12] = True
        label = torch.tensor([[0, 2], [1, BACKGROUND]])
        return task, Scenes(image=torch.randn(2, 3, 16, 16), boxes=boxes, label=label, masks=masks)
