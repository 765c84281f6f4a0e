"""Files and thumbnails of pieces. A file is sent only if its content is the one that was indexed."""

import asyncio
import hashlib
import mimetypes
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from urllib.parse import quote

from percept.data.magic import image_format
from percept.search.store import Piece, Store
from percept.search.thumbnails import SIZE, frame_at, jpeg, thumbnail
from percept.serve.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

T = TypeVar("T")

BLOCK = 1 << 20
"""Bytes of a file that are read at once."""
VERIFIED, FRAMES = 16_384, 512
"""Files whose content was verified, and frames of videos, that are remembered."""
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
TYPES = {"PNM": "image/x-portable-anymap", "QOI": "application/octet-stream"}
"""Content type of image formats whose name does not say it."""
HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "private, no-cache",
}


class _Recent(Generic[T]):
    """The last values, by key, for several threads."""

    def __init__(self, most: int) -> None:
        self._values: OrderedDict[Any, T] = OrderedDict()
        self._most, self._lock = most, Lock()

    def get(self, key: object, make: Callable[[], T]) -> T:
        """Return the value of a key, which `make` computes if it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value


@dataclass(frozen=True)
class OpenedFile:
    """An open file of the index."""

    file: FileIO
    path: Path
    size: int
    hash: str

    @property
    def type(self) -> str:
        """Its content type."""
        form = image_format(os.pread(self.file.fileno(), 300, 0))
        if form is not None:
            return TYPES.get(form, f"image/{form.lower()}")
        guess = mimetypes.guess_type(self.path.name)[0] or ""
        return guess if guess.startswith("video/") else "application/octet-stream"


class Media:
    """Thumbnails and files of an index, by the numbers of pieces; a path never comes from a client."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hashes: _Recent[str] = _Recent(VERIFIED)
        self._frames: _Recent[bytes | None] = _Recent(FRAMES)

    def piece(self, number: int) -> Piece:
        """Return a piece.

        Raises:
            ApiError: there is none with this number.
        """
        found = self._store.pieces([number])
        if not found or not found[0].paths:
            raise ApiError(404, f"The index has no piece {number}. Search again.", code="not_in_index")
        return found[0]

    def open(self, piece: Piece) -> OpenedFile:
        """Open the first file of a piece whose content is the one that was indexed.

        Raises:
            ApiError: the files are gone, or have changed.
        """
        present = False
        for path in piece.paths:
            file = _opened(path)
            if file is None:
                continue
            present = True
            state = os.fstat(file.fileno())
            key = state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
            if self._hashes.get(key, lambda file=file: _hash(file)) == piece.hash:
                return OpenedFile(file=file, path=path, size=state.st_size, hash=piece.hash)
            file.close()
        if present:
            raise ApiError(410, "The file has changed since it was indexed. Run percept index again.", code="changed")
        raise ApiError(410, "The file no longer exists. Run percept index again.", code="gone")

    def thumbnail(self, piece: Piece) -> bytes:
        """Return a JPEG image: of a video the middle of the span, else what the index keeps.

        Raises:
            ApiError: there is none.
        """
        if piece.start is not None and piece.stop is not None:
            frame = self._frames.get((piece.id, piece.hash), lambda: self._frame(piece))
            if frame is not None:
                return frame
        kept = self._store.thumbnail(piece.content)
        if kept is None:
            kept = self._frames.get((piece.id, piece.hash, "whole"), lambda: self._reduced(piece))
        if kept is None:
            raise ApiError(404, "There is no thumbnail, and the file cannot be read.", code="no_thumbnail")
        return kept

    def _frame(self, piece: Piece) -> bytes | None:
        assert piece.start is not None
        assert piece.stop is not None
        path = self._path(piece)
        image = None if path is None else frame_at(path, (piece.start + piece.stop) / 2, SIZE)
        return None if image is None else jpeg(image)

    def _reduced(self, piece: Piece) -> bytes | None:
        path = self._path(piece)
        image = None if path is None else thumbnail(path, SIZE)
        return None if image is None else jpeg(image)

    def _path(self, piece: Piece) -> Path | None:
        try:
            opened = self.open(piece)
        except ApiError:
            return None
        opened.file.close()
        return opened.path


def _opened(path: Path) -> FileIO | None:
    """Open a regular file; None if it is something else, such as a pipe, or cannot be opened."""
    try:
        file = FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except (OSError, ValueError):
        return None
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    return None


def _hash(file: FileIO) -> str:
    """Return the `percept.core.io.content_hash` of an open file."""
    return hashlib.file_digest(cast("Any", file), lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first and the last byte, excluded, that a Range header asks for; None for the whole file.

    >>> byte_range("bytes=2-4", 10), byte_range("bytes=7-", 10), byte_range("bytes=-3", 10), byte_range(None, 10)
    ((2, 5), (7, 10), (7, 10), None)

    Raises:
        ApiError: the range is outside the file.
    """
    match = RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None  # as the standard permits, also for several ranges
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        raise ApiError(416, f"The range {match[0]} is outside the file of {size} bytes.", code="range")
    return start, stop


class FileResponse:
    """Sends an open file, or the range that was asked for, in blocks; closes it at the end.

    Args:
        opened: the file.
    """

    def __init__(self, opened: OpenedFile) -> None:
        self._opened = opened

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request."""
        from starlette.requests import Request

        request = Request(scope, receive)
        try:
            await self._send(request, send)
        finally:
            self._opened.file.close()

    async def _send(self, request: "Request", send: "Send") -> None:
        """Send head and blocks. A file that is cut short meanwhile ends the connection before the announced length."""
        from starlette.responses import JSONResponse

        opened, tag = self._opened, f'"{self._opened.hash}"'
        headers = HEADERS | {"etag": tag, "accept-ranges": "bytes", "content-type": opened.type}
        if request.headers.get("if-none-match") == tag:
            await _begin(send, 304, headers, more=False)
            return
        asked = None if request.headers.get("if-range", tag) != tag else request.headers.get("range")
        try:
            part = byte_range(asked, opened.size)
        except ApiError as error:
            response = JSONResponse(error.body, error.status, {"content-range": f"bytes */{opened.size}"})
            await response(request.scope, request.receive, send)
            return
        start, stop = part or (0, opened.size)
        name = quote(os.fsencode(opened.path.name))
        headers |= {"content-length": str(stop - start), "content-disposition": f"inline; filename*=UTF-8''{name}"}
        if part is not None:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{opened.size}"
        await _begin(send, 200 if part is None else 206, headers, more=True)
        while request.method != "HEAD" and start < stop and not await request.is_disconnected():
            block = await asyncio.to_thread(os.pread, opened.file.fileno(), min(BLOCK, stop - start), start)
            if not block:
                return
            start += len(block)
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _begin(send: "Send", status: int, headers: dict[str, str], *, more: bool) -> None:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    if not more:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
