"""Layers that can be replaced by a small adapter, and the bandit that learns which of them a task does not need.

Wu et al. 2023, arXiv:2309.01479 (DAS), section 3; constants from DoubtedSteam/DAS, METER/meter/modules/meter_module_search.py and
efficientmodules.py. With gates g of the L layers, all 0 at first, and π = sigmoid(g):

    training step   k layers, drawn without replacement with weights π, are replaced; the adapters are trained
    search step     sets a of k layers are drawn; reward r_a = exp(-loss_a) on one batch of validation samples
                    g_i += η (r_a - mean of r) π_i (1 - π_i)  for every a and every layer i in a

A large gate means that the layer is not needed. The update is that of independent Bernoulli draws, as published, although layers are
drawn without replacement.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError

STD = 0.02
"""Standard deviation of the initial weights of an adapter."""
TRIES = 20
"""Draws after which an equal set is accepted."""
Reward = Literal["exp", "standardised"]


class Bottleneck(nn.Module):
    """up(relu(down(norm x))): what an adapter adds to its input."""

    def __init__(self, width: int, hidden: int, *, like: Tensor | None = None) -> None:
        super().__init__()
        self.norm, self.down, self.up = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.reset_parameters()
        if like is not None:
            self.to(like.device)

    def reset_parameters(self) -> None:
        """Draw new weights of N(0, 0.02²)."""
        self.norm.reset_parameters()
        for linear in (self.down, self.up):
            nn.init.normal_(linear.weight, std=STD)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b w"]:
        """Transform each token."""
        return self.up(F.relu(self.down(self.norm(x))))

    @staticmethod
    def sizes(width: int, hidden: int) -> dict[str, int]:
        """Return the number of values of each parameter."""
        return {
            "norm.weight": width, "norm.bias": width, "down.weight": hidden * width, "down.bias": hidden,
            "up.weight": width * hidden, "up.bias": width,
        }  # fmt: skip


class Adapted(nn.Module):
    """y + adapter(y), where y is the output of a layer."""

    def __init__(self, layer: nn.Module, adapter: Bottleneck) -> None:
        super().__init__()
        self.layer, self.adapter = layer, adapter

    def forward(self, *inputs: Any) -> Tensor:
        """Run the layer and its adapter."""
        y = self.layer(*inputs)
        return y + self.adapter(y)


class Skippable(nn.Module):
    """A frozen block with adapters after its attention and its MLP; while `skipped` is true, x + replacement(x) in place of all that."""

    def __init__(self, block: nn.Module, width: int, *, hidden: int, replacement: int) -> None:
        """Freeze a block and add adapters to it.

        Args:
            block: has an `attention` and an `mlp`; its first argument has the shape of its result.
            width: channels of the tokens.
            hidden: hidden width of the adapters in the block; 0 for none.
            replacement: hidden width of the adapter in place of the block; 0 for the identity.
        """
        super().__init__()
        self.block = block.requires_grad_(False)
        like = next(block.parameters())
        self.replacement = Bottleneck(width, replacement, like=like) if replacement else None
        self.skipped = False
        for name in ("attention", "mlp") if hidden else ():
            setattr(block, name, Adapted(getattr(block, name), Bottleneck(width, hidden, like=like)))

    def forward(self, x: Float[Tensor, "b n w"], *rest: Any) -> Float[Tensor, "b n w"]:
        """Transform the tokens."""
        if not self.skipped:
            return self.block(x, *rest)
        return x if self.replacement is None else x + self.replacement(x)

    def adapters(self, *, skipped: bool) -> list[tuple[str, Bottleneck]]:
        """Return the adapters in use while the block is skipped, or while it is not, with their names inside this module."""
        if skipped:
            return [] if self.replacement is None else [("replacement", self.replacement)]
        found = ((name, getattr(self.block, name)) for name in ("attention", "mlp"))
        return [(f"block.{name}.adapter", layer.adapter) for name, layer in found if isinstance(layer, Adapted)]

    def settle(self, skipped: bool) -> None:
        """Skip the block from now on, or never; adapters that are not used are not trained."""
        self.skipped = skipped
        for side in (True, False):
            for _, adapter in self.adapters(skipped=side):
                adapter.requires_grad_(side == skipped)


def make_skippable(stack: nn.ModuleList, width: int, *, hidden: int, replacement: int) -> list[Skippable]:
    """Replace every block of a stack by a `Skippable` and return them."""
    layers = [Skippable(block, width, hidden=hidden, replacement=replacement) for block in stack]
    for place, layer in enumerate(layers):
        stack[place] = layer
    return layers


class Skips(nn.Module):
    """The gates of some layers, and which of these layers are skipped."""

    gate: Tensor

    def __init__(self, layers: Sequence[Skippable], count: int, *, rate: float = 1.0, reward: Reward = "exp") -> None:
        """Make gates of 0; no layer is skipped yet.

        Args:
            layers: candidates.
            count: layers that are skipped [k].
            rate: of the gates [η].
            reward: exp is exp(-loss), which is near 0 for every set if losses are large; standardised, which is ours, is the loss with its
                sign changed, minus the mean and divided by the standard deviation over the sets that are compared.
        """
        super().__init__()
        if not 0 <= count < len(layers):
            raise PerceptError(f"{count} of {len(layers)} layers cannot be skipped. Skip 0 to {len(layers) - 1}.")
        self.layers, self.count, self.rate, self.reward = tuple(layers), count, rate, reward
        self.register_buffer("gate", torch.zeros(len(layers)))

    def draw(self) -> tuple[int, ...]:
        """Return k layers, drawn without replacement with weights sigmoid(g), in ascending order."""
        if not self.count:
            return ()
        return tuple(sorted(torch.multinomial(self.gate.float().sigmoid(), self.count).tolist()))

    def skip(self, chosen: Sequence[int]) -> None:
        """Skip these layers and no others for now."""
        for number, layer in enumerate(self.layers):
            layer.skipped = number in chosen

    @torch.no_grad()
    def learn(self, loss: Callable[[], Tensor], samples: int = 3) -> None:
        """Take a search step with different sets of layers.

        Args:
            loss: returns the loss of validation samples with the layers that are skipped now.
            samples: sets that are compared.
        """
        drawn: list[tuple[int, ...]] = []
        for _ in range(TRIES * samples):
            if len(drawn) < samples and (some := self.draw()) not in drawn:
                drawn.append(some)
        losses = []
        for some in drawn:
            self.skip(some)
            losses.append(loss().detach().float())
        self.update(drawn, torch.stack(losses))

    @torch.no_grad()
    def update(self, drawn: Sequence[Sequence[int]], losses: Float[Tensor, " a"]) -> None:
        """Change the gates by the losses of some sets of layers."""
        rewards = (-losses).exp()
        if self.reward == "standardised":
            rewards = -losses / losses.std(correction=0).clamp(min=1e-12)
        ahead = (rewards - rewards.mean()).to(self.gate)
        probability = self.gate.sigmoid()
        slope = probability * (1 - probability)
        for some, advantage in zip(drawn, ahead, strict=True):
            self.gate[list(some)] += self.rate * advantage * slope[list(some)]

    def best(self) -> tuple[int, ...]:
        """Return the k layers with the largest gates, in ascending order."""
        return tuple(sorted(self.gate.topk(self.count).indices.tolist()))

    def settle(self, chosen: Sequence[int], *, reset: bool = True) -> None:
        """Skip these layers from now on; with `reset`, draw the weights of the adapters in use anew."""
        if unknown := [number for number in chosen if not 0 <= number < len(self.layers)]:
            raise PerceptError(f"there is no layer {unknown[0]} to skip. The layers are 0 to {len(self.layers) - 1}.")
        for number, layer in enumerate(self.layers):
            layer.settle(number in chosen)
            for _, adapter in layer.adapters(skipped=layer.skipped) if reset else ():
                adapter.reset_parameters()
