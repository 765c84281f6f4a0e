"""DAS: find blocks of the image tower that a task does not need, put small adapters in their place, and train adapters only.

Wu et al. 2023, arXiv:2309.01479 (dynamic architecture skipping); the search is described in `skipping`. With class vectors w⁰ of the template,

    loss = CE(softmax_c(s cos(f_adapted(x), w⁰_c)), y)

The paper skips layers of fusion models (METER, ViLT), see `fusion` and benchmarks/adaptation/das.py; here it is the image tower of a dual
encoder, in few-shot training. Rewards are computed on a part of the shots that is not trained on while the search lasts. Our guesses: that part,
the length of the search, a search step after every second training step (the paper: 10), because there are few, and small batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.methods.adaptation.contract import Adaptation, Shots, Training, Views
from percept.methods.adaptation.skipping import Bottleneck, Reward, Skips, make_skippable
from percept.methods.adaptation.texts import TEMPLATE, Base
from percept.models.clip import unit


class DAS(Adaptation):
    """A copy of the image tower with adapters, some of its blocks skipped."""

    reads = "images"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Widths of METER for 768 channels are 288 and 96: the defaults are these shares of nano's 256 channels."""

        skip: int = 2
        """Blocks that are skipped [k]; 0 for adapters in every block."""
        chosen: tuple[int, ...] | None = None
        """Blocks to skip, counted from 0, without a search. After a search it holds what was found."""
        replacement: int = 96
        """Hidden width of the adapter in place of a block; 0 for the identity."""
        hidden: int = 32
        """Hidden width of the adapters after attention and MLP of the other blocks; 0 for none."""
        search: int = 8
        """Epochs of search (ours; the paper: 3 on a whole data set)."""
        anew: bool = False
        """Draw new adapters once the blocks are chosen, as in the last training of the paper; otherwise training goes on with those of the search (ours)."""
        warmup: int = 1
        """Epochs without search steps at the start."""
        every: int = 2
        """Training steps for each search step (ours; the paper: 10)."""
        samples: int = 3
        """Sets of blocks that a search step compares."""
        rate: float = 1.0
        """Of the gates [η]."""
        reward: Reward = "exp"
        """exp as published, or standardised; see `Skips`."""
        held: float = 0.25
        """Share of the shots of each class for rewards (ours); in a class of one shot it is trained on too."""
        judged: int = 32
        """Images of the batch for rewards (ours)."""

        def __post_init__(self) -> None:
            if self.chosen is not None:
                object.__setattr__(self, "chosen", tuple(sorted(self.chosen)))
            if min(self.skip, self.replacement, self.hidden, self.search) < 0 or not 0 < self.held < 1:
                raise PerceptError("skip, replacement, hidden and search must be at least 0, and held between 0 and 1.")
            if min(self.every, self.samples, self.judged) < 1:
                raise PerceptError("every, samples and judged must be at least 1.")

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        self.clip = base.copied().clip.requires_grad_(False)
        stack, width = cast(nn.ModuleList, self.clip.vision.blocks), self.clip.config.vision.width
        layers = make_skippable(stack, width, hidden=config.hidden, replacement=config.replacement)
        self.skips = Skips(layers, config.skip, rate=config.rate, reward=config.reward)
        self.searching, self._epoch = config.chosen is None and config.skip > 0, 0
        self._held: tuple[Int[Tensor, " h"], Tensor, Int[Tensor, " h"]] | None = None
        if not self.searching:
            self.skips.settle(config.chosen or ())
        self.use(names)

    def declared(self) -> dict[str, int]:
        """Return the adapters; once the skipped blocks are chosen, only those that are in use."""
        width, sizes = self.clip.config.vision.width, {}
        for place, layer in enumerate(self.skips.layers):
            for side in (True, False) if self.searching else (layer.skipped,):
                for name, adapter in layer.adapters(skipped=side):
                    each = Bottleneck.sizes(width, adapter.down.out_features)
                    sizes |= {f"clip.vision.blocks.{place}.{name}.{part}": size for part, size in each.items()}
        return sizes

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the vectors of the template."""
        return self.own_vectors()

    def losses(self, batch: Views) -> dict[str, Tensor]:
        """Return the cross-entropy; while the search lasts, with other blocks skipped in every step and without the images for rewards."""
        if self.searching and self.training:
            self.skips.skip(self.skips.draw())
            trained = torch.ones_like(batch.label, dtype=torch.bool) if self._held is None else self._trained(batch)
            if bool(trained.any()):
                batch = replace(batch, **{name: value[trained] for name, value in batch.tensors().items()})
        return super().losses(batch)

    def _trained(self, batch: Views) -> Tensor:
        assert self._held is not None
        return ~torch.isin(batch.row, self._held[0].to(batch.row.device))

    def prepare(self, shots: Shots) -> None:
        """Hold back images for the rewards of the search."""
        if not self.searching:
            return
        assert shots.pixels is not None
        rows = held_rows(shots.label, self.config.held)
        alone = shots.label.bincount()[shots.label[rows]] == 1  # the only shot of its class
        self._held = rows[~alone], shots.pixels(rows.tolist(), None), shots.label[rows]

    def on_epoch(self, epoch: int) -> None:
        """Choose the blocks when the search is over."""
        self._epoch = epoch
        if self.searching and epoch >= self.config.search:
            self.decide()

    def after_step(self, step: int) -> None:
        """Take a search step."""
        if (
            self.searching
            and self._held is not None
            and self._epoch >= self.config.warmup
            and step % self.config.every == 0
        ):
            some = torch.randperm(len(self._held[2]))[: self.config.judged]
            self.skips.learn(lambda: self._loss(some), self.config.samples)

    def _loss(self, some: Int[Tensor, " m"]) -> Tensor:
        assert self._held is not None
        device = self.clip.scale().device
        image, label = self._held[1][some].to(device), self._held[2][some].to(device)
        return F.cross_entropy(self.clip.scale() * unit(self.clip.encode_image(image)) @ self.classes().T, label)

    def decide(self) -> None:
        """Skip the blocks with the largest gates from now on, and write them into the configuration."""
        chosen = self.skips.best()
        self.skips.settle(chosen, reset=self.config.anew)
        self.searching, self._held, self.config = False, None, replace(self.config, chosen=chosen)

    def finish(self) -> None:
        """Choose the blocks if training was shorter than the search."""
        if self.searching:
            self.decide()

    def neutral_twin(self) -> "DAS":
        """Return a tower without skipped blocks and without adapters."""
        return DAS(self.Config(skip=0, hidden=0), self.base, self.names)

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return 20 epochs of AdamW with rate 0.0005, the rate of the paper for ViLT; small batches of few shots, so that there are enough steps (ours)."""
        return Training(epochs=20, batch=min(32, max(4, 2 * shots)), rate=5e-4, optimiser="adamw", weight_decay=0.01)

    @classmethod
    def tiny_config(cls) -> "DAS.Config":
        """Return a configuration without a search, so that every adapter is in use."""
        return cls.Config(skip=1, chosen=(1,), replacement=4, hidden=2)


def held_rows(label: Int[Tensor, " n"], share: float) -> Int[Tensor, " h"]:
    """Return random rows for rewards: of every class a share, at least one."""
    rows = []
    for number in label.unique():
        own = torch.nonzero(label == number)[:, 0]
        rows.append(own[torch.randperm(len(own))[: max(1, int(share * len(own)))]])
    return torch.cat(rows)
