"""A conversation with an assistant, turn by turn."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Unpack

from percept.core.errors import PerceptError
from percept.data.chat.conversation import Conversation, Media, Turn
from percept.infer.answers import Options
from percept.infer.asking import check_question, check_system, media_of

if TYPE_CHECKING:
    from percept.infer.assistant import Assistant


class Chat:
    """Turns so far, and the images and videos that they refer to.

    Args:
        assistant: answers.
        images: see `Assistant.ask`; they come before the first question.
        system: system sentence in place of that of the model.
    """

    def __init__(self, assistant: "Assistant", images: Any = None, *, system: str | None = None) -> None:
        check_system(system)
        self._assistant = assistant
        self._waiting = media_of(images)
        self.media: tuple[Media, ...] = ()
        self.turns: tuple[Turn, ...] = () if system is None else (Turn(role="system", parts=(system,)),)

    @property
    def conversation(self) -> Conversation:
        """The conversation so far."""
        return Conversation(turns=self.turns, media=self.media)

    def ask(self, question: str, images: Any = None, *, stream: bool = False, **options: Unpack[Options]) -> Any:
        """Answer the next question, and add both to the conversation, which stays as it is if there is no answer.

        Args:
            images: further images or videos, which come before the question.
            stream: return an iterator of pieces of text; the turns are added when it ends or is closed.
            options: see `Assistant.ask`.

        Raises:
            PerceptError: see `Assistant.ask`, or several samples are asked for.
        """
        if options.get("samples") is not None:
            raise PerceptError("samples was given, but a conversation goes on with one answer. Leave it out.")
        new = (*self._waiting, *media_of(images))
        check_question(question, new)
        numbers = range(len(self.media), len(self.media) + len(new))
        turn = Turn(role="user", parts=(*numbers, *([question] if question else [])))
        prompt = Conversation(turns=(*self.turns, turn), media=(*self.media, *new))
        pieces = self._assistant.reply(prompt, stream=True, **options)
        told = self._told(prompt, pieces)
        return told if stream else "".join(told)

    def _told(self, prompt: Conversation, pieces: Iterator[str]) -> Iterator[str]:
        said: list[str] = []
        ended = False
        try:
            for piece in pieces:
                said.append(piece)
                yield piece
            ended = True
        finally:
            if said or ended:  # an answer that was interrupted counts as far as it went
                answer = Turn(role="assistant", parts=("".join(said),))
                self.turns, self.media, self._waiting = (*prompt.turns, answer), prompt.media, ()
