"""One side of a comparison: MODEL, or MODEL@TYPE, MODEL@DEVICE, MODEL@TYPE@DEVICE."""

import os
from dataclasses import dataclass
from difflib import get_close_matches

from percept.core.errors import PerceptError, unknown_name
from percept.infer.encoder import Encoder
from percept.infer.load import DTYPES, load
from percept.models import zoo
from percept.models.onnx import is_export

TYPES = (*DTYPES, "int8")
DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True, kw_only=True)
class Side:
    """A model with the number type and device it is to compute in."""

    model: str
    """Name, hub address, folder, weight file or export folder."""
    dtype: str | None = None
    """float32 when None, and of an export its plain type."""
    device: str = "cpu"

    def open(self, *, batch: int = 4) -> Encoder:
        """Load it.

        Raises:
            PerceptError: as `percept.load`.
        """
        exported = self.model not in zoo.ZOO and is_export(self.model)
        dtype = self.dtype if self.dtype is not None or exported else "float32"
        return load(self.model, dtype=dtype, device=self.device, batch=batch)


def parse_side(text: str) -> Side:
    """Read a side as it is typed.

    >>> parse_side("nano@bfloat16")
    Side(model='nano', dtype='bfloat16', device='cpu')
    >>> parse_side("hf://somebody/model@v1.0@cuda").model
    'hf://somebody/model@v1.0'

    Raises:
        PerceptError: no model, an unknown type or device (the nearest is suggested), or one given twice.
    """
    model, found = text, {}
    while not os.path.exists(model) and "@" in model:
        head, _, word = model.rpartition("@")
        kind = _kind(head, word)
        if kind is None:
            break
        if kind in found:
            raise PerceptError(f"{text!r} names two {kind}s, {word} and {found[kind]}; give one")
        model, found[kind] = head, word
    if not model:
        raise PerceptError(f"{text!r} names no model; write MODEL or MODEL@TYPE, for example nano@bfloat16")
    return Side(model=model, dtype=found.get("type"), device=found.get("device", "cpu"))


def _kind(head: str, word: str) -> str | None:
    """Tell whether a word behind an @ is a type or a device; None for what may be a revision on the hub."""
    if word in TYPES:
        return "type"
    if word.partition(":")[0] in DEVICES:
        return "device"
    local = not head or os.path.exists(head) or head.partition("@")[0] in zoo.PACKAGED
    if local or get_close_matches(word.lower(), (*TYPES, *DEVICES), cutoff=0.7):
        raise unknown_name("type or device", word, (*TYPES, *DEVICES))
    return None
