"""An index of coloured images and a video, and the search API over it."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from percept.search.build import build
from percept.search.contracts import ImageEncoder
from percept.search.store import Root, Store
from percept.serve.guard import State
from percept.serve.search.app import search_app
from percept.serve.server import Server, bound
from tests.search.fakes import COLOURS, ColourEncoder, picture

ORIGIN = "http://localhost"


def indexed(folder: Path, encoder: ImageEncoder | None = None, *, video: bool = True) -> Store:
    """Make an index of a red, a reddish, a green and a blue image, a copy, and a video that is green, then red."""
    encoder = encoder or ColourEncoder()
    pictures = folder / "pictures"
    picture(pictures / "red.png", "red", (40, 20))
    picture(pictures / "again" / "red copy.png", "red", (40, 20))
    picture(pictures / "reddish.png", (250, 6, 6), (30, 30))
    picture(pictures / "green.png", "green", (20, 50))
    picture(pictures / "blue <b>&.png", "blue")
    if video:
        clip(pictures / "clip.mp4", "green", "red")
    store = Store.create(folder / "index", encoder)
    build(store, encoder, [Root(path=pictures)])
    return store


def clip(path: Path, *colours: str, seconds: int = 4, rate: int = 4) -> Path:
    """Write a video of one colour after the other."""
    import av

    with av.open(path, "w") as out:
        stream: Any = out.add_stream("h264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for colour in colours:
            pixels = np.full((48, 64, 3), COLOURS[colour], np.uint8)
            for _ in range(seconds * rate):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    return path


@contextmanager
def client(store: Store, encoder: ImageEncoder | None = None, **options: Any) -> Iterator[TestClient]:
    """A client within the process."""
    app = search_app(store, encoder or ColourEncoder(), **options)
    with TestClient(app, base_url=ORIGIN) as made:
        yield made


@contextmanager
def served(store: Store, encoder: ImageEncoder | None = None, *, token: str | None = None) -> Iterator[str]:
    """A server in a thread; yields its address."""
    state = State()
    listening = bound("127.0.0.1", 0)
    server = Server(search_app(store, encoder or ColourEncoder(), token=token, state=state), state, stop_seconds=10.0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.stop()
        thread.join(timeout=60)
        listening.close()
        assert not thread.is_alive()


def search(made: TestClient, **fields: Any) -> dict[str, Any]:
    """Search, and return the answer."""
    response = made.post("/v1/search", json=fields)
    assert response.status_code == 200, response.text
    return response.json()


def names(answer: dict[str, Any]) -> list[str]:
    return [hit["name"] for hit in answer["hits"]]


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def file_of(colour: str, folder: Path, size: tuple[int, int] = (16, 16)) -> bytes:
    """The bytes of an image that is in no index."""
    path = folder / f"query-{colour}.png"
    Image.new("RGB", size, COLOURS[colour]).save(path)
    return path.read_bytes()
