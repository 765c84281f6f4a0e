"""Refusals in the json form of the OpenAI API."""

from typing import Any

KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
"""Status: type of the error; other statuses below 500 are `invalid_request_error`."""
RETRY_SECONDS = 2
"""Seconds after which a client may try again."""


class ApiError(Exception):
    """A request that is refused.

    Args:
        status: HTTP status.
        message: the fault and its remedy.
        param: field of the request.
        code: short name of the reason, for programs.
    """

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code

    @property
    def body(self) -> dict[str, Any]:
        """The json of the response."""
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        retry = {"retry-after": str(RETRY_SECONDS)} if self.status in (429, 503) else {}
        close = {"connection": "close"} if self.status == 408 else {}
        return retry | close | ({"www-authenticate": "Bearer"} if self.status == 401 else {})


def busy(what: str) -> ApiError:
    """Return the refusal of a request for which there is no room now."""
    return ApiError(429, f"The server is busy: {what}. Try again in a few seconds.", code="server_busy")
