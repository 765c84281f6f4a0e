"""Deep prompts: learned tokens in front of several blocks of both towers, coupled by linear layers or free.

Khattak et al. 2023, arXiv:2210.03117 (MaPLe), sections 3.2 and 3.3; reference: muzairkhattak/multimodal-prompt-learning,
clip/model.py. With M tokens P_i for each of the first J blocks,

    text:   [start, P_1, name, ".", end] enters block 1; before block i the M tokens are replaced by P_i
    image:  [class, Q_1, patches] enters block 1; before block i the M tokens are replaced by Q_i
    coupled: Q_i = A_i P_i + a_i        free: Q_i is learned

The first tokens of the image pass the norm before block 1, as those of the reference do. Differs from it: the tokens of the image
stand behind the class token and not behind the patches, which changes nothing, as they have no position; a pooling head does not see
them. Towers of different depths get as many pairs as the shallower one has blocks within the depth. While they are trained, the
towers compute in bfloat16 where the machine is fast in it; the reference uses float16.
"""

from collections.abc import Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from percept.core.errors import PerceptError, unknown_name
from percept.core.machine import mixed_precision
from percept.methods.adaptation.contract import Adaptation, Views
from percept.methods.adaptation.prompts import PHRASE, PromptConfig, SoftPrompt
from percept.methods.adaptation.texts import TEMPLATE, Base
from percept.models.clip import CLIP, unit
from percept.models.text import PREFIX, TextOut, TextTower
from percept.models.towers import ImageTower, VisionOut

PAPER_LAYERS = 12
"""Blocks of the towers of the literature; a depth is scaled to the blocks that a tower has."""
Towers = Literal["coupled", "free", "text", "image"]


@dataclass(frozen=True, kw_only=True)
class DeepConfig:
    """Learned tokens of several blocks; the defaults are those of MaPLe (section 4.1 and its code)."""

    prompt: PromptConfig = field(default_factory=lambda: PromptConfig(context=2, phrase=PHRASE, leftover_words=True))
    """Tokens of the first block of the text tower; `init_std` and `context` hold for all blocks."""
    depth: int = 9
    """Blocks with tokens of their own in a tower of twelve [J]; scaled to the blocks that there are."""
    towers: Towers = "coupled"
    """coupled: tokens of the image tower are linear functions of those of the text tower; free: both are learned; text or image: of one tower."""

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= PAPER_LAYERS:
            raise PerceptError(f"depth must be from 1 to {PAPER_LAYERS}, got {self.depth}. It is scaled to the tower.")
        if self.towers not in get_args(Towers):
            raise unknown_name("towers", str(self.towers), get_args(Towers))
        if self.prompt.position != "end" or self.prompt.per_class:
            raise PerceptError("deep prompts stand before the name and are shared by all classes. Use position='end'.")


def spread(first: int, last: int, layers: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the blocks, counted from 0, of each tower that get tokens: as many in each, evenly spaced.

    Args:
        first: first layer in a tower of twelve, counted from 1.
        last: last layer, included.
        layers: blocks of each tower.

    >>> spread(1, 9, (12, 12))[0] == tuple(range(9)), spread(6, 12, (12,))
    (True, [(5, 6, 7, 8, 9, 10, 11)])
    >>> spread(1, 9, (4, 6))
    [(0, 1, 2), (0, 1, 2)]
    """
    spans = []
    for count in layers:
        start = min(count - 1, round((first - 1) * count / PAPER_LAYERS))
        spans.append((start, max(start + 1, round(last * count / PAPER_LAYERS)) - start))
    pairs = min(length for _, length in spans)
    return [tuple(start + pair * length // pairs for pair in range(pairs)) for start, length in spans]


def without_inserted(tokens: Float[Tensor, "b n w"], count: int, prefix: int = PREFIX) -> Float[Tensor, "b k w"]:
    """Return tokens of a tower without the `count` inserted ones that follow its prefix."""
    return torch.cat([tokens[:, :prefix], tokens[:, prefix + count :]], dim=1)


def copies(layer: nn.Linear, count: int) -> nn.ModuleList:
    """Return layers of equal first values, as the code of the MaPLe family makes them."""
    return nn.ModuleList(deepcopy(layer) for _ in range(count))


class DeepPrompts(nn.Module):
    """The learned tokens of both towers."""

    def __init__(self, config: DeepConfig, base: Base, names: Sequence[str]) -> None:
        """Make the tokens; call `use` before the first text."""
        super().__init__()
        self.config, self.count = config, config.prompt.context
        widths = base.text.config.width, base.clip.vision.config.width
        self.text_blocks, self.image_blocks = spread(
            1, config.depth, (base.text.config.layers, base.clip.vision.config.layers)
        )
        pairs = len(self.text_blocks)
        self.prompt = None if config.towers == "image" else SoftPrompt(config.prompt, base, names)
        self.text = nn.ParameterList() if config.towers == "image" else self._random(pairs - 1, widths[0])
        self.image = self._random(pairs, widths[1]) if config.towers in ("free", "image") else nn.ParameterList()
        self.couple = copies(nn.Linear(*widths), pairs if config.towers == "coupled" else 0)
        start = torch.zeros(0) if self.prompt is None else self.prompt.context.detach().clone()
        self.register_buffer("start", start, persistent=False)

    start: Tensor
    """First values of the tokens of the text: the words of the template, if the prompt starts from them."""

    def _random(self, count: int, width: int) -> nn.ParameterList:
        deviation = self.config.prompt.init_std
        return nn.ParameterList(nn.Parameter(torch.randn(self.count, width) * deviation) for _ in range(count))

    @staticmethod
    def sizes(config: DeepConfig, base: Base) -> dict[str, int]:
        """Return the number of values of every parameter, for `Adaptation.declared`."""
        text, image = base.text.config.width, base.clip.vision.config.width
        pairs = len(spread(1, config.depth, (base.text.config.layers, base.clip.vision.config.layers))[0])
        count, sizes = config.prompt.context, {}
        if config.towers != "image":
            sizes |= {"prompt.context": count * text} | {f"text.{pair}": count * text for pair in range(pairs - 1)}
        if config.towers == "coupled":
            sizes |= {f"couple.{pair}.weight": text * image for pair in range(pairs)}
            sizes |= {f"couple.{pair}.bias": image for pair in range(pairs)}
        if config.towers in ("free", "image"):
            sizes |= {f"image.{pair}": count * image for pair in range(pairs)}
        return sizes

    def use(self, names: Sequence[str]) -> None:
        """Rebuild what depends on the class names."""
        if self.prompt is not None:
            self.prompt.use(names)

    def text_tokens(self) -> list[Float[Tensor, "m w"]]:
        """Return the tokens of each block of the text tower that has some; none if only the image tower has."""
        return [] if self.prompt is None else [self.prompt.context, *self.text]

    def image_tokens(self) -> list[Float[Tensor, "m w"]]:
        """Return the tokens of each block of the image tower that has some."""
        if self.config.towers == "coupled":
            return [layer(tokens) for layer, tokens in zip(self.couple, self.text_tokens(), strict=True)]
        return list(self.image)

    def run_text(
        self,
        tower: TextTower,
        tokens: Sequence[Float[Tensor, "... m w"]] | None = None,
        *,
        layers: Collection[int] = (),
    ) -> TextOut:
        """Run the text tower on the prompt of every class.

        The tower inserts tokens after it has added positions. So the first ones get theirs here, and the positions of the words behind
        them are shifted.

        Args:
            tower: its embeddings are those of the fixed words.
            tokens: used in place of the learned ones; of the first blocks with tokens, the rest keep them.
            layers: blocks whose output to return.
        """
        assert self.prompt is not None
        tokens = self.text_tokens() if tokens is None else tokens
        words, place, count = tower.embedding(self.prompt.ids), tower.positions, self.count
        length = words.shape[1]
        shifted = words[:, PREFIX + count :] + place[PREFIX + count : length] - place[PREFIX : length - count]
        extra = dict(zip(self.text_blocks, tokens, strict=False))
        extra[0] = tokens[0] + place[PREFIX : PREFIX + count]
        with mixed_precision(words.device, enabled=self.training):
            return tower(
                embeddings=torch.cat([words[:, :PREFIX], shifted], dim=1),
                ends=self.prompt.ends - count,
                extra=extra,
                layers=layers,
            )

    def run_image(
        self, tower: ImageTower, image: Float[Tensor, "b 3 y x"], *, layers: Collection[int] = ()
    ) -> VisionOut:
        """Run the image tower with its tokens; they are not pooled."""
        tokens = self.image_tokens()
        if not tokens:
            return tower(image, layers=layers)
        extra = dict(zip(self.image_blocks, tokens, strict=True))
        extra[0] = tower.norm_pre(extra[0])
        with mixed_precision(image.device, enabled=self.training):
            out = tower(image, extra=extra, layers=layers, pool=False)
            prefix = out.prefix - self.count
            own = without_inserted(out.tokens, self.count, prefix)
            return replace(out, tokens=own, prefix=prefix, pooled=tower.pooled(own, prefix))


class DeepPrompted(Adaptation):
    """A method with the deep prompts `config.prompts`; it may change the vectors before they are scaled to length 1."""

    reads = "images"

    def __init__(self, config: Any, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        self.prompts = DeepPrompts(config.prompts, base, self.names)
        self.use(names)

    def on_classes(self) -> None:
        """Rebuild the layout of the prompts."""
        self.prompts.use(self.names)

    def declared(self) -> dict[str, int]:
        """Return the tokens of every block and the layers that couple them."""
        sizes = DeepPrompts.sizes(self.config.prompts, self.base)
        return {f"prompts.{name}": size for name, size in sizes.items()}

    @property
    def towers(self) -> CLIP:
        """The towers that read the prompts."""
        return self.clip

    def text_features(self) -> Float[Tensor, "c d"]:
        """Return the projected vectors of the prompts; those of the template if the text tower has no prompts."""
        if self.prompts.prompt is None:
            return self.hand_vectors()
        assert self.towers.text is not None
        return self.prompts.run_text(self.towers.text).pooled

    def image_features(self, image: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b d"]:
        """Return the projected vectors of images."""
        pooled = self.prompts.run_image(self.towers.vision, image).pooled
        assert pooled is not None
        return pooled

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the unit vectors of the classes."""
        return unit(self.text_features())

    def image_vectors(self, batch: Views) -> Float[Tensor, "b d"]:
        """Return the unit vectors of the images."""
        assert batch.image is not None
        return unit(self.image_features(batch.image))

    @classmethod
    def tiny_config(cls) -> Any:
        """Return two random tokens."""
        return cls.Config(prompts=DeepConfig(prompt=PromptConfig(context=2)))  # type: ignore[attr-defined]


def words_only() -> DeepConfig:
    """Return prompts that equal the hand-written template before they are trained: its words, in the first block of the text tower."""
    return DeepConfig(prompt=DeepConfig().prompt, depth=1, towers="text")
