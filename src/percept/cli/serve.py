"""`percept serve`: answer questions about images over HTTP, with the chat API of OpenAI."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import tyro

from percept.cli.options import ASSISTANT_LOAD, AssistingNamed
from percept.cli.show import say
from percept.serve.limits import Limits

if TYPE_CHECKING:
    from percept.infer.assistant import Assistant

Limited: TypeAlias = Annotated[Limits, tyro.conf.arg(name="")]
LIMITS = Limits()


def serve(
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    allow_urls: bool = False,
    model: AssistingNamed = ASSISTANT_LOAD,
    limits: Limited = LIMITS,
) -> int:
    """Serve a perception language model with the chat API of OpenAI: /v1/chat/completions, /v1/models and /health.

    Args:
        name: Name such as plm-nano or Perception-LM-1B, a folder, or hf://OWNER/NAME.
        host: Address to listen at; one that other machines can reach needs a token.
        port: Port to listen at; 0 takes a free one.
        token: What requests have to carry as "Authorization: Bearer TOKEN". Default: the environment variable PERCEPT_TOKEN.
        allow_urls: Fetch images by http and https URL, from public addresses only.
    """
    from percept.serve.start import TOKEN_VARIABLE, Access, serve_chat

    access = Access(host=host, port=port, token=token or os.environ.get(TOKEN_VARIABLE) or None)
    serve_chat(
        lambda: model.load(name), access, limits=limits, allow_urls=allow_urls, names=(name, Path(name).name),
        ready=_announce,
    )  # fmt: skip
    say("stopped")
    return 0


def _announce(url: str, assistant: "Assistant") -> None:
    say(f"serving {assistant.name} ({assistant.setting}) at {url}; stop it with Ctrl+C")


COMMAND = serve
