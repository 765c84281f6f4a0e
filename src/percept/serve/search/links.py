"""Addresses of thumbnails and files. On a server with a token they carry a key, because a browser cannot add the token."""

import hmac
import os
import re
import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from percept.search.store import Piece
from percept.serve.search.assets import PAGE

if TYPE_CHECKING:
    from starlette.types import Scope

MEDIA = re.compile(r"/v1/(thumbnails|files)/([0-9]{1,18})")
"""Kind of the address, and number of the piece."""
OPEN_PATHS = (*PAGE, "/openapi.json")
"""Paths that need no token: they are the same for every index."""


class Links:
    """Makes addresses and checks their keys.

    Args:
        signed: addresses need a key. It is valid for one address until the server stops.
    """

    def __init__(self, *, signed: bool) -> None:
        self._secret = secrets.token_bytes(32) if signed else None

    def thumbnail(self, piece: Piece) -> str:
        """Return the address of the thumbnail of a piece."""
        return self._address("thumbnails", piece)

    def file(self, piece: Piece) -> str:
        """Return the address of the file of a piece."""
        return self._address("files", piece)

    def is_open(self, scope: "Scope") -> bool:
        """True if a request needs no token: the page itself, and addresses with their key."""
        if scope["path"] in OPEN_PATHS:
            return True
        match = MEDIA.fullmatch(scope["path"])
        if match is None or self._secret is None:
            return False
        given = parse_qs(scope["query_string"].decode("latin-1")).get("key", [""])[-1]
        return hmac.compare_digest(given.encode(), self._key(scope["path"]).encode())

    def _address(self, kind: str, piece: Piece) -> str:
        path = f"/v1/{kind}/{piece.id}"
        key = f"&key={self._key(path)}" if self._secret is not None else ""
        return f"{path}?v={piece.hash[:8]}{key}"  # v: a browser never shows what it kept of another index

    def _key(self, path: str) -> str:
        assert self._secret is not None
        return hmac.digest(self._secret, os.fsencode(path), "sha256").hex()[:32]
