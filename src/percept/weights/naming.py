"""Names of models: what a file says of itself may become the name of another file, so it has to be plain."""

import re
from typing import Any

from percept.core.errors import PerceptError

SEPARATORS = set('/\\:*?"<>|')


def checked_name(name: Any, source: str) -> str:
    """Return the name of a model if it is one file name, spaces allowed.

    Args:
        name: as it was given or read.
        source: who says so, for the message.

    Raises:
        PerceptError: no text, or it holds separators, begins with a dot, or cannot be printed.
    """
    if isinstance(name, str) and name.isprintable() and name[:1] not in ("", ".") and not SEPARATORS & set(name):
        return name
    raise PerceptError(
        f"{source} calls its model {name!r}, which is no plain name; change it to letters, digits and . _ + - with no dot in front"
    )


def plain_name(text: str) -> str:
    """Turn the name of a file or folder into one of a model.

    >>> plain_name(".runs/a:b"), plain_name("..")
    ('runs-a-b', 'model')
    """
    return re.sub(r"[^\w .+()-]", "-", text).lstrip(".") or "model"
