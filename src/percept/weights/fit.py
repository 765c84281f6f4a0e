"""Strict loading: every difference is listed, and nothing is loaded when there is one."""

from collections.abc import Callable, Collection

from torch import nn

from percept.core.errors import PerceptError
from percept.weights.layouts import State

POSITIONS = "vision.positions"
SHOWN = 8


def differences(wanted: State, state: State, spelled: Callable[[State], State] = dict) -> list[str]:
    """Return lines about what is missing, unexpected or of another shape; none if nothing is.

    Args:
        spelled: gives tensors of ours the names and shapes they have in the file, for a reader who knows that one only.
    """
    other = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    given, right = (spelled({name: some[name] for name in other}) for some in (state, wanted))
    shapes = [f"{name} {list(given[name].shape)} instead of {list(right[name].shape)}" for name in given]
    missing = {name: wanted[name] for name in wanted.keys() - state.keys()}
    unexpected = {name: state[name] for name in state.keys() - wanted.keys()}
    lacking, strange = set(spelled(missing) or missing), set(spelled(unexpected) or unexpected)
    lists = (
        ("missing", sorted(lacking - strange or lacking)),  # of what is one tensor here a half may be there
        ("unexpected", sorted(strange - lacking)),
        ("of another shape", shapes),
    )
    lines = [_list(title, names) for title, names in lists if names]
    if other == [POSITIONS]:
        lines.append(
            "  positions of another grid are resized only when asked: image_size=PIXELS, or --image-size PIXELS"
        )
    return lines


def _list(title: str, names: Collection[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"  {title}: {', '.join(list(names)[:SHOWN])}{more}"


def check_fit(
    model: nn.Module, state: State, *, source: str, spelled: Callable[[State], State] = dict, hint: str = ""
) -> None:
    """Compare names and shapes of a state with those of a model; see `differences`.

    Args:
        hint: said after the list, where there is one.

    Raises:
        PerceptError: listing what is missing, unexpected or of another shape.
    """
    if found := differences(model.state_dict(), state, spelled):
        told = [f"{source} does not fit this model; nothing was loaded.", *found]
        raise PerceptError("\n".join([*told, *([hint] if hint else [])]))


def load_strict(model: nn.Module, state: State, *, source: str) -> None:
    """Make `state` the parameters of `model` without copying them; the model takes the types stored in it.

    Raises:
        PerceptError: listing what is missing, unexpected or of another shape.
    """
    check_fit(model, state, source=source)
    model.load_state_dict(state, strict=True, assign=True)
