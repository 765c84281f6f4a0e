"""Every method of the index through the same checks; a new method is tested the day it is listed."""

import ast
import inspect
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
from torch import nn

import percept.methods
from percept.core.config import from_dict, to_dict
from percept.core.io import load_tensors, same_tensors, save_tensors
from percept.methods import INDEX
from percept.methods.saved import method_class
from percept.optim.rules import parameter_groups


@pytest.fixture(params=sorted(INDEX))
def method(request: pytest.FixtureRequest) -> Any:
    return method_class(request.param)


def tiny(method: Any, seed: int = 0) -> tuple[nn.Module, Any]:
    torch.manual_seed(seed)
    return method.tiny()


def stepped(task: nn.Module, batch: Any) -> float:
    """Take one optimiser step and return the loss before it."""
    optimiser = torch.optim.AdamW(parameter_groups(task, rate=1e-2))
    loss = task.train()(batch)["loss"]
    loss.backward()
    optimiser.step()
    return float(loss.detach())


def test_its_configuration_is_frozen_documented_data(method: Any) -> None:
    task, _ = tiny(method)
    kind = method.Config
    assert isinstance(task.config, kind)
    assert from_dict(kind, to_dict(task.config)) == task.config
    assert is_dataclass(kind)
    classes = [each for each in inspect.getmro(method.Config) if hasattr(each, "__dataclass_fields__")]
    source = "".join(map(inspect.getsource, classes))
    assert all(
        source.partition(f"    {each.name}:")[2].partition("\n")[2].lstrip().startswith('"""') for each in fields(kind)
    )


def test_a_step_gives_a_loss_and_scalars(method: Any) -> None:
    task, batch = tiny(method)
    values = task(batch)
    assert all(value.ndim == 0 and bool(value.isfinite()) for value in values.values())
    assert values["loss"].requires_grad
    assert set(getattr(task, "shown", ())) <= set(values)


def test_the_gradient_reaches_every_trainable_parameter_and_no_frozen_one(method: Any) -> None:
    task, batch = tiny(method)
    task(batch)["loss"].backward()
    unreached = [
        name
        for name, each in task.named_parameters()
        if each.requires_grad and (each.grad is None or not each.grad.any())
    ]
    assert unreached == []
    assert [name for name, each in task.named_parameters() if not each.requires_grad and each.grad is not None] == []


def test_the_same_seed_gives_the_same_result(method: Any) -> None:
    one, two, three = (tiny(method, seed) for seed in (0, 0, 1))
    losses = [stepped(*each) for each in (one, two, three)]
    assert losses[0] == losses[1] != losses[2]
    assert same_tensors(one[0].state_dict(), two[0].state_dict())


def test_a_stored_state_gives_the_same_loss(method: Any, tmp_path: Any) -> None:
    task, batch = tiny(method)
    stepped(task, batch)
    save_tensors(tmp_path / "state.safetensors", task.state_dict())
    again, _ = tiny(method, seed=1)
    again.load_state_dict(load_tensors(tmp_path / "state.safetensors"))
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(batch)["loss"], task.eval()(batch)["loss"], atol=0, rtol=0)


def test_it_imports_no_other_method(method: Any) -> None:
    others = {target.split(":")[0] for target in INDEX.values()} - {method.__module__}
    tree = ast.parse(inspect.getsource(inspect.getmodule(method)))  # type: ignore[arg-type]
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported.isdisjoint(others)


def test_the_index_imports_nothing() -> None:
    tree = ast.parse(inspect.getsource(percept.methods))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
