"""Models whose answers are known."""

from collections.abc import Callable, Sequence

from percept.core.errors import PerceptError
from percept.data.chat.conversation import Conversation
from percept.eval.vlm.item import text_of


class Setting:
    device, dtype = "cpu", "torch.float32"


class Scripted:
    """A `Generates` that answers by a function of the text of the prompt, and remembers what it was asked."""

    name = "scripted"
    setting = Setting()

    def __init__(self, answer: Callable[[str], str], bad: str = "\x00") -> None:
        self.answer, self.bad = answer, bad
        self.batches: list[list[Conversation]] = []
        self.most: set[int] = set()

    def answers(
        self, prompts: Sequence[Conversation], /, *, max_new_tokens: int = 256, stop: Sequence[str] = ()
    ) -> list[str]:
        self.batches.append(list(prompts))
        self.most.add(max_new_tokens)
        for prompt in prompts:
            if self.bad in text_of(prompt):
                raise PerceptError("cup.jpg cannot be read: it is empty")
        return [self.answer(text_of(prompt)) for prompt in prompts]

    def scores(self, prompt: Conversation, choices: Sequence[str], /) -> list[float]:
        best = self.answer(text_of(prompt))
        return [-1.0 if choice == best else -2.0 - place for place, choice in enumerate(choices)]
