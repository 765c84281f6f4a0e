"""Names of models: a name recorded in a file may become the name of a new file, so it has to be a plain one."""

import re
from typing import Any

from percept.core.errors import PerceptError

SEPARATORS = set('/\\:*?"<>|')


def checked_name(name: Any, source: str) -> str:
    """Return the name of a model if it is one file name, spaces allowed.

    Args:
        name: as given by the user or read from a file.
        source: where it comes from, for the message.

    Raises:
        PerceptError: it is not a string, holds separators, begins with a dot, or cannot be printed.
    """
    if isinstance(name, str) and name.isprintable() and name[:1] not in ("", ".") and not SEPARATORS & set(name):
        return name
    raise PerceptError(
        f"{source} calls its model {name!r}, which is not a plain name; use letters, digits and . _ + - with no dot in front"
    )


def plain_name(text: str) -> str:
    """Turn the name of a file or folder into the name of a model.

    >>> plain_name(".runs/a:b"), plain_name("..")
    ('runs-a-b', 'model')
    """
    return re.sub(r"[^\w .+()-]", "-", text).lstrip(".") or "model"
