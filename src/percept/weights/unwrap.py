"""Take weights out of the dictionaries and name prefixes that training programs wrap them in."""

import re
from typing import Any

from torch import Tensor

from percept.core.errors import PerceptError
from percept.weights.rename import renamed

WRAPPERS = (
    "state_dict", "model_state_dict", "weights", "model", "module", "state_dict_ema", "ema_state_dict", "model_ema", "ema",
)  # fmt: skip
"""Entries of a training checkpoint that hold the weights."""
NESTED = 4
"""Wrappers that may be nested; a dictionary can also contain itself."""
PARTS = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What compiling, FSDP and activation checkpointing insert anywhere in a name."""


def unwrap(state: Any) -> dict[str, Any]:
    """Take weights out of their wrappers, and strip what training inserted into their names.

    Stripped are `module.`, once or several times, the names in `PARTS` anywhere, and `model.` if every name begins with it.

    Raises:
        PerceptError: several wrappers hold weights, or a wrapper and the dictionary around it do, or two names are equal
            after stripping.
    """
    for _ in range(NESTED):
        inner = [wrapper for wrapper in WRAPPERS if isinstance(state.get(wrapper), dict) and state[wrapper]]
        full = [wrapper for wrapper in inner if _holds_weights(state[wrapper])]
        bare = [key for key, value in state.items() if isinstance(value, Tensor) and "." in str(key)]
        if full and len(full + bare) > 1:
            raise PerceptError(
                f"this file holds weights more than once, under {', '.join(map(str, [*full, *bare][:5]))}; save only the set "
                "that you want to load"
            )
        state = state[(full or inner)[0]] if inner else state
    filled = {key: value for key, value in state.items() if not (isinstance(value, dict) and not value)}
    return renamed(filled, _stripper(filled))


def _stripper(state: dict[Any, Any]) -> Any:
    """Return the function that strips the names of a state."""
    if state and all(_without_modules(key).startswith("model.") for key in state):
        return lambda key: _without_modules(_without_modules(key).removeprefix("model."))
    return _without_modules


def _without_modules(key: Any) -> str:
    name = PARTS.sub("", str(key))
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _holds_weights(state: dict[Any, Any], depth: int = NESTED) -> bool:
    """True if a dictionary, or a wrapper in it, holds tensors."""
    within = [state[wrapper] for wrapper in WRAPPERS if isinstance(state.get(wrapper), dict)] if depth else []
    return any(isinstance(value, Tensor) for value in state.values()) or any(
        _holds_weights(inner, depth - 1) for inner in within
    )
