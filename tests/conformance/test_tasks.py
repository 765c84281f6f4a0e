"""Every kind of run resumes as if it had not been interrupted, whatever is frozen."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from percept.core.io import same_tensors
from percept.optim.rules import Frozen
from percept.train import fit
from tests.train.quick import make_quick
from tests.train.runs import Trial, experiment

NAMES = sorted(name for name, _ in experiment().model.named_parameters())


@pytest.fixture(autouse=True, scope="module")
def _quick() -> object:
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch.setattr)
        yield


def run(frozen: set[str], optimiser: str) -> Trial:
    rules = tuple((f"^{name}$", Frozen()) for name in sorted(frozen))
    return replace(experiment(dtype="float32", steps=4, optimiser=optimiser), rules=rules)


@given(
    frozen=st.sets(st.sampled_from(NAMES), max_size=len(NAMES) - 1),
    stop=st.integers(1, 3),
    optimiser=st.sampled_from(["adamw", "muon"]),
)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_a_resumed_run_is_the_uninterrupted_one_under_any_set_of_frozen_parameters(
    frozen: set[str], stop: int, optimiser: str
) -> None:
    with TemporaryDirectory() as folder:
        whole, part, again = (run(frozen, optimiser) for _ in range(3))
        start = {name: value.clone() for name, value in whole.model.state_dict().items()}
        fit(whole, Path(folder) / "whole")
        for _ in range(stop):
            fit(part, Path(folder) / "parts", minutes=0.0)
        fit(again, Path(folder) / "parts")
    assert same_tensors(again.model.state_dict(), whole.model.state_dict())
    state = whole.model.state_dict()
    assert {name for name in NAMES if not torch.equal(start[name], state[name])} <= set(NAMES) - frozen
