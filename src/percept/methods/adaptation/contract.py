"""What an adaptation method is: declared trainable parameters, named losses, hooks, a classifier for any class names, and a fold.

A method subclasses `Adaptation` in one file and says only what is new. docs/adapting.md describes the contract with an example.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.data.batch import Batch
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.methods.adaptation.texts import TEMPLATE, Base, base_of, check_names, filled, text_vectors
from percept.models.clip import CLIP, unit
from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.optim.rules import Rules

M = TypeVar("M", bound="Adaptation")
TINY_NAMES = ("red cup", "cup", "old book")


@dataclass(frozen=True, kw_only=True, eq=False)
class Views(Batch):
    """Labelled images as a method sees them."""

    label: Int[Tensor, " b"]
    """Number of the class among the names of the method; 0 where it is not known."""
    vector: Float[Tensor, "b d"]
    """Unit vectors of the frozen image tower [f⁰]; NaN outside of training for methods with `reads = "images"`."""
    row: Int[Tensor, " b"]
    """Number of the image among the shots; 0 outside of training."""
    image: Float[Tensor, "b 3 y x"] | None = None
    """Preprocessed images; only for methods with `reads = "images"`."""
    other_vector: Float[Tensor, "b d"] | None = None
    """Unit vectors of a second, independent view; only for methods with `second_view`."""
    other_image: Float[Tensor, "b 3 y x"] | None = None
    """The second view; only for methods with `second_view` and `reads = "images"`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shots:
    """Everything that a method may read while it is trained: nothing of other classes, nothing of the test."""

    names: tuple[str, ...]
    """Classes that are trained on."""
    template: str
    """Hand-written text of a class of this data set, with {} for its name."""
    label: Int[Tensor, " n"]
    keys: tuple[str, ...]
    """Identify the images; their hash is part of the record of a run."""
    vectors: Float[Tensor, "v n d"]
    """Unit vectors of the frozen image tower: view 0 is the whole image, the others are random crops."""
    pixels: Callable[[Sequence[int], int | None], Float[Tensor, "b 3 y x"]] | None = None
    """Returns preprocessed images of some rows: of the whole image, or with a seed of a random crop."""
    sentences: tuple[tuple[str, ...], ...] = ()
    """Several sentences about each class, if the data set has some."""

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True, kw_only=True)
class Training:
    """Optimisation of a method; the defaults are those of the prompt-learning family (KaiyangZhou/CoOp and Dassl)."""

    epochs: int = 50
    batch: int = 32
    """Images of a step; a last batch with fewer is left out, unless it is the only one."""
    rate: float = 2e-3
    optimiser: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 5e-4
    warmup: int = 1
    """Epochs at the constant rate `warmup_rate`, before the cosine."""
    warmup_rate: float = 1e-5
    crops: bool = True
    """Train on random crops; otherwise on whole images."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.epochs < 0 or self.batch < 1 or not self.rate > 0:
            raise PerceptError(
                f"epochs must be at least 0, batch at least 1 and rate above 0, got {self.epochs}, {self.batch} and {self.rate}."
            )


class Adaptation(nn.Module):
    """A method on a frozen dual encoder. Subclasses have a nested frozen `Config` and override what they change."""

    base_parts: ClassVar[tuple[str, ...]] = ("clip",)
    reads: Literal["vectors", "images"] = "vectors"
    """vectors: the image tower is not changed, so its vectors are computed once; images: the method runs it itself."""
    second_view: bool = False
    """Whether batches hold a second view of every image."""
    other_classes: bool = True
    """False for a method that knows only the classes it was trained on."""
    leaks: tuple[str, ...] = ()
    """What the method reads on purpose besides the shots, such as the names of new classes; written into every record."""
    rules: Rules = ()
    """Learning rates and decays by parameter, as `percept.optim.rules` takes them."""
    zero_at_first: tuple[str, ...] = ()
    """Parameters that the first gradient does not reach, because a factor starts at zero."""
    shown: ClassVar[tuple[str, ...]] = ()

    epochs: int = 0
    """Epochs of the training, set by the trainer before the first hook."""
    seed: int = 0
    """Seed of the training, set by the trainer before the first hook."""
    config: Any
    names: tuple[str, ...]

    def __init__(self, config: Any, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        """Freeze the base and remember the classes; a subclass makes its modules, then calls `use(names)`."""
        super().__init__()
        self.config, self.clip, self.template = config, base.clip.requires_grad_(False), template
        self._base = base
        self._constants: dict[str, Tensor] = {}
        self.names = check_names(names)

    # what a subclass defines

    def declared(self) -> dict[str, int]:
        """Return the exact names of the trainable parameters, and how many values each has."""
        raise NotImplementedError

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the unit vectors of the classes in use."""
        raise NotImplementedError

    def logits(self, batch: Views) -> Float[Tensor, "b c"]:
        """Return class logits: scaled cosines of image and class vectors."""
        return self.clip.scale() * self.image_vectors(batch) @ self.classes().T

    def image_vectors(self, batch: Views) -> Float[Tensor, "b d"]:
        """Return unit vectors of the images: those of the frozen tower, or those of `clip` for methods with `reads = "images"`."""
        if self.reads == "vectors":
            return batch.vector.float()
        assert batch.image is not None
        return unit(self.clip.encode_image(batch.image))

    def losses(self, batch: Views) -> dict[str, Tensor]:
        """Return the named losses, already weighted; the trainer minimises their sum."""
        return {"cross_entropy": F.cross_entropy(self.logits(batch), batch.label)}

    def on_classes(self) -> None:
        """Rebuild what depends on `names`; called by `use`."""

    # hooks of the trainer

    def prepare(self, shots: Shots) -> None:
        """Read the shots before training: fill a cache, compute teachers."""

    def after_backward(self) -> None:
        """Change gradients; called after the backward pass."""

    def after_step(self, step: int) -> None:
        """Change parameters after an optimiser step, such as a proximal step."""

    def on_epoch(self, epoch: int) -> None:
        """Change a schedule; called before every epoch."""

    def finish(self) -> None:
        """Change weights after the last step, such as averaging or merging them."""

    def fold(self) -> None:
        """Remove what only training needs; the logits must not change."""

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return the optimisation that the paper uses for this number of shots."""
        return Training()

    @classmethod
    def recipe_of(cls, config: Any, shots: int) -> Training:
        """Return the optimisation with a configuration; it does not depend on it, unless the method trains a different one."""
        return cls.recipe(shots)

    # shared

    @property
    def base(self) -> Base:
        """The frozen towers and the tokenizer; `clip` is the same model, unless the method replaces it by a copy that it changes."""
        return self._base

    def use(self: M, names: Sequence[str], template: str | None = None) -> M:
        """Make the method classify among `names`, with the hand-written text of their data set if `template` is given.

        Raises:
            PerceptError: a method that knows only the classes it was trained on, or names that cannot be used.
        """
        self.names, self.template = check_names(names), template or self.template
        self._constants.clear()
        self.on_classes()
        return self

    def classes(self) -> Float[Tensor, "c d"]:
        """Return `class_vectors()`; outside of training they are computed once for each list of names."""
        if self.training or torch.is_grad_enabled():
            return self.class_vectors()
        return self.constant("classes", self.class_vectors)

    @torch.no_grad()
    def constant(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """Return what does not change while the method is in one mode and has the same names; computed when first asked for."""
        if name not in self._constants:
            self._constants[name] = compute()
        return self._constants[name]

    def train(self: M, mode: bool = True) -> M:
        """Set the mode of what is trained; the frozen towers stay in evaluation mode."""
        super().train(mode)
        self.clip.eval()
        self._constants.clear()
        return self

    def hand_vectors(self) -> Float[Tensor, "c d"]:
        """Return the class vectors of the frozen model with the template of the data set [w⁰]."""
        return self.constant("hand", lambda: text_vectors(self.base, filled(self.template, self.names)))

    def own_vectors(self) -> Float[Tensor, "c d"]:
        """Return the class vectors of the template by the method's own text tower, for methods that leave it as it is."""
        own = replace(self.base, clip=self.clip)
        return self.constant("own", lambda: text_vectors(own, filled(self.template, self.names)))

    def forward(self, batch: Views) -> dict[str, Tensor]:
        """Return the sum of the losses, and each of them."""
        losses = self.losses(batch)
        return {
            "loss": torch.stack(list(losses.values())).sum(),
            **{name: value.detach() for name, value in losses.items()},
        }

    def class_logits(self, image: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c"]:
        """Return the logits of preprocessed images."""
        nothing = torch.zeros(len(image), dtype=torch.int64, device=image.device)
        if self.reads == "images":
            vector = torch.full((len(image), self.base.text.config.output_dim), torch.nan, device=image.device)
            return self.logits(Views(label=nothing, vector=vector, row=nothing, image=image))
        return self.logits(Views(label=nothing, vector=unit(self.clip.encode_image(image)), row=nothing))

    def trainable(self) -> dict[str, int]:
        """Return the trainable parameters that the module has, by name, and how many values each has."""
        return {name: each.numel() for name, each in self.named_parameters() if each.requires_grad}

    def check_trainable(self) -> None:
        """Raise an AssertionError if the trainable parameters are not the declared ones."""
        assert self.trainable() == self.declared(), f"declared {self.declared()}, found {self.trainable()}"

    @classmethod
    def from_encoder(cls: type[M], config: Any, encoder: Any, names: Sequence[str], template: str = TEMPLATE) -> M:
        """Build the method on an encoder, on its device."""
        base = base_of(encoder)
        with torch.device(base.text.positions.device):
            return cls(config, base, names, template)

    def neutral_twin(self) -> "Adaptation | None":
        """Return an untrained copy that must equal the frozen model with `TEMPLATE`; None if the method has no such start."""
        return None

    @classmethod
    def tiny_config(cls) -> Any:
        """Return the configuration of `tiny`."""
        return cls.Config()  # type: ignore[attr-defined]

    @classmethod
    def tiny(cls: type[M]) -> tuple[M, Views]:
        """Return a method of a few thousand parameters and a batch for it."""
        base = tiny_base()
        method = cls(cls.tiny_config(), base, TINY_NAMES)
        image, label = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 1])
        with torch.no_grad():
            vectors = base.clip.embed_image(image)
        method.prepare(tiny_shots(vectors, label, image))
        other = {"other_image": image.flip(-1), "other_vector": vectors.flip(0)} if cls.second_view else {}
        shown = image if cls.reads == "images" else None
        return method, Views(label=label, vector=vectors, row=torch.arange(4), image=shown, **other)


def tiny_base() -> Base:
    """Return towers of a few thousand random parameters with a tokenizer."""
    tokenizer = Tokenizer.train(["a photo of a red cup.", "an old book"], vocab_size=290, context=32)
    vision = VisionConfig(image_size=16, patch_size=8, width=16, layers=3, heads=2, pool_heads=1, output_dim=12)
    text = TextConfig(context=32, vocabulary=tokenizer.vocab_size, width=16, layers=3, heads=2, output_dim=12)
    clip = CLIP(ClipConfig(vision=vision, text=text)).eval()
    return Base(clip=clip, tokenizer=tokenizer, name="tiny", preprocess=Preprocess(size=16))


def tiny_shots(vectors: Float[Tensor, "n d"], label: Int[Tensor, " n"], image: Float[Tensor, "n 3 y x"]) -> Shots:
    """Return shots of three classes for `Adaptation.tiny`."""
    return Shots(
        names=TINY_NAMES, template=TEMPLATE, label=label, keys=tuple(map(str, range(len(label)))), vectors=vectors[None],
        pixels=lambda rows, seed: image[list(rows)] if seed is None else image[list(rows)].flip(-1),
        sentences=tuple((f"a {name}.", f"a drawing of a {name}.", f"the {name}.") for name in TINY_NAMES),
    )  # fmt: skip
