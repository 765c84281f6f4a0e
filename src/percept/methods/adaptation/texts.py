"""Texts of classes as a frozen text tower reads them, and the words around a class name that a template gives."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.models.clip import CLIP, unit
from percept.models.text import TextTower

TEMPLATE = "a photo of a {}."
"""The template of most data sets in the literature."""
SELECTED = (
    "itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.", "a {} in a video game.", "art of the {}.",
    "a photo of the small {}.",
)  # fmt: skip
"""Seven templates that the literature selects for ensembles; OpenAI CLIP, notebooks/Prompt_Engineering_for_ImageNet.ipynb."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """What a method adapts: a pair of towers and the tokenizer of its texts."""

    clip: CLIP
    tokenizer: Tokenizer
    name: str = "model"
    preprocess: Preprocess | None = None
    """How images are prepared, for methods that read images of their own."""

    def __post_init__(self) -> None:
        if self.clip.text is None:
            raise PerceptError(
                f"{self.name} has no text tower, so class names cannot be read. Use nano or a PE-Core model."
            )

    @property
    def text(self) -> TextTower:
        """The text tower."""
        assert self.clip.text is not None
        return self.clip.text

    def copied(self) -> "Base":
        """Return a base with a copy of the towers made of plain layers, for methods that change weights."""
        clip = CLIP(self.clip.config)
        clip.load_state_dict(self.clip.state_dict())
        like = next(self.clip.parameters())
        return replace(self, clip=clip.to(like.device, like.dtype).eval())


def base_of(encoder: object) -> Base:
    """Return the towers and the tokenizer of an encoder.

    Raises:
        PerceptError: it has no text tower or no tokenizer.
    """
    tokenizer, name = getattr(encoder, "tokenizer", None), getattr(encoder, "name", "model")
    clip: CLIP = encoder.model  # type: ignore[attr-defined]
    if clip.text is not None and tokenizer is None:
        raise PerceptError(f"{name} has no tokenizer, so class names cannot be read. Give one with tokenizer=.")
    return Base(clip=clip, tokenizer=tokenizer, name=name, preprocess=getattr(encoder, "preprocess", None))  # type: ignore[arg-type]


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return class names with spaces for _, without surrounding whitespace.

    Raises:
        PerceptError: there are none, one is empty, or two are equal.
    """
    cleaned = tuple(name.replace("_", " ").strip() for name in names)
    if not cleaned or not all(cleaned):
        raise PerceptError("class names must not be empty. Give every class a name.")
    lower = [name.lower() for name in cleaned]  # text towers read lower case
    if len(set(lower)) < len(lower):
        twice = next(name for name in lower if lower.count(name) > 1)
        raise PerceptError(f"two classes are called {twice!r}. Give them names that differ in more than capitals.")
    return cleaned


def filled(template: str, names: Sequence[str]) -> list[str]:
    """Return the template with each name in it, literally: the words around the name are the same for every class.

    >>> filled("a photo of a {}.", ["owl"])
    ['a photo of a owl.']
    """
    return [template.replace("{}", name) for name in names]


def token_ids(base: Base, texts: Sequence[str]) -> Int[Tensor, "n m"]:
    """Return the token ids of texts, padded to the longest.

    Raises:
        PerceptError: a text is longer than the context.
    """
    for text in texts:
        if (tokens := len(base.tokenizer.encode(text)) + 2) > base.tokenizer.context:
            raise PerceptError(
                f"the text {text[:60]!r} has {tokens} tokens, more than the {base.tokenizer.context} that the model reads. Use a shorter class name."
            )
    ids = base.tokenizer(list(texts)).to(base.text.positions.device)
    return ids[:, : int(ids.argmax(dim=1).max()) + 1]


@torch.no_grad()
def text_vectors(base: Base, texts: Sequence[str]) -> Float[Tensor, "n d"]:
    """Return the unit vectors that the frozen text tower gives to texts, in float32.

    Raises:
        PerceptError: a text is longer than the context.
    """
    return torch.cat([base.clip.embed_text(row) for row in token_ids(base, texts).split(256)])


def averaged_vectors(base: Base, names: Sequence[str], templates: Sequence[str]) -> Float[Tensor, "c d"]:
    """Return one unit vector per class: the normalised mean of the unit vectors of its texts."""
    vectors = torch.stack([text_vectors(base, filled(template, names)) for template in templates])
    return unit(vectors.mean(dim=0))


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Token ids of one class name with what stands around it, without start and end."""

    name: tuple[int, ...]
    stop: tuple[int, ...]
    """The full stop."""


def pieces_of(tokenizer: Tokenizer, name: str, before: str) -> Pieces:
    """Return the ids that a name and a full stop have after the words `before`, so that a prompt with them equals the tokenised text."""
    ahead = tokenizer.encode(before)
    named, whole = tokenizer.encode(f"{before} {name}"), tokenizer.encode(f"{before} {name}.")
    if named[: len(ahead)] != ahead or whole[: len(named)] != named:
        raise PerceptError(
            f"the tokenizer joins the class name {name!r} with the words around it. Choose a different name."
        )
    return Pieces(name=tuple(named[len(ahead) :]), stop=tuple(whole[len(named) :]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """Where the learned tokens of a prompt stand, class by class; padded to the longest class."""

    ids: Int[Tensor, "c n"]
    """Ids of the fixed tokens; 0 in place of learned ones and after the end."""
    place: Int[Tensor, "c n"]
    """Number of the learned token at each position; -1 for a fixed one."""
    ends: Int[Tensor, " c"]
    """Position of the end token."""
    lengths: tuple[int, ...] = field(default=())
    """Tokens of each name."""


def lay_out(
    tokenizer: Tokenizer,
    names: Sequence[str],
    *,
    count: int,
    before: str = "a",
    leftover: Sequence[int] = (),
    position: str | int = "end",
) -> Layout:
    """Arrange start, `count` learned tokens, the class name, a full stop and the end.

    Args:
        before: words that stand before the name when it is tokenised.
        leftover: ids of fixed words after the learned tokens.
        position: end: all learned tokens before the name; middle: half of them after it; front: all after it; a number: so many
            before it.

    Raises:
        PerceptError: a name and the learned tokens do not fit the context of the tokenizer.
    """
    split = position if isinstance(position, int) else {"end": count, "middle": count // 2, "front": 0}[position]
    rows, places, lengths = [], [], []
    for name in names:
        pieces = pieces_of(tokenizer, name, before)
        first, second = list(range(split)), list(range(split, count))
        body = [*[0] * split, *leftover, *pieces.name, *[0] * len(second), *pieces.stop]
        place = [*first, *[-1] * (len(leftover) + len(pieces.name)), *second, *[-1] * len(pieces.stop)]
        if len(body) + 2 > tokenizer.context:
            room = tokenizer.context - 2 - (len(body) - len(pieces.name))
            raise PerceptError(
                f"the class name {name[:60]!r} has {len(pieces.name)} tokens, but {count} learned tokens leave room for {max(0, room)} in a text of "
                f"{tokenizer.context}. Use a shorter name or fewer learned tokens."
            )
        rows.append([tokenizer.start_id, *body, tokenizer.end_id])
        places.append([-1, *place, -1])
        lengths.append(len(pieces.name))
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    place = torch.tensor([row + [-1] * (longest - len(row)) for row in places])
    return Layout(ids=ids, place=place, ends=torch.tensor([len(row) - 1 for row in rows]), lengths=tuple(lengths))
