"""Strict loading: every difference is listed, and nothing is loaded when there is one."""

from torch import Tensor, nn

from percept.core.errors import PerceptError

SHOWN = 8


def _list(title: str, names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"  {title}: {', '.join(names[:SHOWN])}{more}"


def check_fit(model: nn.Module, state: dict[str, Tensor], *, source: str) -> None:
    """Compare names and shapes of a state with those of a model.

    Raises:
        PerceptError: listing what is missing, unexpected or of another shape.
    """
    wanted = model.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    unexpected = sorted(state.keys() - wanted.keys())
    other = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    shapes = [f"{name} {list(state[name].shape)} instead of {list(wanted[name].shape)}" for name in other]
    problems = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    found = [_list(title, names) for title, names in problems if names]
    if "vision.positions" in other:
        found.append(
            "  positions of another grid are resized only when asked: image_size=PIXELS, or --image-size PIXELS"
        )
    if found:
        raise PerceptError("\n".join([f"{source} does not fit this model; nothing was loaded.", *found]))


def load_strict(model: nn.Module, state: dict[str, Tensor], *, source: str) -> None:
    """Make `state` the parameters of `model` without copying them; the model takes the types stored in it.

    Raises:
        PerceptError: listing what is missing, unexpected or of another shape.
    """
    check_fit(model, state, source=source)
    model.load_state_dict(state, strict=True, assign=True)
