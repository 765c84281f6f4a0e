"""XBT: a map from a new model's space to an old one's, learned from texts, so that vectors of the old model stay usable.

"Towards Cross-modal Backward-compatible Representation Learning for Vision-Language Models", arXiv:2405.14715 (ICCV 2025). No code is
published and only the abstract was read: it says that the map is pretrained on texts alone, that training is parameter-efficient, and
that the new model is not modified. Losses, sizes and the noise are ours. With unit vectors of the new model t (texts) and x (images), of
the old model t_o, and the map f:

    stage 1, texts alone:    L = 1 - cos(f(t + e), t_o) + InfoNCE(f(t + e), t_o),    e normal with deviation `noise` in all
    stage 2, image and text: L = InfoNCE(g(x), f(t)) + 1 - cos(g(t), f(t)),          g(x) = f(x + U V x), only U and V trained

The second stage needs few pairs and no old model: f(t) stands for its texts. Both models are only read, so searches of the new model among
vectors of its own are what they were. An index also keeps vectors of images by the old model; pairs of them with new vectors of the same
images take part in the first stage as texts do (see `percept.search.upgrade`).
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.core.report import track
from percept.data.batch import Batch
from percept.losses.contrastive import info_nce
from percept.models.clip import unit
from percept.nn.across import MapAcross, least_squares

Group = tuple[Float[Tensor, "_n d"], Float[Tensor, "_n e"]]
"""Vectors of the new model and of the old model, of the same texts or of the same images."""
CHECKED = 0.1
"""Share of each group that chooses the best of all steps."""
EVERY = 25
"""Steps between two looks at it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Twins(Batch):
    """The same texts, or the same images, as both models see them."""

    new: Float[Tensor, "b d"]
    old: Float[Tensor, "b e"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageText(Batch):
    """Matching images and texts as the new model sees them."""

    image: Float[Tensor, "b d"]
    text: Float[Tensor, "b d"]


class XBT(nn.Module):
    """The map, with the adapter of stage 2 once there is one."""

    shown = ("cosine",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """How the map is learned; all values are ours."""

        hidden: int = 512
        """Width of the perceptron that corrects the linear map; 0 for a linear map."""
        noise: float = 1.0
        """Length of the normal noise on vectors that are mapped in stage 1; it stands for the gap between images and texts."""
        scale: float = 20.0
        """Multiplies the cosines of InfoNCE."""
        steps: int = 400
        """Steps of each stage."""
        batch: int = 256
        """Pairs of each group per step."""
        learning_rate: float = 1e-3
        """Of AdamW, decaying to 0 with half a cosine."""
        rank: int = 8
        """Rank of the adapter of stage 2."""

        def __post_init__(self) -> None:
            if min(self.steps, self.batch, self.rank) < 1:
                raise PerceptError(f"steps={self.steps}, batch={self.batch} and rank={self.rank} must be at least 1.")

    def __init__(self, config: Config, d_in: int, d_out: int) -> None:
        """Make a map between vectors of these lengths."""
        super().__init__()
        self.config = config
        self.map = MapAcross(d_in, d_out, hidden=config.hidden)
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(config.scale))
        self.adapter: nn.Sequential | None = None

    def adapt(self) -> None:
        """Begin stage 2: freeze the map, and put an adapter in front of it that changes nothing yet."""
        width = self.map.linear.in_features
        self.map.requires_grad_(False)
        down, up = nn.Linear(width, self.config.rank, bias=False), nn.Linear(self.config.rank, width, bias=False)
        nn.init.zeros_(up.weight)
        self.adapter = nn.Sequential(down, up).to(self.map.linear.weight)

    def mapped(self, new: Float[Tensor, "*b d"]) -> Float[Tensor, "*b e"]:
        """Return unit vectors of the new model as unit vectors of the old space."""
        return self.map(new if self.adapter is None else new + self.adapter(new))

    @torch.no_grad()
    def merged(self) -> MapAcross:
        """Return one map that computes the same, with the adapter multiplied into its first layers."""
        merged = deepcopy(self.map).requires_grad_(False).eval()
        if self.adapter is not None:
            change = self.adapter(torch.eye(merged.linear.in_features)).T
            for layer in (merged.linear, *([merged.mlp[0]] if merged.mlp is not None else [])):
                assert isinstance(layer, nn.Linear)
                layer.weight += layer.weight @ change
        return merged

    def forward(self, batch: Twins | ImageText) -> dict[str, Tensor]:
        """Return the loss of stage 1 or, for images with texts, of stage 2; and the mean cosine of what should agree."""
        if isinstance(batch, ImageText):
            wanted = self.map(batch.text).detach()
            cosine = F.cosine_similarity(self.mapped(batch.text), wanted).mean()
            return {
                "loss": info_nce(self.mapped(batch.image), wanted, self.scale) + 1 - cosine,
                "cosine": cosine.detach(),
            }
        noise = self.config.noise * batch.new.shape[-1] ** -0.5 * torch.randn_like(batch.new)
        result = self.mapped(unit(batch.new + noise) if self.training else batch.new)
        cosine = F.cosine_similarity(result, batch.old).mean()
        return {"loss": info_nce(result, batch.old, self.scale) + 1 - cosine, "cosine": cosine.detach()}

    @classmethod
    def tiny(cls) -> tuple["XBT", Twins]:
        """Return a task of a few hundred parameters and a batch for it."""
        new, old = unit(torch.randn(8, 6)), unit(torch.randn(8, 4))
        return cls(cls.Config(hidden=8, noise=0.0, steps=4, batch=4, rank=2), 6, 4), Twins(new=new, old=old)


def learn(groups: Sequence[Group], config: XBT.Config | None = None, *, seed: int = 0) -> XBT:
    """Learn a map in stage 1. It begins with the least-squares solution, and the best step on held-out pairs is kept.

    Args:
        groups: vectors of the same things by both models, a group for texts and perhaps one for images; every group
            has a batch in each step.
        config: how.
        seed: of the batches.

    Raises:
        PerceptError: a group has fewer than four pairs, or the numbers of vectors differ.
    """
    config = config or XBT.Config()
    if not groups or any(len(new) != len(old) or len(new) < 4 for new, old in groups):
        raise PerceptError("a map is learned from matching vectors. Give at least four pairs of each kind.")
    generator = torch.Generator().manual_seed(seed)
    learned, checked = zip(*(_divided(group, generator) for group in groups), strict=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task = XBT(config, groups[0][0].shape[1], groups[0][1].shape[1])
        start = least_squares(torch.cat([each.new for each in learned]), torch.cat([each.old for each in learned]))
        task.map.linear.weight.data.copy_(start)
        _fit(task, learned, checked, generator, "learning the map")
    return task.eval().requires_grad_(False)


def adapt(task: XBT, image: Float[Tensor, "n d"], text: Float[Tensor, "n d"], *, seed: int = 0) -> XBT:
    """Learn the adapter of stage 2 from matching images and texts of the new model alone; return the same task.

    Raises:
        PerceptError: fewer than four pairs.
    """
    if len(image) != len(text) or len(image) < 4:
        raise PerceptError(f"{len(image)} images and {len(text)} texts are not enough pairs. Give at least four.")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(image), generator=generator)
    pairs, held = ImageText(image=image[order], text=text[order]), max(2, round(CHECKED * len(image)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task.adapt()
        _fit(task, [pairs.rows(slice(held, None))], [pairs.first(held)], generator, "adapting the map to images")
    return task.eval().requires_grad_(False)


def _divided(group: Group, generator: torch.Generator) -> tuple[Twins, Twins]:
    """Return the pairs to learn from, and those that are held out."""
    order = torch.randperm(len(group[0]), generator=generator)
    pairs, held = Twins(new=group[0][order], old=group[1][order]), max(2, round(CHECKED * len(order)))
    return pairs.rows(slice(held, None)), pairs.first(held)


def _fit(task: XBT, learned: Sequence[Batch], checked: Sequence[Batch], generator: torch.Generator, name: str) -> None:
    """Train what is not frozen, and keep the state with the least loss on the pairs held out, the first state included."""
    config = task.config
    trained = [each for each in task.parameters() if each.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.01)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    best, state = _loss(task, checked), _copy(task)
    batches = [_batches(each, config.batch, generator) for each in learned]
    for step in track(range(config.steps), name, config.steps):
        task.train()
        loss = torch.stack([task(next(each))["loss"] for each in batches]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
        if (step + 1) % EVERY == 0 and (now := _loss(task, checked)) < best:
            best, state = now, _copy(task)
    task.load_state_dict(state)


def _batches(pairs: Batch, size: int, generator: torch.Generator) -> Iterator[Batch]:
    while True:
        chosen = torch.randperm(len(pairs), generator=generator)[:size]
        yield type(pairs)(**{name: value[chosen] for name, value in pairs.tensors().items()})


@torch.no_grad()
def _loss(task: XBT, checked: Sequence[Batch]) -> float:
    task.eval()
    return float(sum(task(each)["loss"] for each in checked))


def _copy(task: XBT) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in task.state_dict().items()}


def learned(groups: Sequence[Group]) -> MapAcross:
    """Return a map learned in stage 1 with the default configuration, as `percept.search.upgrade.upgrade` asks for it."""
    return learn(groups).merged()
