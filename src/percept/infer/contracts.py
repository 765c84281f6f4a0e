"""What evaluation, search and methods ask of a model: three small contracts.

An `Encoder` is an `Embeds`; a trained classifier is a `Classifies`; an assistant is a `Generates`. Images are whatever
`Encoder.image` takes: paths, bytes, PIL images, uint8 arrays [y, x, 3] and uint8 tensors [3, y, x].
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from percept.data.chat.conversation import Conversation
from percept.infer.identity import Identity


@runtime_checkable
class Embeds(Protocol):
    """A model that maps images and texts to unit vectors of one space."""

    @property
    def identity(self) -> Identity:
        """Which model computes the vectors, and their length."""
        ...

    def image(self, images: Any, /) -> Float[Tensor, "n d"]:
        """Return one unit vector per image."""
        ...

    def text(self, texts: Any, /) -> Float[Tensor, "n d"]:
        """Return one unit vector per text."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """A model with a fixed list of classes."""

    def class_logits(self, images: Any, /) -> Float[Tensor, "n c"]:
        """Return one logit per image and class."""
        ...


if TYPE_CHECKING:
    Prompt: TypeAlias = Conversation
else:
    Prompt = Any  # wrong types reach the checks of `percept.infer.asking`, whose messages are written for users
"""A conversation whose last turn is the user's; `percept.data.chat.conversation.converse` makes one."""


@runtime_checkable
class Generates(Protocol):
    """A model that answers in words, and says how likely given answers are."""

    def answers(
        self, prompts: Sequence[Prompt], /, *, max_new_tokens: int = 256, stop: Sequence[str] = ()
    ) -> list[str]:
        """Return the most likely answer to each prompt.

        Args:
            max_new_tokens: most tokens of an answer.
            stop: texts before which an answer ends.

        Raises:
            PerceptError: an image or video cannot be read, or a prompt does not fit the context.
        """
        ...

    def scores(self, prompt: Prompt, choices: Sequence[str], /) -> list[float]:
        """Return the log-likelihood of each choice as the complete answer, in nats."""
        ...
