"""Convert frozen dataclasses to json and back, strictly: an unknown key is refused."""

import dataclasses
import types
import typing
from typing import Any, TypeVar

from percept.core.errors import PerceptError, unknown_name

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a (nested) dataclass into plain data; tuples become lists.

    A field whose metadata has the functions "write" and "read" is converted by them, here and in `from_dict`.
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
        PerceptError: a key that `kind` does not have (the nearest one is suggested), a missing key, or a value of a
            type that the field does not take.
    """
    if not isinstance(data, dict):
        raise PerceptError(f"{kind.__name__} must be an object with named fields, got {_short(data)}")
    hints = typing.get_type_hints(kind)
    known = {field.name: field for field in dataclasses.fields(typing.cast(Any, kind))}
    for key in data:
        if key not in known:
            raise unknown_name(f"{kind.__name__} field", key, known)
    for name, field in known.items():
        if name not in data and field.default is field.default_factory is dataclasses.MISSING:
            raise PerceptError(f"{kind.__name__} needs the field {name!r}, got only: {', '.join(data) or 'nothing'}")
    values = {}
    for key, value in data.items():
        try:
            read = known[key].metadata.get("read")
            values[key] = _typed(hints[key], value) if read is None else read(value)
        except _WrongTypeError:
            hint = getattr(hints[key], "__name__", None) if isinstance(hints[key], type) else None
            raise PerceptError(
                f"{kind.__name__} field {key!r} takes {hint or hints[key]}, got {_short(value)}"
            ) from None
    return kind(**values)


def from_source(kind: type[T], data: Any, source: object) -> T:
    """Build a dataclass as `from_dict` does; the message of an error begins with `source`, the file of the data.

    Raises:
        PerceptError: see `from_dict`.
    """
    try:
        return from_dict(kind, data)
    except PerceptError as error:
        raise PerceptError(f"{source}: {error}") from None


def _short(value: Any) -> str:
    """Return at most 200 characters of a value; Python refuses to print integers of thousands of digits."""
    try:
        return repr(value)[:200]
    except ValueError:
        return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__


class _WrongTypeError(Exception):
    """A value does not fit the type of its field."""


def _typed(hint: Any, value: Any) -> Any:
    """Convert plain data to the type of a hint: dataclasses from dicts, tuples from lists."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is typing.Literal:  # the dataclass checks which values are possible
        if type(value) not in {type(option) for option in arguments}:
            raise _WrongTypeError
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
            if isinstance(value, dict):  # its fields are wrong, and that error names them
                raise
    raise _WrongTypeError


def _tuple(arguments: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _WrongTypeError
    endless = len(arguments) == 2 and arguments[1] is Ellipsis
    kinds = [arguments[0]] * len(value) if endless else list(arguments)
    if len(kinds) != len(value):
        raise _WrongTypeError
    return tuple(_typed(kind, element) for kind, element in zip(kinds, value, strict=True))
