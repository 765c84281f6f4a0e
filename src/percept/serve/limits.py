"""What a server accepts: bounds on requests, so that no client can exhaust its memory."""

from dataclasses import dataclass, fields

from percept.core.errors import PerceptError

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on requests."""

    queue: int = 64
    """Requests that are read, wait or are answered at one time; further ones get status 429."""
    queue_mib: int = 512
    """MiB of bodies and decoded images of these requests together; further ones get status 429."""
    body_mib: int = 64
    """MiB of the body of a request."""
    image_mib: int = 20
    """MiB of an image file."""
    image_pixels: int = 40_000_000
    """Width × height of an image."""
    images: int = 16
    """Images of a request."""
    read_seconds: float = 60.0
    """Seconds within which the body of a request has to arrive."""
    stop_seconds: float = 60.0
    """Seconds that answers may still take after the server was told to stop."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise PerceptError(f"{field.name} must be positive, got {value}.")
