"""Rules: one ordered list of patterns determines which parameters are frozen, and the learning rate and decay of the rest."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

from percept.core.errors import PerceptError


@dataclass(frozen=True)
class Frozen:
    """The parameter is not trained."""


@dataclass(frozen=True)
class Scale:
    """The parameter is trained."""

    rate: float | int = 1.0
    """Multiplies the learning rate."""
    decay: float | int = 1.0
    """Multiplies the weight decay."""

    def __post_init__(self) -> None:
        if not self.rate > 0 or not self.decay >= 0:
            raise PerceptError(
                f"{self}: rate must be positive and decay at least 0. To keep a parameter as it is, use Frozen()."
            )


Rules: TypeAlias = Sequence[tuple[str, Frozen | Scale]]
"""(regular expression, action) pairs. The first pattern that matches a parameter's name applies; `Scale()` if none does."""


def check(model: nn.Module, rules: Rules) -> None:
    """Raise a PerceptError if a pattern matches no parameter of the model."""
    names = [name for name, _ in model.named_parameters()]
    for pattern, _ in rules:
        if not any(re.search(pattern, name) for name in names):
            raise PerceptError(
                f"the rule {pattern!r} matches no parameter. Names look like {', '.join(names[:3]) or '(none)'}."
            )


def action_of(name: str, rules: Rules) -> Frozen | Scale:
    """Return the action of the first rule whose pattern matches anywhere in `name`.

    >>> action_of("clip.text.norm.bias", (("^clip.text", Frozen()), (".*", Scale(10))))
    Frozen()
    """
    return next((action for pattern, action in rules if re.search(pattern, name)), Scale())


def freeze(model: nn.Module, rules: Rules) -> None:
    """Set `requires_grad` to False for parameters that the rules freeze. Frozen parameters stay frozen.

    Raises:
        PerceptError: a pattern matches no parameter, or all parameters are frozen.
    """
    check(model, rules)
    for name, parameter in model.named_parameters():
        if isinstance(action_of(name, rules), Frozen):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise PerceptError("every parameter is frozen. At least one must be trainable.")


def train_mode(model: nn.Module) -> None:
    """Put a model in training mode, except modules whose parameters are all frozen, so that they drop no paths."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def parameter_groups(
    model: nn.Module,
    rules: Rules = (),
    *,
    rate: float = 1e-3,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> list[dict[str, Any]]:
    """Return optimiser groups of the trainable parameters by learning rate, weight decay and kind.

    Every group holds `params`, their `names`, `lr`, `weight_decay`, and `inner`: True for matrices between the first
    and the last layer, which Muon may orthogonalise. Those are the weights of `nn.Linear` layers. `trust` is False for
    what never decays: LAMB does not scale those steps by norms. Parameters with
    fewer than two axes, and embedding tables, do not decay. A module declares other exceptions among its own
    parameters and children in two attributes, tuples of names: `no_decay` (positions, prompts, single tokens) and
    `outer` (linear layers that face the answers). With `decay_all` there are no exceptions from decay.
    """
    embeddings, linears, exempt, outer = _roles(model)
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        action = action_of(name, rules)
        if not parameter.requires_grad or isinstance(action, Frozen):
            continue
        kept = parameter.dim() < 2 or id(parameter) in embeddings or _below(name, exempt)
        inner = not kept and id(parameter) in linears and not _below(name, outer)
        decay = 0.0 if kept and not decay_all else weight_decay * action.decay
        key = (not inner, kept, action, type(parameter))  # one optimiser call takes tensors of one type only
        group = groups.setdefault(
            key,
            {
                "params": [],
                "names": [],
                "lr": rate * action.rate,
                "weight_decay": decay,
                "inner": inner,
                "trust": not kept,
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return [groups[key] for key in sorted(groups, key=lambda key: key[:2])]


def _roles(model: nn.Module) -> tuple[set[int], set[int], set[str], set[str]]:
    """Return ids of embedding tables and of weights of linear layers, and the names declared no_decay and outer."""
    embeddings: set[int] = set()
    linears: set[int] = set()
    exempt: set[str] = set()
    outer: set[str] = set()
    for prefix, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            embeddings.add(id(module.weight))
        if isinstance(module, nn.Linear):
            linears.add(id(module.weight))
        exempt.update(_declared(module, "no_decay", prefix))
        outer.update(_declared(module, "outer", prefix))
    return embeddings, linears, exempt, outer


def _declared(module: nn.Module, attribute: str, prefix: str) -> Iterator[str]:
    names = getattr(module, attribute, ())
    return (f"{prefix}.{name}" if prefix else name for name in names)


def _below(name: str, declared: set[str]) -> bool:
    """True if `name` or a module that contains it is declared."""
    parts = name.split(".")
    return any(".".join(parts[:count]) in declared for count in range(1, len(parts) + 1))


def is_frozen(parameter: Tensor) -> bool:
    """True if a parameter has floating-point values and is not trained."""
    return parameter.is_floating_point() and not parameter.requires_grad
