"""Strict loading: every difference is listed, and nothing is loaded if there is one."""

from collections.abc import Callable, Collection

from torch import nn

from percept.core.errors import PerceptError
from percept.weights.layout import State

POSITIONS = "vision.positions"
SHOWN = 8


def differences(wanted: State, state: State, spelled: Callable[[State], State] = dict) -> list[str]:
    """Return lines that list missing and unexpected keys and different shapes; none if everything fits.

    Args:
        wanted: state of the model.
        state: tensors of the file, under our names.
        spelled: gives some of our tensors the names and shapes that they have in the file, which its author knows.
    """
    misshapen = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    stored, right = (spelled({name: some[name] for name in misshapen}) for some in (state, wanted))
    shapes = [f"{name} {list(stored[name].shape)} instead of {list(right[name].shape)}" for name in stored]
    missing = {name: wanted[name] for name in wanted.keys() - state.keys()}
    unexpected = {name: state[name] for name in state.keys() - wanted.keys()}
    lacking, strange = set(spelled(missing) or missing), set(spelled(unexpected) or unexpected)
    lists = (
        ("missing", sorted(lacking - strange or lacking)),  # half of what is one tensor here may be present
        ("unexpected", sorted(strange - lacking)),
        ("of a different shape", shapes),
    )
    lines = [_list(title, names) for title, names in lists if names]
    if misshapen == [POSITIONS]:
        lines.append("  to resize the positions to a different grid, give image_size=PIXELS (--image-size PIXELS)")
    return lines


def _list(title: str, names: Collection[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"  {title}: {', '.join(list(names)[:SHOWN])}{more}"


def check_fit(
    model: nn.Module,
    state: State,
    *,
    source: str,
    spelled: Callable[[State], State] = dict,
    hint: Callable[[], str] = str,
) -> None:
    """Compare names and shapes of a state with those of a model; see `differences`.

    Args:
        hint: returns a sentence for the end of the message, or nothing.

    Raises:
        PerceptError: listing what is missing, unexpected or of a different shape.
    """
    if lines := differences(model.state_dict(), state, spelled):
        message = [f"{source} does not fit this model; nothing was loaded.", *lines, hint()]
        raise PerceptError("\n".join(filter(None, message)))


def load_strict(model: nn.Module, state: State, *, source: str) -> None:
    """Make `state` the parameters of `model` without copying them; the model takes the types stored in it.

    Raises:
        PerceptError: listing what is missing, unexpected or of a different shape.
    """
    check_fit(model, state, source=source)
    model.load_state_dict(state, strict=True, assign=True)
