"""The files of the page, which are the same for every index."""

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
NAMES = ("index.html", "page.css", "page.js", "api.js", "results.js", "viewer.js", "icon.svg")
PAGE = {"/" if name == "index.html" else f"/page/{name}": name for name in NAMES}
"""Path: file."""
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}
"""Nothing from elsewhere is loaded, and no script or style runs that is not in a file of the page."""


async def page(request: "Request") -> Any:
    """Return a file of the page."""
    from starlette.responses import Response

    name = PAGE[request.url.path]
    return Response(_content(name), headers=HEADERS, media_type=TYPES[name.rpartition(".")[2]])


@lru_cache
def _content(name: str) -> bytes:
    return files("percept.serve.search").joinpath("page", name).read_bytes()
