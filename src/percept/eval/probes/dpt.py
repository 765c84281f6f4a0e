"""Depth by a light DPT: the patches of one layer through residual convolutions, upsampled by 4.

After Ranftl et al. 2021 (DPT), arXiv:2103.13413. Differs from it: one layer in place of four, as in Bolya et al. 2025,
arXiv:2504.13181, section 9; 64 channels; the loss is the squared error plus a scale-invariant logarithmic one (Eigen et al. 2014,
arXiv:1406.2283). The epoch with the least RMSE on a quarter of the training images is kept.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from percept.eval.probes.dense import NEAREST, FittedDepth, fitted_labels, no_depth
from percept.eval.probes.head import stacked, upsampled
from percept.eval.probes.linear import Standardise
from percept.eval.probes.probe import held_out
from percept.eval.probes.stream import OnPatches

CHANNELS = 64
EPOCHS, BATCH, RATE = 20, 16, 1e-3


class Residual(nn.Module):
    """Two 3 × 3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """Return maps of the same shape."""
        return x + self.second(F.relu(self.first(F.relu(x))))


class LightDPT(nn.Module):
    """Takes maps [b, w, y, x] and returns depth [b, 1, 4 y, 4 x]."""

    def __init__(self, width: int, channels: int = CHANNELS) -> None:
        super().__init__()
        self.standardise = Standardise(width)
        self.project = nn.Conv2d(width, channels, 1)
        self.stages = nn.ModuleList(Residual(channels) for _ in range(3))
        self.output = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 3, padding=1), nn.ReLU(), nn.Conv2d(channels // 2, 1, 1)
        )
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        """Mean depth of the training images."""

    def forward(self, features: Float[Tensor, "b w y x"]) -> Float[Tensor, "b 1 h k"]:
        """Return depth, at least `NEAREST`."""
        x = self.project(self.standardise(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number < 2:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return F.softplus(self.output(x)) * self.scale + NEAREST


def depth_loss(predicted: Float[Tensor, "b y x"], depth: Float[Tensor, "b y x"]) -> Float[Tensor, ""]:
    """Return mean squared error plus mean of d² - mean(d)² / 2 with d = log p - log t, over pixels with depth."""
    valid = depth.isfinite() & (depth > 0)
    guess, truth = predicted[valid], depth[valid]
    ratio = guess.log() - truth.log()
    return (guess - truth).square().mean() + ratio.square().mean() - ratio.mean().square() / 2


class Depth(OnPatches):
    """RMSE and δ1 of a light DPT. Targets are depths [y, x]; 0 or NaN where there is none."""

    def thin(
        self, features: dict[int, Tensor], target: np.ndarray, rng: np.random.Generator
    ) -> tuple[dict[int, Tensor], Any]:
        """Return whole maps, and depth at the size of the model's input."""
        return features, fitted_labels(np.nan_to_num(target.astype(np.float32)), self.setup.frame.size)

    def fit(self, features: Sequence[Tensor], targets: Sequence[Tensor], *, seed: int) -> FittedDepth:
        """Train on all images with depth but a quarter, which chooses the epoch.

        Raises:
            PerceptError: no image has a depth.
        """
        known = [number for number, depth in enumerate(targets) if (depth > 0).any()]
        if not known:
            raise no_depth(len(targets))
        maps, depth = (stacked([part[n] for n in known], self.setup.device) for part in (features, targets))
        train, rest = (torch.from_numpy(part) for part in held_out(len(maps), seed))
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(seed)
            model = LightDPT(maps.shape[1]).to(self.setup.device)
            model.standardise = Standardise.of(maps.permute(0, 2, 3, 1).flatten(0, 2))
            model.scale.data = depth[depth > 0].mean()
            model = _train(model, maps, depth, train, rest if len(rest) else train)
        return FittedDepth(model=model.eval().requires_grad_(False), kind="dpt", setup=self.setup)


def _train(model: LightDPT, maps: Tensor, depth: Tensor, train: Tensor, rest: Tensor) -> LightDPT:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    steps = EPOCHS * max(1, -(-len(train) // BATCH))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    best, least = model, float("inf")
    for _ in range(EPOCHS):
        for part in train[torch.randperm(len(train))].split(BATCH):
            if (depth[part] > 0).any():
                loss = depth_loss(upsampled(model(maps[part]), (depth.shape[-2], depth.shape[-1]))[:, 0], depth[part])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            schedule.step()
        if (error := _rmse(model, maps, depth, rest)) < least:
            best, least = copy.deepcopy(model), error
    return best


@torch.no_grad()
def _rmse(model: LightDPT, maps: Tensor, depth: Tensor, rows: Tensor) -> float:
    total = count = 0.0
    for part in rows.split(BATCH):
        valid = depth[part] > 0
        error = (upsampled(model(maps[part]), (depth.shape[-2], depth.shape[-1]))[:, 0] - depth[part])[valid]
        total, count = total + float(error.square().sum()), count + error.numel()
    return (total / max(count, 1)) ** 0.5
