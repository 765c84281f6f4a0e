"""Soft prompts: learned token embeddings around class names, read by a frozen text tower.

Zhou et al. 2022, arXiv:2109.01134, section 3.2; reference: KaiyangZhou/CoOp, trainers/coop.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.methods.adaptation.contract import Adaptation
from percept.methods.adaptation.texts import TEMPLATE, Base, Layout, lay_out
from percept.models.clip import unit
from percept.models.text import TextTower

PHRASE = "a photo of a"
FEW_SHARED = 128
"""Tokens that are saved by computing equal beginnings of prompts once, below which that is not faster."""


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """Learned tokens of a prompt."""

    context: int = 16
    """Learned tokens [M]."""
    phrase: str = ""
    """Words whose embeddings the tokens start from; random if empty."""
    position: Literal["end", "middle", "front"] | int = "end"
    """Where the class name is: end: after the learned tokens; middle: between two halves; front: before them; a number: after so many of them."""
    per_class: bool = False
    """One context for each class instead of one for all; such a prompt knows no other classes."""
    init_std: float = 0.02
    """Standard deviation of a random start."""
    leftover_words: bool = False
    """Keep the words of a longer phrase as fixed tokens after the learned ones, as code of the MaPLe family does."""

    def __post_init__(self) -> None:
        if self.context < 1 or self.init_std <= 0:
            raise PerceptError(
                f"context must be at least 1 and init_std above 0, got {self.context} and {self.init_std}."
            )
        if self.position not in ("end", "middle", "front", *range(self.context + 1)):
            raise PerceptError(f"position must be end, middle, front or at most {self.context}, got {self.position!r}.")


class SoftPrompt(nn.Module):
    """Learned tokens around class names. What depends on the names is rebuilt by `use` and never stored."""

    ids: Tensor
    place: Tensor
    ends: Tensor

    def __init__(self, config: PromptConfig, base: Base, names: Sequence[str]) -> None:
        """Make the learned tokens; call `use` before the first prompt.

        Args:
            names: of the classes that `per_class` makes contexts for.

        Raises:
            PerceptError: the phrase has fewer tokens than the context.
        """
        super().__init__()
        self.config, self._tokenizer = config, base.tokenizer
        self._trained = tuple(names) if config.per_class else ()
        self.shared = 0
        """First tokens that are equal in all prompts, learned ones included."""
        start = self._start(base)
        if config.per_class:
            start = (
                start.expand(len(names), -1, -1).clone()
                if config.phrase
                else torch.randn(len(names), *start.shape) * config.init_std
            )
        self.context = nn.Parameter(start.float())
        for name in ("ids", "place", "ends"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64), persistent=False)

    def _start(self, base: Base) -> Float[Tensor, "m w"]:
        """Return the first values of one context; remembers the fixed words that are left over."""
        config, weight = self.config, base.text.embedding.weight
        words = base.tokenizer.encode(config.phrase) if config.phrase else []
        if config.phrase and len(words) < config.context:
            raise PerceptError(
                f"{config.phrase!r} has {len(words)} tokens, fewer than the {config.context} of the context. Use context={len(words)}, or a "
                "longer phrase."
            )
        self._leftover = words[config.context :] if config.leftover_words else []
        if not words:
            return torch.randn(config.context, weight.shape[1]) * config.init_std
        return weight[torch.tensor(words[: config.context], device=weight.device)].detach().clone()

    def use(self, names: Sequence[str], texts: Sequence[str] = ()) -> None:
        """Rebuild what depends on the class names.

        Args:
            names: of the classes.
            texts: stand in place of the names: equally many for each class, those of the first class first.

        Raises:
            PerceptError: the context is per class and the names are not those it was made for, or a name is too long.
        """
        if self.config.per_class and tuple(names) != self._trained:
            raise PerceptError(
                "this prompt has one context for each class, so it knows only the classes that it was trained on: "
                f"{', '.join(self._trained[:4])}. Use per_class=False for other classes."
            )
        config = self.config
        layout = lay_out(
            self._tokenizer, texts or names, count=config.context, before=config.phrase or "a", leftover=self._leftover, position=config.position
        )  # fmt: skip
        self.shared = _shared(layout, per_class=config.per_class)
        device = self.context.device
        self.ids, self.place, self.ends = (each.to(device) for each in (layout.ids, layout.place, layout.ends))

    def embeddings(self, text: TextTower, context: Float[Tensor, "*b m w"] | None = None) -> Float[Tensor, "*b c n w"]:
        """Return the token embeddings of every class, or of every text of every class.

        Args:
            text: the tower whose embeddings the fixed tokens have.
            context: used in place of the learned tokens: [m, w] for all classes, [c, m, w] with `per_class`, or [b, m, w]
                for b different contexts of all classes.
        """
        context = self.context if context is None else context
        fixed, learned = text.embedding(self.ids), self.place.clamp(min=0)
        if self.config.per_class:
            context = context.repeat_interleave(len(learned) // len(context), dim=0)
            rows = context.gather(1, learned[..., None].expand(-1, -1, context.shape[-1]))
        else:
            rows = context[..., learned, :]
        return torch.where((self.place >= 0)[..., None], rows.to(fixed.dtype), fixed)

    def vectors(self, text: TextTower, context: Float[Tensor, "*b m w"] | None = None) -> Float[Tensor, "*b c d"]:
        """Return the unit vectors of the prompts, in float32."""
        embeddings = self.embeddings(text, context)
        ahead, ends = embeddings.shape[:-3], self.ends
        if ahead:
            ends = ends.expand(*ahead, -1).flatten()
        flat, starts = embeddings.reshape(-1, *embeddings.shape[-2:]), math.prod(ahead)
        saved = self.shared * (len(flat) - starts)
        pooled = text(
            embeddings=flat, ends=ends, shared=self.shared if saved >= FEW_SHARED else 0, starts=starts
        ).pooled
        return unit(pooled).reshape(*ahead, -1, pooled.shape[-1])

    @property
    def count(self) -> int:
        """Number of learned values."""
        return cast(Tensor, self.context).numel()


def _shared(layout: Layout, *, per_class: bool) -> int:
    """Return the number of first tokens that all prompts have, learned ones included unless each class has its own; the end is never one."""
    same = (layout.ids == layout.ids[:1]).all(dim=0) & (layout.place == layout.place[:1]).all(dim=0)
    if per_class:
        same &= layout.place[0] < 0
    return min(int(same.cumprod(dim=0).sum()), int(layout.ends.min()))


class Prompted(Adaptation):
    """A method whose class vectors are those of the soft prompt `config.prompt`."""

    def __init__(self, config: Any, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        self.other_classes = not config.prompt.per_class
        self.prompt = SoftPrompt(config.prompt, base, self.names)
        self.use(names)

    def on_classes(self) -> None:
        """Rebuild the layout of the prompts."""
        self.prompt.use(self.names)

    def declared(self) -> dict[str, int]:
        """Return the context: M · width values, times the classes for a context per class."""
        chosen = self.config.prompt
        copies = len(self.names) if chosen.per_class else 1
        return {"prompt.context": copies * chosen.context * self.base.text.config.width}

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the unit vectors of the prompts."""
        return self.prompt.vectors(self.base.text)

    def neutral_twin(self) -> "Prompted | None":
        """Return the method with the words of the template as its context."""
        words = PromptConfig(context=len(self.base.tokenizer.encode(PHRASE)), phrase=PHRASE)
        return type(self)(replace(self.config, prompt=words), self.base, self.names)

    @classmethod
    def tiny_config(cls) -> Any:
        """Return a short random context, which is not at the template."""
        return cls.Config(prompt=PromptConfig(context=4))  # type: ignore[attr-defined]
