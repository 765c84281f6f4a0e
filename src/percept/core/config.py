"""Frozen dataclasses to json and back, strictly: a key nobody knows is refused."""

import dataclasses
import types
import typing
from typing import Any, TypeVar

from percept.core.errors import PerceptError, unknown_name

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a (nested) dataclass into plain data; tuples become lists."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def from_dict(kind: type[T], data: dict[str, Any]) -> T:
    """Build the dataclass `kind` from plain data.

    Raises:
        PerceptError: a key that `kind` does not have (nearest one suggested), or one that is missing.
    """
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in dataclasses.fields(typing.cast(Any, kind))}
    for key in data:
        if key not in known:
            raise unknown_name(f"{kind.__name__} field", key, known)
    for name, field in known.items():
        if name not in data and field.default is field.default_factory is dataclasses.MISSING:
            raise PerceptError(f"{kind.__name__} needs the field {name!r}; given: {', '.join(data) or 'nothing'}")
    return kind(**{key: _typed(hints[key], value) for key, value in data.items()})


def _typed(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        inner = [option for option in arguments if option is not type(None)]
        if isinstance(value, list):  # json has no tuples: a list is for the option that is one
            inner = [option for option in inner if typing.get_origin(option) is tuple] or inner
        return _typed(inner[0], value) if len(inner) == 1 else value
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_dict(hint, value)
    if origin is tuple and isinstance(value, list | tuple):
        item = arguments[0] if len(arguments) == 2 and arguments[1] is Ellipsis else None
        kinds = [item] * len(value) if item is not None else list(arguments)
        return tuple(_typed(one, element) for one, element in zip(kinds, value, strict=True))
    return value
