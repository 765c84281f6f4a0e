"""Types and shapes of arguments and results are checked while tests run.

pytest's option `--jaxtyping-packages` decorates every function and dataclass of percept with `jaxtyping.jaxtyped`. That decorator binds the arguments of a
call in Python and checks them twice, which took a third of the time of all tests. The one here checks the same in one pass: beartype checks arguments and
result, and a function whose annotations name axes is called in a scope of its own, where equal names are equal sizes.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import beartype

SCOPE = jaxtyping.jaxtyped
MARK = "_types_are_checked"
UNKNOWN = object()
"""In place of an annotation with a name that does not exist. At a call, it is one that only type checkers know, and anything is accepted."""


def install() -> None:
    """Put the decorator in the place of jaxtyping's; modules that are imported later use it."""
    jaxtyping.jaxtyped = jaxtyped  # type: ignore[assignment]


def jaxtyped(*, typechecker: object) -> Callable[[Any], Any]:
    """Return the decorator of a function or class; beartype is the only checker."""
    return _decorated


def _decorated(thing: Any) -> Any:
    """Check a function, or the arguments of a dataclass."""
    if inspect.isgeneratorfunction(thing) or inspect.iscoroutinefunction(thing) or inspect.isasyncgenfunction(thing):
        return SCOPE(thing, typechecker=beartype)  # a call runs nothing yet, so its scope would have ended too early
    if not inspect.isclass(thing):
        return checked(thing)
    if is_dataclass(thing) and not hasattr(thing.__init__, MARK):
        thing.__init__ = checked(thing.__init__)
    return thing


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that checks its arguments and its result.

    Raises:
        beartype.roar.BeartypeCallHintViolation: when it is called with, or returns, something else than its annotations say.
    """
    hints = _hints(function)
    inner = _checked(function, hints) if UNKNOWN not in hints.values() else _later(function)
    setattr(inner, MARK, True)
    return inner


def _checked(function: Callable[..., Any], hints: dict[str, Any]) -> Callable[..., Any]:
    """Return a function that checks these annotations."""
    given = function.__annotations__
    function.__annotations__ = hints
    try:
        inner = beartype(function)
    finally:
        function.__annotations__ = given
    inner.__annotations__ = given
    return _scoped(inner) if any(map(_has_axes, hints.values())) else inner


def _later(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that evaluates its annotations at the first call, when all names of its module exist."""
    inner: Callable[..., Any] | None = None

    @functools.wraps(function)
    def later(*args: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        nonlocal inner
        if inner is None:
            known = {name: Any if hint is UNKNOWN else hint for name, hint in _hints(function).items()}
            inner = _checked(function, known)
        return inner(*args, **options)

    return later


def _hints(function: Any) -> dict[str, Any]:
    """Return the annotations of a function, those in quotes evaluated; UNKNOWN where a name does not exist, or not yet."""
    hints = {}
    for name, hint in function.__annotations__.items():
        try:
            hints[name] = get_type_hints(_Holder(hint), function.__globals__, include_extras=True)["hint"]
        except Exception:
            hints[name] = UNKNOWN
    return hints


class _Holder:
    """Anything with one annotation."""

    def __init__(self, hint: Any) -> None:
        self.__annotations__ = {"hint": hint}


def _has_axes(hint: Any) -> bool:
    """True if an array with named axes occurs in an annotation."""
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    parts = get_args(hint)
    return any(_has_axes(part) for each in parts for part in (each if isinstance(each, list) else [each]))


def _scoped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that begins without any known size of an axis."""

    @functools.wraps(function)
    def scoped(*args: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        with SCOPE("context"):
            return function(*args, **options)

    return scoped
