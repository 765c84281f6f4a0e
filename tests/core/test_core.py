"""Errors, seeds, the machine, batches, and every example in a docstring."""

import doctest
import importlib
import inspect
import io
import pkgutil
import platform
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import percept
from percept.core import machine, report
from percept.core.errors import PerceptError, missing_extra, unknown_name
from percept.core.machine import fast_dtype, keep_freed_memory, matmul_peak, pick_device
from percept.core.report import notice, table
from percept.core.seed import derive, seed_everything

MODULES = [
    module.name
    for module in pkgutil.walk_packages(percept.__path__, "percept.")
    if not module.name.endswith("__main__")
]
EXAMPLES = [name for name in MODULES if ">>>" in inspect.getsource(importlib.import_module(name))]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_in_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_there_are_examples_in_every_layer_below_the_models() -> None:
    assert {name.split(".")[1] for name in EXAMPLES} >= {"core", "nn", "optim", "data"}


@pytest.mark.parametrize("name", ["percept.core.errors", "percept.core.config", "percept.core.seed"])
def test_the_light_part_of_core_imports_no_torch(name: str) -> None:
    code = f"import {name}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_user_error_is_a_value_error() -> None:
    assert issubclass(PerceptError, ValueError)


def test_unknown_names_suggest_regardless_of_case_and_always_list_what_there_is() -> None:
    assert "did you mean 'PE-Core-L14-336'?" in str(unknown_name("model", "pe-core-l14-336", ["PE-Core-L14-336"]))
    far = str(unknown_name("colour", "zzz", ["red", "blue"]))
    assert "did you mean" not in far
    assert "red, blue" in far
    assert "pip install 'percept-models[data]'" in str(missing_extra("pyarrow", "data", "writing"))


def test_seeds_start_everything() -> None:
    drawn = []
    for seed in (5, 5, 6):
        seed_everything(seed)
        drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))  # noqa: NPY002
    assert drawn[0] == drawn[1]
    assert not set(drawn[0]) & set(drawn[2])


def test_derived_seeds_are_the_same_everywhere_and_do_not_meet() -> None:
    assert derive(0, "train", 7) == 7369835253178243714
    assert len({derive(seed, name, n) for seed in range(10) for name in "ab" for n in range(100)}) == 2000
    assert 0 <= derive(2**62, "x") < 2**63


def test_the_device_and_its_number_type() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type in ("cpu", "cuda", "mps")
    dtype, reason = fast_dtype(torch.device("cpu"))
    assert dtype in (torch.float32, torch.bfloat16)
    assert ("CPU" in reason) == (dtype == torch.bfloat16)
    with pytest.raises(PerceptError, match=r"^unknown device 'quantum'\. Known: auto, cpu, cuda, mps$"):
        pick_device("quantum")
    for name in ("cuda:97", "vulkan"):
        with pytest.raises(PerceptError, match="cannot be used here") as caught:
            pick_device(name)
        assert len(str(caught.value)) < 200


def test_the_peak_is_that_of_a_product_of_such_matrices() -> None:
    peak = matmul_peak(torch.device("cpu"), torch.float32, size=256, seconds=0.02)
    assert 1e8 < peak < 1e14


FAULTS = """
import resource, torch
from percept.core.machine import keep_freed_memory
{call}
for _ in range(5):
    torch.ones(16_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(16_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_freed_memory_is_kept() -> None:
    """Ten tensors of 64 MB, one after the other, fetch clearly fewer new pages (measured: 10 to 50 % of them)."""
    plain, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS.format(call=call)], capture_output=True, check=True).stdout)
        for call in ("", "keep_freed_memory()")
    )
    assert kept < 0.7 * plain


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[None] = []

    def no_library(name: None) -> None:
        called.append(name)
        raise OSError

    monkeypatch.setattr("ctypes.CDLL", no_library)
    keep_freed_memory()
    assert called == [None]


def test_steps_are_shown_by_name_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {}
    for looks in (True, False):
        file = io.StringIO()
        monkeypatch.setattr(report, "err", Console(file=file, force_terminal=looks, width=80))
        with report.steps(2) as begin:
            begin("tracing")
            begin("comparing")
        shown[looks] = file.getvalue()
    assert re.search(r"tracing.*0/2.*comparing.*1/2", shown[True], re.DOTALL)
    assert shown[False] == ""


def test_what_is_printed_is_one_line_without_codes(capsys: pytest.CaptureFixture[str]) -> None:
    odd = "a\nb\x1b[31m\udcff\u202e"
    table(odd, (odd,), [(Path(odd),), ("10\u202f000\u00a0€ 👩\u200d🚒 猫",)])
    notice(f"first\nsecond {odd}")
    printed = capsys.readouterr()
    assert printed.out.count("a�b�[31m��") == 3
    assert "10\u202f000\u00a0€ 👩\u200d🚒 猫" in printed.out
    assert "\x1b" not in printed.out + printed.err
    assert printed.err.startswith("first\nsecond a\nb�[31m��")


def test_the_compiler_is_the_one_that_torch_would_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.sys, "platform", "linux")
    monkeypatch.setattr(machine.shutil, "which", lambda name: f"/bin/{name}" if name in ("clang++", "clang") else None)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    assert machine.compiler(torch.device("cpu")) is None  # on Linux it looks for g++ alone
    monkeypatch.setenv("CXX", "clang++")
    assert machine.compiler(torch.device("cpu")) == "/bin/clang++"
    monkeypatch.setenv("CXX", "/nowhere/g++")
    assert machine.compiler(torch.device("cpu")) is None
    monkeypatch.setattr(machine, "find_spec", lambda name: name)
    assert machine.compiler(torch.device("cuda")) == "triton"
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert machine.compiler(torch.device("cuda")) is None
