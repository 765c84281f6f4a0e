"""The checks of types and shapes that run with every other test."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, Int, TypeCheckError
from torch import Tensor

from percept.losses.contrastive import info_nce
from tests.checked import MARK, checked, jaxtyped

if TYPE_CHECKING:
    from percept.models.clip import CLIP

check = jaxtyped(typechecker=None)


@check
def product(a: Float[Tensor, "n m"], b: Float[Tensor, "m k"], *, right: bool = True) -> Float[Tensor, "n k"]:
    return a @ b if right else b


@check
def halves(x: "Float[Tensor, 'n m']", model: "CLIP | None" = None) -> "list[Float[Tensor, 'n h']]":
    product(torch.ones(7, 8), torch.ones(8, 9))  # its sizes are its own
    return [x[:, :1], x[:, 1:]] if x.shape[0] == 3 else [x]


@check
def columns(x: Float[Tensor, "n m"], names: list[str]) -> Iterator[Float[Tensor, " n"]]:
    product(x, torch.ones(x.shape[1], 1))
    yield from x.T


@check
@dataclass(frozen=True, kw_only=True)
class Pair:
    ids: Int[Tensor, " n"]
    values: Float[Tensor, " n"]
    name: str | None = None


class Chain:
    """Named in its own annotations, when it does not exist yet."""

    @check
    def __init__(self, before: "Chain | None" = None) -> None:
        self.before = before

    @property
    @check
    def first(self) -> "Chain":
        return self.before  # type: ignore[return-value]

    @classmethod
    @check
    def of(cls, links: "list[Chain]", x: Float[Tensor, "n n"]) -> "Chain":
        return cls(*links)

    @staticmethod
    @check
    def same(link: "Later") -> "Later":
        return link


class Later:
    """Defined after it is named."""


def test_right_calls_return_what_the_function_returns() -> None:
    assert product(torch.ones(2, 3), torch.ones(3, 4)).tolist() == [[3.0] * 4] * 2
    assert len(halves(torch.ones(3, 2), model="of a type that only type checkers know")) == 2  # type: ignore[arg-type]
    for column in columns(torch.ones(3, 2), ["a"]):
        assert product(column[None], torch.ones(3, 1)).item() == 3
    pair = Pair(ids=torch.tensor([1]), values=torch.tensor([1.0]))
    assert pair.name is None
    assert Chain.of([Chain()], torch.ones(2, 2)).first.before is None
    assert isinstance(Chain.same(Later()), Later)
    assert list(inspect.signature(product).parameters) == ["a", "b", "right"]
    assert product.__name__ == "product"


@pytest.mark.parametrize(
    "call",
    [
        lambda: product(torch.ones(2, 3), torch.ones(2, 4)),
        lambda: product(torch.ones(2, 3), torch.ones(3, 4), right=False),
        lambda: product(torch.ones(2, 3).int(), torch.ones(3, 4)),
        lambda: product(torch.ones(2, 3), torch.ones(3)),
        lambda: product([[1.0]], torch.ones(1, 4)),  # type: ignore[arg-type]
        lambda: product(torch.ones(2, 3), torch.ones(3, 4), right="yes"),  # type: ignore[arg-type]
        lambda: halves(torch.ones(2, 3, 1)),
        lambda: halves("ones"),  # type: ignore[arg-type]
        lambda: columns(torch.ones(2, 3), [1]),  # type: ignore[arg-type]
        lambda: Pair(ids=torch.tensor([1, 2]), values=torch.tensor([1.0])),
        lambda: Pair(ids=torch.tensor([1.0]), values=torch.tensor([1.0])),
        lambda: Pair(ids=torch.tensor([1]), values=torch.tensor([1.0]), name=3),  # type: ignore[arg-type]
        lambda: Chain("link"),  # type: ignore[arg-type]
        lambda: Chain().first,
        lambda: Chain.of(["link"], torch.ones(2, 2)),  # type: ignore[list-item]
        lambda: Chain.of([], torch.ones(2, 3)),
        lambda: Chain.same(Chain()),  # type: ignore[arg-type]
        lambda: info_nce(torch.ones(2, 3), torch.ones(2, 4), torch.ones(())),
    ],
)
def test_a_wrong_type_or_shape_is_found(call: Any) -> None:
    with pytest.raises((BeartypeCallHintViolation, TypeCheckError)):
        call()


def test_a_wrong_call_is_the_error_that_python_gives() -> None:
    with pytest.raises(TypeError, match="missing"):
        product(torch.ones(2, 3))  # type: ignore[call-arg]


def test_functions_of_the_library_are_checked() -> None:
    assert getattr(info_nce, MARK)
    assert not hasattr(inspect.unwrap(info_nce), MARK)
    assert checked(inspect.unwrap(info_nce)).__annotations__ == info_nce.__annotations__
