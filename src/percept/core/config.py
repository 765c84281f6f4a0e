"""Frozen dataclasses to json and back, strictly: a key nobody knows is refused."""

import dataclasses
import types
import typing
from typing import Any, TypeVar

from percept.core.errors import PerceptError, unknown_name

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a (nested) dataclass into plain data; tuples become lists.

    A field whose metadata has functions "write" and "read" is converted by those, here and in `from_dict`.
    """
    writers = {field.name: field.metadata.get("write", _plain) for field in dataclasses.fields(config)}
    return {name: write(getattr(config, name)) for name, write in writers.items()}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def from_dict(kind: type[T], data: Any) -> T:
    """Build the dataclass `kind` from plain data.

    Raises:
        PerceptError: a key that `kind` does not have (nearest one suggested), one that is missing, or a value of another
            type than the field takes.
    """
    if not isinstance(data, dict):
        raise PerceptError(f"{kind.__name__} is read from named fields; given: {data!r}")
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in dataclasses.fields(typing.cast(Any, kind))}
    for key in data:
        if key not in known:
            raise unknown_name(f"{kind.__name__} field", key, known)
    for name, field in known.items():
        if name not in data and field.default is field.default_factory is dataclasses.MISSING:
            raise PerceptError(f"{kind.__name__} needs the field {name!r}; given: {', '.join(data) or 'nothing'}")
    values = {}
    for key, value in data.items():
        try:
            read = known[key].metadata.get("read")
            values[key] = _typed(hints[key], value) if read is None else read(value)
        except _WrongTypeError:
            hint = getattr(hints[key], "__name__", None) if isinstance(hints[key], type) else None
            raise PerceptError(f"{kind.__name__} field {key!r} takes {hint or hints[key]}; given: {value!r}") from None
    return kind(**values)


class _WrongTypeError(Exception):
    """A value does not fit the type of its field."""


def _typed(hint: Any, value: Any) -> Any:
    """Turn plain data into what a hint says: dataclasses from dicts, tuples from lists."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or origin is typing.Literal:  # the dataclass itself says which of its words are possible
        return value
    if origin in (typing.Union, types.UnionType):
        return _one_of(arguments, value)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value)
    if origin is tuple:
        return _tuple(arguments, value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return value
    plain = origin or hint
    if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
        raise _WrongTypeError
    return value


def _one_of(options: tuple[Any, ...], value: Any) -> Any:
    for option in options:
        try:
            return _typed(option, value)
        except _WrongTypeError:
            continue
        except PerceptError:
            if isinstance(value, dict):  # a dataclass was meant, and it says what is wrong with it
                raise
    raise _WrongTypeError


def _tuple(arguments: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _WrongTypeError
    endless = len(arguments) == 2 and arguments[1] is Ellipsis
    kinds = [arguments[0]] * len(value) if endless else list(arguments)
    if len(kinds) != len(value):
        raise _WrongTypeError
    return tuple(_typed(one, element) for one, element in zip(kinds, value, strict=True))
