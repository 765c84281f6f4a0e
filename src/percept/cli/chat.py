"""`percept chat`: talk about images in the terminal."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from percept.cli.options import ANSWER, ASSISTANT, Answering, Assisting
from percept.cli.show import say
from percept.core.errors import PerceptError
from percept.core.report import printable_lines

if TYPE_CHECKING:
    from percept.infer.assistant import Assistant
    from percept.infer.chat import Chat

HELP = "/image PATH adds an image or video to the next question, /new begins a new conversation, /help, /quit"


def chat(
    paths: tyro.conf.Positional[tuple[Path, ...]] = (),
    system: str | None = None,
    model: Assisting = ASSISTANT,
    answer: Answering = ANSWER,
) -> int:
    """Talk with a perception language model about images; answers appear as they are generated.

    Args:
        paths: Images and videos that the conversation begins with.
        system: System sentence in place of that of the model.
    """
    options: Any = answer.chosen()
    if answer.samples is not None:
        raise PerceptError("--samples was given, but a conversation goes on with one answer. Leave it out.")
    for path in paths:
        _check(path)
    talk = _Talk(model.open(), list(paths), system, options)
    say(f"{talk.assistant}. {HELP}")
    while (line := _line()) is not None and talk.take(line.strip()):
        pass
    return 0


def _line() -> str | None:
    """Return the next line that is typed, or None at the end."""
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return None


def _typed_path(text: str) -> Path:
    """Return a path as it is, or else as a shell reads it: in quotes, with escaped spaces, or with ~ for the home folder.

    >>> str(_typed_path("'my cat.jpg'")), str(_typed_path("my cat.jpg"))
    ('my cat.jpg', 'my cat.jpg')
    """
    if not os.path.lexists(text):
        try:
            words = shlex.split(text)
        except ValueError:  # an apostrophe
            words = []
        text = os.path.expanduser(words[0] if len(words) == 1 else text)
    return Path(text)


def _check(path: Path) -> None:
    """Open a file, so that one that cannot be read never becomes part of a conversation; a pipe can be read only once."""
    from percept.data.files import is_video
    from percept.data.images import decoded
    from percept.data.inputs import check_file
    from percept.data.video import open_video

    if check_file(path, "image or video") is not None:
        with open_video(path) if is_video(path) else decoded(path):
            pass


class _Talk:
    """The conversation of a terminal."""

    def __init__(self, assistant: "Assistant", images: list[Path], system: str | None, options: Any) -> None:
        self.assistant = assistant
        self.system = system
        self.options = options
        self.chat: Chat = assistant.chat(images or None, system=system)
        self.waiting: list[Path] = []

    def take(self, line: str) -> bool:
        """Act on a line; return False for the last one."""
        command, _, rest = line.partition(" ")
        if command in ("/quit", "/exit"):
            return False
        if command == "/new":
            self.chat, self.waiting = self.assistant.chat(None, system=self.system), []
            say("a new conversation")
        elif command == "/image":
            self._add(rest.strip())
        elif command.startswith("/"):
            say(HELP)
        elif line:
            self._answer(line)
        return True

    def _add(self, text: str) -> None:
        path = _typed_path(text)
        try:
            if not text:
                raise PerceptError("no path follows /image. Write for example: /image cat.jpg")
            _check(path)
        except PerceptError as error:
            say(str(error))
        else:
            self.waiting.append(path)
            say(f"{path} goes with the next question")

    def _answer(self, question: str) -> None:
        """Print the answer. A mistake is printed, and Ctrl-C ends the answer; the conversation goes on."""
        try:
            pieces = self.chat.ask(question, self.waiting or None, stream=True, **self.options)
            for piece in pieces:
                print(printable_lines(piece), end="", flush=True)
            self.waiting = []
            print()
        except PerceptError as error:
            say(str(error))
        except KeyboardInterrupt:
            self.waiting = []
            print()
            say("interrupted")


COMMAND = chat
