"""Masks of things in boxes: a small head, and how its maps become masks of the image."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.methods.detection.regions import crops


class MaskHead(nn.Module):
    """Draws the thing in a box from the patches and the pixels under it."""

    def __init__(self, width: int, channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.reduce = nn.Conv2d(width, channels, 1)
        self.draw = nn.Sequential(
            nn.Conv2d(channels + 3, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 1, 1),
        )  # fmt: skip

    def forward(
        self, maps: Float[Tensor, "b w h v"], image: Float[Tensor, "b 3 y x"], boxes: Float[Tensor, "k 4"], owner: Int[Tensor, " k"]
    ) -> Float[Tensor, "k s s"]:  # fmt: skip
        """Return the logits of the samples of each box."""
        inside = crops(self.reduce(maps), boxes, owner, self.side), crops(image, boxes, owner, self.side)
        return self.draw(torch.cat(inside, dim=1))[:, 0]


def pasted(
    shares: Float[Tensor, "k s s"], boxes: Float[Tensor, "k 4"], size: tuple[int, ...]
) -> Float[Tensor, "k y x"]:
    """Return each map of a box at its place in an image of `size`, 0 outside of the box."""
    high, wide = ((torch.arange(count, device=boxes.device) + 0.5) / count for count in size)
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
    x, y = (wide - boxes[:, 0, None]) / sides[:, 0, None], (high - boxes[:, 1, None]) / sides[:, 1, None]
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    drawn = F.grid_sample(shares[:, None], 2 * grid - 1, align_corners=False, padding_mode="border")[:, 0]
    inside = ((grid >= 0) & (grid <= 1)).all(dim=-1)
    return drawn * inside
