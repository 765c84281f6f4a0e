"""What a continual method is: towers that it changes, a loss on the current task, and what it does before and after a task."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.batch import SHARED, Batch, ImageText
from percept.data.tokenizers import Tokenizer
from percept.methods.adaptation.contract import TINY_NAMES, Shots, tiny_base
from percept.methods.adaptation.few import Seen
from percept.methods.adaptation.texts import TEMPLATE, Base, base_of, filled
from percept.models.clip import CLIP, unit
from percept.optim.rules import Rules

M = TypeVar("M", bound="Continual")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Optimisation of a task with AdamW; the defaults are those of ZSCL, which most later work follows."""

    steps: int = 1_001
    batch: int = 64
    rate: float = 1e-5
    warmup: int = 100
    """Steps in which the rate grows to `rate`; then half a cosine."""
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    crops: bool = True
    """Train on random crops; otherwise on whole images."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.steps < 0 or self.batch < 1 or not self.rate > 0 or self.warmup < 0:
            raise PerceptError(
                f"steps={self.steps}, batch={self.batch}, rate={self.rate} and warmup={self.warmup}: batch must be at least 1, rate positive and the "
                "others at least 0."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskBatch(Batch):
    """Labelled images of the current task."""

    image: Float[Tensor, "b 3 y x"]
    label: Int[Tensor, " b"]
    texts: Int[Tensor, "c n"] = field(metadata=SHARED)
    """Token ids of the class texts of the task."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One data set of a sequence. Methods read `shots` and `texts`; what is tested on belongs to the harness."""

    name: str
    shots: Shots
    seen: Seen | None = None
    """The set, for the harness; None for a task that is not measured."""
    drawn: Int[np.ndarray, " k"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def texts(self) -> list[str]:
        """Hand-written texts of the classes."""
        return filled(self.shots.template, self.shots.names)

    def batch(self, rows: Sequence[int], seed: int | None, texts: Int[Tensor, "c n"]) -> TaskBatch:
        """Return training images: whole, or with a seed random crops."""
        assert self.shots.pixels is not None
        return TaskBatch(image=self.shots.pixels(rows, seed), label=self.shots.label[list(rows)], texts=texts)

    @cached_property
    def tested(self) -> tuple[Float[Tensor, "m 3 y x"], Int[Tensor, " m"]]:
        """Images that are measured, preprocessed, with their labels."""
        assert self.seen is not None
        rows = self.seen.data.tested(self.drawn, "all")
        return self.seen.pixels(rows.tolist(), None), torch.from_numpy(self.seen.data.labels[rows])


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """Fields that the configurations of all continual methods share."""

    smoothing: float = 0.2
    """Label smoothing of the cross-entropy over classes; 0.2 in the scripts of ZSCL, of which those for fine-tuning, WiSE-FT and LwF are rivals."""

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise PerceptError(f"smoothing={self.smoothing} is not a share. Use at least 0 and less than 1.")


class Continual(nn.Module):
    """A method on a copy of a dual encoder. Subclasses have a nested frozen `Config(CommonConfig)` and override what they change."""

    shown: ClassVar[tuple[str, ...]] = ()
    rules: ClassVar[Rules] = ()
    reads: ClassVar[tuple[str, ...]] = ()
    """What the method keeps or reads besides the images and names of the current task; printed with every result."""
    step: int
    """Step within the task."""
    steps: int
    """Steps of a task; the harness sets it."""

    config: Any

    def __init__(self, config: Any, base: Base) -> None:
        """Copy the towers; both are trained, the scale of the logits is not."""
        super().__init__()
        self.config, self._base, self.step, self.steps = config, base, 0, type(self).schedule().steps
        self.clip = base.copied().clip
        self.clip.requires_grad_(False)
        for name, parameter in self.clip.named_parameters():
            parameter.requires_grad_(name.startswith(("vision.", "text.")))

    # what a subclass defines

    def losses(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Return the named losses, already weighted; the harness minimises their sum."""
        return {"cross_entropy": self.cross_entropy(self.logits(batch), batch.label)}

    def begin(self, task: Task) -> None:
        """Read the task before its first step: copy teachers, compute prototypes."""

    def after_step(self, step: int) -> None:
        """Change parameters after an optimiser step."""

    def end(self, task: Task) -> None:
        """Change weights after the last step of a task, such as averaging or merging them."""

    def kept(self) -> dict[str, int]:
        """Return the bytes of everything that has to be kept from one task to the next besides the model; class names are not counted."""
        return {}

    @classmethod
    def schedule(cls) -> Schedule:
        """Return the optimisation of the paper."""
        return Schedule()

    # shared

    def cross_entropy(self, logits: Float[Tensor, "b c"], label: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        """Return the cross-entropy over classes with the label smoothing of the configuration."""
        return F.cross_entropy(logits, label, label_smoothing=self.config.smoothing)

    def train(self: M, mode: bool = True) -> M:
        """Set the training mode; parts without trained parameters, such as teachers, stay in evaluation mode."""
        super().train(mode)
        for part in self.children():
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the texts."""
        return self._base.tokenizer

    def tokens(self, texts: Sequence[str]) -> Int[Tensor, "c n"]:
        """Return token ids on the device of the towers."""
        return self.tokenizer(list(texts)).to(next(self.clip.parameters()).device)

    def logits(self, batch: TaskBatch) -> Float[Tensor, "b c"]:
        """Return class logits with gradients to both towers."""
        return self.clip.scale() * self.clip.embed_image(batch.image) @ self.clip.embed_text(batch.texts).T

    def forward(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Return the sum of the losses, and each of them."""
        losses = self.losses(batch)
        return {
            "loss": torch.stack(list(losses.values())).sum(),
            **{name: value.detach() for name, value in losses.items()},
        }

    @classmethod
    def from_encoder(cls: type[M], config: Any, encoder: Any) -> M:
        """Build the method on an encoder."""
        return cls(config, base_of(encoder))

    @classmethod
    def tiny_config(cls) -> Any:
        """Return the configuration of `tiny`."""
        return cls.Config()  # type: ignore[attr-defined]

    @classmethod
    def tiny(cls: type[M]) -> tuple[M, TaskBatch]:
        """Return a method of a few thousand parameters at the beginning of its second task, and a batch."""
        method = cls(cls.tiny_config(), tiny_base())
        first, task = (tiny_task(method, number) for number in range(2))
        method.begin(first)
        method.end(first)
        method.begin(task)
        return method, task.batch(range(4), None, method.tokens(task.texts))


def tiny_task(method: Continual, number: int) -> Task:
    """Return a task of three classes for `Continual.tiny`; the same for every seed, but for the vectors of the tower."""
    image = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(number))
    label = torch.tensor([0, 1, 2, 1])
    with torch.no_grad():
        vectors = method.clip.embed_image(image)
    shots = Shots(
        names=TINY_NAMES[number:] + TINY_NAMES[:number], template=TEMPLATE, label=label, vectors=vectors[None],
        keys=tuple(map(str, range(4))), pixels=lambda rows, seed: image[list(rows)],
    )  # fmt: skip
    return Task(name=f"task {number}", shots=shots)


def bytes_of(*tensors: Tensor) -> int:
    """Return the memory that tensors take.

    >>> bytes_of(torch.zeros(2, 3), torch.zeros(4, dtype=torch.uint8))
    28
    """
    return sum(each.numel() * each.element_size() for each in tensors)


def frozen(clip: CLIP) -> CLIP:
    """Return a copy of towers that is never trained: a teacher."""
    return deepcopy(clip).requires_grad_(False).eval()


@torch.no_grad()
def copy_weights(target: nn.Module, source: nn.Module) -> None:
    """Copy parameters and buffers between modules of the same form."""
    target.load_state_dict(source.state_dict())


def image_vectors(clip: CLIP, pixels: Callable[[Sequence[int]], Tensor], count: int, part: int = 64) -> Float[Tensor, "n d"]:  # fmt: skip
    """Return unit vectors of images that are read part by part."""
    with torch.no_grad():
        return torch.cat(
            [clip.embed_image(pixels(range(start, min(count, start + part)))) for start in range(0, count, part)]
        )


def soft_cross_entropy(
    target: Float[Tensor, "b c"], logits: Float[Tensor, "b c"], temperature: float = 2.0
) -> Float[Tensor, ""]:
    """Return T² · CE(softmax(target / T), logits / T), the mean over rows [ZSCL, equation 3]."""
    shares = (target / temperature).softmax(dim=1)
    return temperature**2 * -(shares * (logits / temperature).log_softmax(dim=1)).sum(dim=1).mean()


def prototypes(vectors: Float[Tensor, "n d"], label: Int[Tensor, " n"], classes: int) -> Float[Tensor, "c d"]:
    """Return the normalised mean of the unit vectors of each class."""
    sums = torch.zeros(classes, vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
    return unit(sums.index_add(0, label, vectors))


def batch_rows(count: int, schedule: Schedule, seed: int, step: int) -> list[int]:
    """Return the rows of a step: epochs in random order, one after the other; a pure function of its arguments."""
    size = min(schedule.batch, count)
    epoch, place = divmod(step, max(1, count // size))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(derive(seed, "epoch", epoch)))
    return order[place * size : (place + 1) * size].tolist()


def drift(clip: nn.Module, reference: nn.Module, importance: nn.Module | None = None) -> Float[Tensor, ""]:
    """Return the sum of the squared differences of the trained weights and those of a module of the same form.

    Args:
        importance: module of the same form whose weights multiply the squares; 1 if None.
    """
    factors = [None] * sum(1 for _ in clip.parameters()) if importance is None else list(importance.parameters())
    squares = [
        (one - other).square() if factor is None else factor * (one - other).square()
        for one, other, factor in zip(clip.parameters(), reference.parameters(), factors, strict=True)
        if one.requires_grad
    ]
    return torch.stack([each.sum() for each in squares]).sum()


@torch.no_grad()
def hold_scale(clip: CLIP) -> None:
    """Keep the scale of the logits at least 1 and at most 100."""
    assert clip.log_scale is not None
    clip.log_scale.clamp_(0, 4.6052)


def tiny_pairs(base: Base) -> ImageText:
    """Return four pairs for the `tiny` of methods on streams of pairs."""
    tokens = base.tokenizer(["a red cup", "an old book", "a photo", "cup"])
    return ImageText(image=torch.randn(4, 3, 16, 16), tokens=tokens)
