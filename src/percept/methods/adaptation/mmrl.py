"""MMRL: tokens of a space that both towers share, in their upper blocks only; new classes are judged by the class feature alone.

Guo and Gu 2025, arXiv:2503.08497, section 3. Reference: yunncheng/MMRL, trainers/mmrl.py and clip/model_mmrl.py. With K tokens R of the shared
space,

    text:   T_i(R) follow the start token of the template before blocks 6 to 12; w is read at its end token
    image:  V_i(R) follow the class token before blocks 6 to 12
    f = P pool(x without the tokens),  f_r = P_r mean_K(x of the tokens);  P frozen, P_r trained
    loss = α CE(s cos(f, w)) + (1 - α) CE(s cos(f_r, w)) + λ (1 - mean cos(f, f⁰)) + λ (1 - mean cos(w, w⁰))
    logits = α s cos(f, w) + (1 - α) s cos(f_r, w) for classes that were trained on, s cos(f, w) for others

f⁰ and w⁰ are vectors of the frozen model of the same crop and the same template. Differs from it: a set of classes with any new one is judged
by the class feature; blocks are scaled to the tower; P is the pooling head of the tower; the reference has a λ for each data set, from 0.01 to 7,
without saying how they were chosen, and ours is the median of these; runs that are measured on other data sets have the settings for base and new
classes too, where the paper trains for 1 epoch of batches of 32 without a warm-up and with λ = 0.2. While they are trained, the towers compute
in bfloat16 where the machine is fast in it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.core.machine import mixed_precision
from percept.methods.adaptation.contract import Adaptation, Shots, Training, Views
from percept.methods.adaptation.deep import copies, spread, without_inserted
from percept.methods.adaptation.texts import TEMPLATE, Base, filled, token_ids
from percept.models.clip import unit


class MMRL(Adaptation):
    """Shared tokens in the upper blocks, and two vectors of every image."""

    reads = "images"
    ids: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Defaults of the reference, except for `regulariser`."""

        tokens: int = 5
        """Tokens of the shared space [K]."""
        width: int = 512
        """Of the shared space [d_r]."""
        layers: tuple[int, int] = (6, 12)
        """First and last layer with tokens in a tower of twelve, counted from 1; scaled to the tower."""
        shared: bool = True
        """One space for both towers; otherwise one for each."""
        share: float = 0.7
        """Of the class feature in losses and logits [α]."""
        regulariser: float = 4.0
        """Weight of the cosines with the frozen model [λ]; a choice of ours, see above."""
        decoupled: bool = True
        """Judge new classes by the class feature alone."""
        init_std: float = 0.02
        """Standard deviation of the first values of the tokens."""
        trained: tuple[str, ...] = field(default=())
        """Classes that were trained on; set from the shots."""

        def __post_init__(self) -> None:
            object.__setattr__(self, "layers", tuple(self.layers))
            object.__setattr__(self, "trained", tuple(self.trained))
            if not 1 <= self.layers[0] <= self.layers[1] <= 12:
                raise PerceptError(f"layers must be two numbers from 1 to 12 in order, got {self.layers}.")

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        text, vision = base.text.config, base.clip.vision.config
        self.text_blocks, self.image_blocks = spread(*config.layers, (text.layers, vision.layers))
        pairs = len(self.text_blocks)
        self.space = nn.ParameterList(
            nn.Parameter(torch.randn(config.tokens, config.width) * config.init_std)
            for _ in range(1 if config.shared else 2)
        )
        self.to_text = copies(nn.Linear(config.width, text.width), pairs)
        self.to_image = copies(nn.Linear(config.width, vision.width), pairs)
        self.projection = nn.Parameter(torch.randn(vision.width, text.output_dim) * vision.width**-0.5)
        self.register_buffer("ids", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.use(names)

    def prepare(self, shots: Shots) -> None:
        """Remember the classes."""
        self.config = replace(self.config, trained=shots.names)

    def on_classes(self) -> None:
        """Rebuild the texts."""
        self.ids = token_ids(self.base, filled(self.template, self.names))

    def declared(self) -> dict[str, int]:
        """Return the tokens, a layer for each block of both towers, and the projection."""
        text, vision, width = self.base.text.config, self.base.clip.vision.config, self.config.width
        sizes = {f"space.{number}": self.config.tokens * width for number in range(1 if self.config.shared else 2)}
        for pair in range(len(self.text_blocks)):
            for name, out in (("to_text", text.width), ("to_image", vision.width)):
                sizes |= {f"{name}.{pair}.weight": width * out, f"{name}.{pair}.bias": out}
        return sizes | {"projection": vision.width * text.output_dim}

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the unit vectors of the template with the tokens in the upper blocks [w]."""
        tokens = [layer(self.space[0]) for layer in self.to_text]
        with mixed_precision(self.ids.device, enabled=self.training):
            out = self.base.text(self.ids, extra=dict(zip(self.text_blocks, tokens, strict=True)))
        return unit(out.pooled)

    def both_vectors(self, image: Float[Tensor, "b 3 y x"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """Return the unit vectors of the class feature and of the tokens [f and f_r]."""
        tower, count = self.clip.vision, self.config.tokens
        tokens = [layer(self.space[-1]) for layer in self.to_image]
        with mixed_precision(image.device, enabled=self.training):
            out = tower(image, extra=dict(zip(self.image_blocks, tokens, strict=True)), pool=False)
            prefix = out.prefix - count
            pooled = tower.pooled(without_inserted(out.tokens, count, prefix), prefix)
        own = out.tokens[:, prefix : out.prefix].mean(dim=1).float() @ self.projection
        return unit(pooled), unit(own)

    def image_vectors(self, batch: Views) -> Float[Tensor, "b d"]:
        """Return the unit vectors of the class feature."""
        assert batch.image is not None
        return self.both_vectors(batch.image)[0]

    @property
    def fused(self) -> bool:
        """Whether the logits of the classes in use contain those of the tokens."""
        return not self.config.decoupled or set(self.names) <= set(self.config.trained)

    @contextmanager
    def all_new(self) -> Iterator[None]:
        """Judge all classes as new ones within this context, as the reference does on other data sets even if their classes are the same."""
        own = self.config
        self.config = replace(own, trained=())
        try:
            yield
        finally:
            self.config = own

    def logits(self, batch: Views) -> Float[Tensor, "b c"]:
        """Return the cosines of the class feature, fused with those of the tokens for classes that were trained on."""
        assert batch.image is not None
        vector, own = self.both_vectors(batch.image)
        share = self.config.share if self.fused else 1.0
        return self.clip.scale() * (share * vector + (1 - share) * own) @ self.classes().T

    def losses(self, batch: Views) -> dict[str, Tensor]:
        """Return both cross-entropies and both regularisers."""
        assert batch.image is not None
        (vector, own), classes, scale = self.both_vectors(batch.image), self.class_vectors(), self.clip.scale()
        with torch.no_grad():
            frozen = unit(self.clip.encode_image(batch.image))
        share, weight = self.config.share, self.config.regulariser
        return {
            "class": share * F.cross_entropy(scale * vector @ classes.T, batch.label),
            "representation": (1 - share) * F.cross_entropy(scale * own @ classes.T, batch.label),
            "image": weight * (1 - (vector * frozen).sum(dim=1).mean()),
            "text": weight * (1 - (classes * self.hand_vectors()).sum(dim=1).mean()),
        }

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return that for base and new classes: 10 epochs of AdamW with rate 0.001 and batches of 4; for few shots the paper has 50 of 32."""
        return Training(epochs=10, batch=4, rate=1e-3, optimiser="adamw")

    @classmethod
    def tiny_config(cls) -> Config:
        """Return two tokens of a small space."""
        return cls.Config(tokens=2, width=8)
