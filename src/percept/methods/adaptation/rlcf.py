"""RLCF: at test time a reward model judges what a model proposes for one image, and the model follows; then it is reset.

Zhao et al. 2024, "Test-Time Adaptation with CLIP Reward for Zero-Shot Generalization in Vision-Language Models", ICLR 2024. Reference:
mzhaoshuai/RLCF. From V views of an image, the share with the least entropy is kept. Of each kept view the K likeliest answers a are
judged by a frozen reward model R:

    r(a) = max(0, 2.5 cos(R(view), R(a))),    A(a) = r(a) - mean over the K answers of the view
    loss = mean of A(a) · -log p(a | view)

The answers are classes, items of a gallery (`Query`), or captions that a language model samples (`captioned`). A few steps of AdamW change a
prompt, an image tower, a query tower or a projector; the answer is given on the whole image, and everything starts again for the next one.

Differs from it: views are random crops, some mirrored, without AugMix. The rivals of the paper are objectives of the same loop: `entropy` is
TPT (Shu et al. 2022, arXiv:2209.07511), which minimises the entropy of the mean prediction of the kept views; `distil` minimises
KL(softmax(s cos_R) ‖ p). `random` is RLCF with random rewards, which must not help.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.augment.recipe import Augment, augmented
from percept.data.batch import Batch
from percept.data.images import ImageSource
from percept.data.transforms import Preprocess, read_pixels
from percept.methods.adaptation.contract import TINY_NAMES, tiny_base
from percept.methods.adaptation.prompts import PHRASE, PromptConfig, SoftPrompt
from percept.methods.adaptation.texts import TEMPLATE, Base, filled, text_vectors
from percept.models.clip import unit

OBJECTIVES = ("reward", "entropy", "distil", "random")


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample(Batch):
    """One image or query in several views, with what the reward model says of every answer."""

    view: Tensor
    """What the policy reads, one row per view; row 0 is the whole image."""
    cosine: Float[Tensor, "v c"]
    """Cosines of each view and each answer by the reward model."""


class Prompt(nn.Module):
    """A policy that classifies with learned context words before class names; the towers stay frozen. It reads image vectors."""

    def __init__(self, base: Base, names: Sequence[str], phrase: str = PHRASE) -> None:
        """Start at the words of a phrase, "a photo of a" in the paper."""
        super().__init__()
        self._base = base
        count = len(base.tokenizer.encode(phrase))
        self.prompt = SoftPrompt(PromptConfig(context=count, phrase=phrase), base, names)
        self.prompt.use(names)

    def forward(self, view: Float[Tensor, "v d"]) -> Float[Tensor, "v c"]:
        """Return class logits of unit image vectors."""
        return self._base.clip.scale() * view.float() @ self.prompt.vectors(self._base.text).T


class Image(nn.Module):
    """A policy that classifies with a trained image tower; the class vectors stay. It reads preprocessed images."""

    def __init__(self, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__()
        self.clip = base.copied().clip.requires_grad_(False)
        self.clip.get_submodule("vision").requires_grad_(True)
        self.classes: Tensor
        self.register_buffer("classes", text_vectors(base, filled(template, names)))

    def forward(self, view: Float[Tensor, "v 3 y x"]) -> Float[Tensor, "v c"]:
        """Return class logits."""
        return self.clip.scale() * unit(self.clip.encode_image(view)) @ self.classes.T


class Query(nn.Module):
    """A policy that searches: the tower of the queries is trained, the vectors of the gallery stay."""

    def __init__(self, base: Base, gallery: Float[Tensor, "c d"], side: Literal["text", "image"]) -> None:
        """Copy the towers.

        Args:
            gallery: unit vectors of the items by the policy's model.
            side: what the queries are; views are token ids [v, n] or preprocessed images.
        """
        super().__init__()
        self.clip, self.side = base.copied().clip.requires_grad_(False), side
        self.clip.get_submodule("text" if side == "text" else "vision").requires_grad_(True)
        self.gallery: Tensor
        self.register_buffer("gallery", gallery.float())

    def forward(self, view: Tensor) -> Float[Tensor, "v c"]:
        """Return scaled cosines of the queries and the items."""
        encode = self.clip.encode_text if self.side == "text" else self.clip.encode_image
        return self.clip.scale() * unit(encode(view)) @ self.gallery.T


class RLCF(nn.Module):
    """A policy with the loop that adapts it to one sample."""

    shown = ("reward",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Defaults are those of prompts for classification; see `images`, `queries` and `captions` for the others."""

        objective: str = "reward"
        """What a step minimises, a name of `OBJECTIVES`: the method, its rivals TPT and distillation, and a check with random rewards."""
        answers: int = 3
        """Likeliest answers of a view that are judged [K]."""
        kept: float = 0.1
        """Share of the views with the least entropy that take part; chosen once, before the first step."""
        steps: int = 3
        """Steps for each sample; 5 on fine-grained sets."""
        rate: float = 7e-3
        """Learning rate of AdamW."""
        weight_decay: float = 5e-4
        """Of AdamW."""
        factor: float = 2.5
        """Multiplies the cosines of the reward model."""
        over_all: bool = False
        """Subtract the mean over all views and answers instead of that of each view."""

        def __post_init__(self) -> None:
            if self.objective not in OBJECTIVES:
                raise PerceptError(f"objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}.")
            if self.answers < 2:
                raise PerceptError(
                    f"answers={self.answers} leaves no advantage: the mean reward is subtracted. Use at least 2."
                )
            if self.steps < 0 or not 0 < self.kept <= 1 or self.rate <= 0:
                raise PerceptError(
                    f"steps={self.steps}, kept={self.kept} and rate={self.rate}: steps must be at least 0, kept above 0 and at most 1, and rate "
                    "positive."
                )

        @classmethod
        def images(cls, **changes: Any) -> "RLCF.Config":
            """Return the setting of the paper for a trained image tower."""
            return replace(cls(rate=1e-5), **changes)

        @classmethod
        def queries(cls, side: Literal["text", "image"], **changes: Any) -> "RLCF.Config":
            """Return the setting of the paper for retrieval, by the kind of the queries."""
            return replace(cls(answers=12 if side == "text" else 20, kept=1.0, steps=8, rate=1e-6), **changes)

        @classmethod
        def captions(cls, **changes: Any) -> "RLCF.Config":
            """Return the setting of the paper for captions."""
            return replace(cls(answers=6, kept=1.0, steps=4, rate=5e-6), **changes)

    def __init__(self, config: Config, policy: nn.Module, scale: float = 100.0, seed: int = 0) -> None:
        """Remember where the policy starts.

        Args:
            policy: maps views to logits; its trainable parameters are those that are adapted.
            scale: multiplies the cosines of the reward model in `distil`, as that model does.
            seed: of random rewards.
        """
        super().__init__()
        self.config, self.policy, self.scale, self.seed = config, policy, scale, seed

    def forward(self, batch: Sample) -> dict[str, Tensor]:
        """Return the loss of a step on the kept views, and the mean reward of the answers that were judged."""
        logits = self.policy(batch.view)
        rows = confident(logits.detach(), self.config.kept)
        loss, reward = self._loss(logits[rows], batch.cosine[rows], step=0)
        return {"loss": loss, "reward": reward}

    def adapted(self, sample: Sample) -> Float[Tensor, " c"]:
        """Return the logits of the whole image after adaptation to this sample; the policy is the same as before afterwards."""
        sample = sample.to(next(self.policy.parameters()).device)
        with torch.no_grad():
            rows = confident(self.policy(sample.view), self.config.kept)
        kept = Sample(view=sample.view[rows], cosine=sample.cosine[rows])
        with resetting(self.policy, self.config) as optimiser:
            for step in range(self.config.steps):
                loss, _ = self._loss(self.policy(kept.view), kept.cosine, step)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            with torch.no_grad():
                return self.policy(sample.view[:1])[0]

    def _loss(self, logits: Float[Tensor, "v c"], cosine: Float[Tensor, "v c"], step: int) -> tuple[Tensor, Tensor]:
        """Return the loss and the mean reward."""
        config = self.config
        logits = logits.float()
        answers = logits.detach().topk(min(config.answers, logits.shape[1]), dim=1).indices
        reward = (config.factor * cosine.float()).clamp(min=0).gather(1, answers)
        if config.objective == "entropy":
            return entropy(logits.softmax(dim=1).mean(dim=0)), reward.mean()
        if config.objective == "distil":
            wanted = (self.scale * cosine.float()).softmax(dim=1)
            return F.kl_div(logits.log_softmax(dim=1), wanted, reduction="batchmean"), reward.mean()
        if config.objective == "random":
            dice = torch.Generator().manual_seed(derive(self.seed, "reward", step))
            reward = torch.rand(reward.shape, generator=dice).to(reward)
        surprise = -logits.log_softmax(dim=1).gather(1, answers)
        return reinforced(surprise, reward, over_all=config.over_all), reward.mean()

    @classmethod
    def tiny(cls) -> tuple["RLCF", Sample]:
        """Return a policy of a few thousand parameters and a sample of four views."""
        base = tiny_base()
        image = torch.randn(4, 3, 16, 16)
        task = cls(cls.Config.images(kept=0.5, answers=2), Image(base, TINY_NAMES))
        return task, Sample(view=image, cosine=torch.rand(4, len(TINY_NAMES)) - 0.3)


def reinforced(
    surprise: Float[Tensor, "v k"], reward: Float[Tensor, "v k"], *, over_all: bool = False
) -> Float[Tensor, ""]:
    """Return the loss of REINFORCE: the mean of advantage times negative log-likelihood.

    Args:
        surprise: negative log-likelihoods of the answers.
        reward: of the answers, 0 or more.
        over_all: the baseline is the mean of all rewards instead of that of each row.
    """
    baseline = reward.mean() if over_all else reward.mean(dim=1, keepdim=True)
    return ((reward - baseline).detach() * surprise).mean()


def entropy(shares: Float[Tensor, "*b c"]) -> Float[Tensor, "*b"]:
    """Return the entropy of probabilities in nats."""
    return -torch.xlogy(shares, shares).sum(dim=-1)


def confident(logits: Float[Tensor, "v c"], share: float) -> Int[Tensor, " k"]:
    """Return the rows with the least entropy, at least one, in ascending order of their numbers."""
    uncertain = entropy(logits.float().softmax(dim=1))
    return uncertain.argsort(stable=True)[: max(1, int(len(logits) * share))].sort().values


@contextmanager
def resetting(module: nn.Module, config: RLCF.Config) -> Iterator[torch.optim.Optimizer]:
    """Give a new optimiser for what is trainable in a module, and put all of it back at the end, also after an error."""
    trained = [each for each in module.parameters() if each.requires_grad]
    start = [each.detach().clone() for each in trained]
    try:
        yield torch.optim.AdamW(trained, lr=config.rate, weight_decay=config.weight_decay)
    finally:
        with torch.no_grad():
            for each, value in zip(trained, start, strict=True):
                each.copy_(value)
                each.grad = None


def views_of(
    image: ImageSource, preprocess: Preprocess, count: int, *, least: float = 0.08, seed: int = 0
) -> Float[Tensor, "v 3 y x"]:
    """Return preprocessed views of an image: the whole image, then `count` - 1 random crops, half of them mirrored.

    Args:
        image: as `Encoder.image` takes it.
        preprocess: of the model that reads the views.
        count: number of views; 64 in the paper.
        least: least share of the image in a crop.
        seed: of the crops, which are the same for every model that squashes images.

    Raises:
        PerceptError: the image cannot be read.
    """
    views = [read_pixels(image, preprocess)]
    if count > 1:
        augment = Augment(scale=(least, 1.0), brightness=0.0, saturation=0.0, views=count - 1)
        views += augmented(image, preprocess, augment, derive(seed, "episode")).pixels
    return preprocess.normalise(torch.stack(views))
