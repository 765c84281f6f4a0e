"""Fields of json bodies, checked one by one."""

import json
import math
from collections.abc import Callable, Iterable
from typing import Any

from percept.core.errors import unknown_name
from percept.serve.errors import ApiError


def json_object(body: bytes, fields: str) -> dict[str, Any]:
    """Return the object in a body, without fields that are null.

    Args:
        body: json text.
        fields: the fields that an object has, for the message.

    Raises:
        ApiError: not json, or not an object.
    """
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not valid json ({short(error)}). Send a json object.") from None
    if not isinstance(given, dict):
        raise ApiError(400, f"The body is not a json object. Send an object with {fields}.")
    return {name: value for name, value in given.items() if value is not None}


def check_known(values: Iterable[str], known: Iterable[str]) -> None:
    """Refuse the first field that is not known.

    Raises:
        ApiError: there is one; the message suggests the nearest names.
    """
    known = list(known)
    for name in values:
        if name not in known:
            error = unknown_name("field", short(name), known)
            raise ApiError(400, f"{error}", param=short(name), code="unknown_parameter")


def short(value: object) -> str:
    """Return at most 100 letters of a value, for a message."""
    text = str(value).encode(errors="replace").decode()  # json may hold half of a surrogate pair
    return text if len(text) <= 100 else f"{text[:100]}…"


def wrong(name: str, wanted: str, value: object) -> ApiError:
    """Return the refusal of a value."""
    return ApiError(400, f"{name} must be {wanted}, got {short(repr(value))}.", param=name, code="invalid_value")


def filled_list(values: dict[str, Any], name: str) -> list[Any]:
    """Return a field that is a list with at least one entry, or raise ApiError."""
    value = values.get(name)
    if not isinstance(value, list) or not value:
        raise wrong(name, "a list with at least one entry", value)
    return value


def text(value: Any, name: str) -> str:
    """Return a value that is a string, or raise ApiError."""
    if not isinstance(value, str):
        raise wrong(name, "a string", value)
    return value


def number(values: dict[str, Any], name: str, default: Any, accepts: Callable[[Any], bool], wanted: str) -> Any:
    """Return a field that is a number which a function accepts, or the default; else raise ApiError."""
    value = values.get(name, default)
    if value is default:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not accepts(value):
        raise wrong(name, wanted, value)
    return value


def is_count(value: Any) -> bool:
    """True for a positive integer."""
    return isinstance(value, int) and value > 0


def within(low: float, high: float) -> Callable[[Any], bool]:
    """Return a function that is True for numbers from `low` to `high`."""
    return lambda value: low <= value <= high


def flag(values: dict[str, Any], name: str) -> bool:
    """Return a field that is true or false, by default false; else raise ApiError."""
    value = values.get(name, False)
    if not isinstance(value, bool):
        raise wrong(name, "true or false", value)
    return value
