"""Images of a request: data URIs, and files by URL where the server allows it."""

import base64
import binascii
import re
from collections.abc import Callable, Sequence

from percept.core.errors import PerceptError
from percept.data.images import upright_size
from percept.serve.chat.request import Picture
from percept.serve.errors import ApiError
from percept.serve.limits import MIB, Limits

DATA_URI = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)
PREFIX = "the image given as bytes "
"""How messages about an image begin."""
ANY_SIZE = 1 << 62
"""Pixels; the size is compared with the limit of the server instead of that of the reader."""


def check_pictures(pictures: Sequence[Picture], limits: Limits, *, urls: bool) -> None:
    """Refuse too many images, and addresses that are not fetched.

    Raises:
        ApiError: see above.
    """
    if len(pictures) > limits.images:
        raise ApiError(
            400, f"The request has {len(pictures)} images, more than {limits.images}. Send fewer.", param="messages"
        )
    for picture in pictures:
        scheme = picture.url.partition(":")[0].lower()[:20]
        if scheme == "data" or (urls and scheme in ("http", "https")):
            continue
        if scheme in ("http", "https"):
            raise ApiError(
                400, "This server does not fetch images by URL. Send a data URI, or start it with --allow-urls.",
                param="messages", code="url_not_allowed",
            )  # fmt: skip
        raise ApiError(
            400, f"An image URL begins with {scheme!r}. Send data:image/png;base64,... or the like.",
            param="messages", code="invalid_image_url",
        )  # fmt: skip


def read_pictures(pictures: Sequence[Picture], limits: Limits, fetch: Callable[[str], bytes]) -> list[bytes]:
    """Return the files of images, whose sizes have been checked.

    Raises:
        ApiError: not a data URI of an image, not an image, or too large.
    """
    return [_checked(picture, place, limits, fetch) for place, picture in enumerate(pictures)]


def _checked(picture: Picture, place: int, limits: Limits, fetch: Callable[[str], bytes]) -> bytes:
    is_data = picture.url[:5].lower() == "data:"
    data = decoded_uri(picture.url, limits.image_mib * MIB) if is_data else fetch(picture.url)
    try:
        width, height = upright_size(data, max_pixels=ANY_SIZE)
    except PerceptError as error:
        raise bad_image(f"Image {place}", error) from None
    if width * height > limits.image_pixels:
        raise ApiError(
            400, f"Image {place} has {width} × {height} pixels, more than the {limits.image_pixels} allowed. Reduce it.",
            param="messages", code="image_too_large",
        )  # fmt: skip
    return data


def bad_image(image: str, error: PerceptError) -> ApiError:
    """Return the refusal of an image that cannot be read."""
    reason = str(error).removeprefix(PREFIX)
    return ApiError(400, f"{image} {reason}", param="messages", code="invalid_image")


def decoded_uri(uri: str, most: int) -> bytes:
    """Return the content of a data URI.

    >>> decoded_uri("data:image/png;base64,aGk=", 100)
    b'hi'

    Raises:
        ApiError: not base64, not an image, or too large.
    """
    match = DATA_URI.match(uri[:200])
    if match is None or not match[1].lower().startswith("image/") or not match[2].lower().endswith(";base64"):
        raise ApiError(
            400, "An image is not a data URI of an image. Send data:image/png;base64,... or the like.",
            param="messages", code="invalid_image_url",
        )  # fmt: skip
    if (len(uri) - match.end()) * 3 // 4 > most + 2:
        raise ApiError(413, f"An image has more than {most // MIB} MiB. Send a smaller one.", param="messages")
    try:
        return base64.b64decode(uri[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(
            400, "The base64 of an image is damaged. Encode the bytes of the file again.",
            param="messages", code="invalid_base64",
        ) from None  # fmt: skip
