"""Bodies of requests to the search API: json or forms, checked field by field."""

import base64
import binascii
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from percept.core.errors import PerceptError
from percept.data.images import upright_size
from percept.data.magic import image_format, looks_like
from percept.search.filters import make_filter
from percept.search.hits import GROUPS
from percept.search.store import Filter
from percept.serve.errors import ApiError
from percept.serve.fields import check_known, flag, is_count, json_object, number, text, within, wrong
from percept.serve.limits import MIB, Limits

MOST_HITS = 1000
"""Hits up to which results can be followed."""
MOST_TEXTS, MOST_LABELS, MOST_LETTERS = 256, 1000, 2000
"""Texts of a request, labels of a request, and letters of a text."""
ANY_SIZE = 1 << 62
SEARCH = (
    "text", "image", "like", "not_text", "not_image", "weight", "not_weight", "top", "skip", "min_score", "group",
    "above", "moments", "level", "filter",
)  # fmt: skip
FILTER = ("path", "not_path", "kind", "after", "before", "min_side", "max_side")


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """A search whose values are in range."""

    texts: tuple[str, ...]
    images: tuple[bytes, ...] = field(repr=False)
    like: tuple[int, ...]
    """Pieces of the index to resemble."""
    not_texts: tuple[str, ...]
    not_images: tuple[bytes, ...] = field(repr=False)
    weight: float
    not_weight: float
    top: int
    skip: int
    """Best hits that are left out, because the client has them."""
    min_score: float | None
    group: str | None
    above: float
    moments: bool
    level: float
    where: Filter | None


@dataclass(frozen=True, kw_only=True)
class EncodeRequest:
    """Texts and images to encode."""

    texts: tuple[str, ...]
    images: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ClassifyRequest:
    """Images, given as files or as pieces of the index, and labels to choose from."""

    images: tuple[bytes, ...] = field(repr=False)
    pieces: tuple[int, ...]
    labels: tuple[str, ...]
    templates: tuple[str, ...] | None
    top: int


def parse_search(values: dict[str, Any], limits: Limits) -> SearchRequest:
    """Return the search that the fields of a request describe.

    Raises:
        ApiError: a field is unknown, missing or out of range, or an image cannot be read.
    """
    with _unprocessable():
        check_known(values, SEARCH)
        images, not_images = _images(values, "image", limits), _images(values, "not_image", limits)
        _check_number_of(len(images) + len(not_images), limits)
        group = values.get("group")
        if group not in (None, *GROUPS):
            raise wrong("group", " or ".join(GROUPS), group)
        top, skip = _top(values), number(values, "skip", 0, _from_zero, "an integer, 0 or more")
        if skip + top > MOST_HITS:
            raise wrong("skip + top", f"at most {MOST_HITS}", skip + top)
        least = number(values, "min_score", None, within(-1.0, 1.0), "-1 to 1")
        return SearchRequest(
            texts=_texts(values, "text"), images=images, like=_pieces(values, "like"),
            not_texts=_texts(values, "not_text"), not_images=not_images,
            weight=float(number(values, "weight", 0.5, within(0.0, 1.0), "0 to 1")),
            not_weight=float(number(values, "not_weight", 0.5, within(0.0, 100.0), "0 to 100")),
            top=top, skip=skip, min_score=least if least is None else float(least), group=group,
            above=float(number(values, "above", 0.95, lambda value: 0 < value <= 1, "above 0 and at most 1")),
            moments=flag(values, "moments"), level=float(number(values, "level", 0.5, within(0.0, 1.0), "0 to 1")),
            where=_filter(values.get("filter")),
        )  # fmt: skip


def parse_encode(values: dict[str, Any], limits: Limits) -> EncodeRequest:
    """Return what a request wants encoded; raises as `parse_search`."""
    with _unprocessable():
        check_known(values, ("text", "image"))
        images = _images(values, "image", limits)
        _check_number_of(len(images), limits)
        return EncodeRequest(texts=_texts(values, "text"), images=images)


def parse_classify(values: dict[str, Any], limits: Limits) -> ClassifyRequest:
    """Return what a request wants classified; raises as `parse_search`."""
    with _unprocessable():
        check_known(values, ("image", "piece", "labels", "templates", "top"))
        images, pieces = _images(values, "image", limits), _pieces(values, "piece")
        if not images and not pieces:
            raise wrong("image", "an image, or piece the number of one in the index", None)
        _check_number_of(len(images) + len(pieces), limits)
        labels = _texts(values, "labels", most=MOST_LABELS)
        templates = _texts(values, "templates") or None
        return ClassifyRequest(images=images, pieces=pieces, labels=labels, templates=templates, top=_top(values, 5))


@contextmanager
def _unprocessable() -> Iterator[None]:
    """Give refusals of single fields status 422."""
    try:
        yield
    except ApiError as error:
        status = 422 if error.status == 400 and error.param is not None else error.status
        raise ApiError(status, error.message, param=error.param, code=error.code) from None


def _from_zero(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 62


def _top(values: dict[str, Any], default: int = 24) -> int:
    most = f"an integer from 1 to {MOST_HITS}"
    return number(values, "top", default, lambda value: is_count(value) and value <= MOST_HITS, most)


def _several(values: dict[str, Any], name: str) -> list[Any]:
    value = values.get(name, [])
    return value if isinstance(value, list) else [value]


def _texts(values: dict[str, Any], name: str, *, most: int = MOST_TEXTS) -> tuple[str, ...]:
    found = tuple(text(value, name) for value in _several(values, name))
    if len(found) > most or any(len(each) > MOST_LETTERS for each in found):
        raise wrong(name, f"at most {most} texts of at most {MOST_LETTERS} letters", f"{len(found)} texts")
    return tuple(each.encode(errors="replace").decode() for each in found)


def _pieces(values: dict[str, Any], name: str) -> tuple[int, ...]:
    found = _several(values, name)
    for value in found:
        if isinstance(value, bool) or not _from_zero(value):
            raise wrong(name, "the number of a piece, or a list of them", value)
    return tuple(found)


def _images(values: dict[str, Any], name: str, limits: Limits) -> tuple[bytes, ...]:
    return tuple(_image(value, name, limits) for value in _several(values, name))


def _check_number_of(images: int, limits: Limits) -> None:
    if images > limits.images:
        raise ApiError(422, f"The request has {images} images, more than {limits.images}. Send fewer.", param="image")


def _image(value: Any, name: str, limits: Limits) -> bytes:
    """Return the file of an image, given as base64, as a data URI, or as the bytes of a form.

    Raises:
        ApiError: not base64, not an image, or too large.
    """
    data = value if isinstance(value, bytes) else _decoded(text(value, name), name)
    if len(data) > limits.image_mib * MIB:
        raise ApiError(413, f"An image has more than {limits.image_mib} MiB. Send a smaller one.", param=name)
    if image_format(data) is None:
        what = looks_like(data)
        raise ApiError(
            415, f"{name} is not an image{f': {what}' if what else ''}. Send JPEG, PNG, WebP, GIF, AVIF, TIFF or BMP.",
            param=name, code="invalid_image",
        )  # fmt: skip
    try:
        width, height = upright_size(data, max_pixels=ANY_SIZE)
    except PerceptError as error:
        reason = str(error).removeprefix("the image given as bytes ")
        raise ApiError(422, f"{name}: the image {reason}", param=name, code="invalid_image") from None
    if width * height > limits.image_pixels:
        raise ApiError(
            413, f"{name} has {width} × {height} pixels, more than the {limits.image_pixels} allowed. Reduce it.",
            param=name, code="image_too_large",
        )  # fmt: skip
    return data


def _decoded(value: str, name: str) -> bytes:
    if value[:5].lower() == "data:":
        head, _, value = value.partition(",")
        if not head.lower().endswith(";base64"):
            raise ApiError(422, f"{name} is a data URI without base64. Send data:image/png;base64,...", param=name)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(
            422, f"{name} is not base64. Send the bytes of the file as base64, or as a data URI.",
            param=name, code="invalid_base64",
        ) from None  # fmt: skip


def _filter(given: Any) -> Filter | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise wrong("filter", "an object", given)
    values = {name: value for name, value in given.items() if value is not None}
    check_known(values, FILTER)
    if values.get("kind") not in (None, "image", "video"):
        raise wrong("filter.kind", "image or video", values["kind"])
    sides = {name: number(values, name, None, is_count, "a positive integer") for name in ("min_side", "max_side")}
    dates = {name: None if name not in values else text(values[name], f"filter.{name}") for name in ("after", "before")}
    try:
        return make_filter(
            path=_patterns(values, "path"), not_path=_patterns(values, "not_path"), kind=values.get("kind"),
            **dates, **sides,
        )  # fmt: skip
    except PerceptError as error:
        raise ApiError(422, f"filter: {error}", param="filter", code="invalid_value") from None


def _patterns(values: dict[str, Any], name: str) -> tuple[str, ...]:
    found = _texts(values, name)
    if not all(found) or any("\0" in each for each in found):
        raise wrong(f"filter.{name}", "a pattern such as '*.jpg', or a folder", "")
    return found


async def form_values(body: bytes, content_type: str, limits: Limits) -> dict[str, Any]:
    """Return the fields of a form: files named image and not_image, and json named request with the other fields.

    A field named text is taken as it is.

    Raises:
        ApiError: the form is damaged, or a field is of the wrong kind.
    """
    from starlette.datastructures import Headers, UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        Headers({"content-type": content_type}), stream(), max_files=limits.images, max_fields=32,
        max_part_size=limits.body_mib * MIB,
    )  # fmt: skip
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        message = getattr(error, "message", "") or "it is damaged"
        raise ApiError(400, f"The form cannot be read: {message.rstrip('.')}. Send multipart/form-data.") from None
    values: dict[str, Any] = {}
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                values.setdefault(name, []).append(await value.read())
            elif name == "request":
                values |= json_object(value.encode(), "the other fields of the request")
            elif name in ("text", "not_text"):
                values.setdefault(name, []).append(value)
            else:
                raise ApiError(
                    422, f"The field {name[:100]} of a form must be a file. Put it into the json of request."
                )
    finally:
        await form.close()
    return values
