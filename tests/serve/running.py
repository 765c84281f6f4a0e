"""A server in a thread, with a tiny random model, and the real `openai` client."""

import base64
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
from PIL import Image

from percept.infer.assistant import Assistant
from percept.serve.chat.app import chat_app
from percept.serve.guard import State
from percept.serve.limits import Limits
from percept.serve.server import Server, bound


class Running:
    """A server that can be stopped, and clients for it."""

    def __init__(self, assistant: Assistant, *, limits: Limits | None = None, **options: Any) -> None:
        self.assistant, self.state = assistant, State()
        self.token = options.get("token")
        self._clients: list[openai.OpenAI] = []
        self._socket = bound("127.0.0.1", 0)
        self.port = self._socket.getsockname()[1]
        app = chat_app(assistant, limits=limits, state=self.state, **options)
        self.server = Server(app, self.state, stop_seconds=30.0)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self._socket]})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> openai.OpenAI:
        key = options.pop("api_key", self.token or "none")
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60, **options)
        self._clients.append(client)
        return client

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        self.server.stop()
        self.thread.join(timeout=60)
        assert not self.thread.is_alive()


@contextmanager
def running(assistant: Assistant, **options: Any) -> Iterator[Running]:
    server = Running(assistant, **options)
    try:
        yield server
    finally:
        server.stop()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def picture_part(image: Image.Image) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": uri(png(image))}}


def user(*parts: Any) -> dict[str, Any]:
    """A message of texts and images."""
    listed = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"role": "user", "content": listed}
