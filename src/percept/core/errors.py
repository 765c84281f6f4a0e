"""The exception for mistakes of users, and helpers that build its messages."""

from collections.abc import Iterable
from difflib import get_close_matches


class PerceptError(ValueError):
    """A mistake of the user. The message names the problem with the value, then the remedy.

    The command line prints it without a traceback and exits 2.
    """


def unknown_name(kind: str, given: str, known: Iterable[str]) -> PerceptError:
    """Return the error for an unknown name; it suggests the nearest known names.

    >>> str(unknown_name("model", "nanno", ["nano", "PE-Core-T16-384"]))
    "unknown model 'nanno'; did you mean 'nano'? Known: nano, PE-Core-T16-384"
    """
    known = list(known)
    lowered = {name.lower(): name for name in known}
    near = [lowered[hit] for hit in get_close_matches(given.lower(), lowered, n=3, cutoff=0.5)]
    hint = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else "."
    return PerceptError(f"unknown {kind} {given!r}{hint} Known: {', '.join(known)}")


def missing_extra(library: str, extra: str, purpose: str) -> PerceptError:
    """Return the error for an optional library that is not installed.

    >>> str(missing_extra("pyarrow", "data", "writing parquet files"))
    "writing parquet files needs pyarrow; install it with: pip install 'percept-models[data]'"
    """
    return PerceptError(f"{purpose} needs {library}; install it with: pip install 'percept-models[{extra}]'")
