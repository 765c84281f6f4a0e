"""Imports stay cheap: what loading a model must not import. `benchmarks/startup.py` measures the seconds."""

import subprocess
import sys

import pytest

FORBIDDEN = (
    "torch._dynamo", "torch._inductor", "onnx", "onnxruntime", "onnxscript", "sklearn", "scipy", "pandas", "pyarrow", "av",
    "torchvision", "transformers", "timm", "xformers", "huggingface_hub",
)  # fmt: skip
NEEDED = "percept.infer.load, percept.infer.labels, percept.infer.clips, percept.data.files"


@pytest.mark.parametrize("imports", ["percept.infer.load", NEEDED])
def test_loading_imports_nothing_heavy(imports: str) -> None:
    program = f"import {imports}, sys; print(*(name for name in {FORBIDDEN!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_generating_the_world_imports_no_torch() -> None:
    parts = ("write", "clips", "qa", "documents", "rooms", "referring", "claims", "noise", "languages", "graph")
    program = f"import sys, {', '.join(f'percept.world.{part}' for part in parts)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_the_first_image_imports_no_compiler_and_no_training_library() -> None:
    program = (
        "import numpy, sys, percept; percept.load('nano').image(numpy.zeros((8, 8, 3), 'uint8')); "
        "print(*(name for name in ('torch._dynamo', 'torch._inductor', 'onnxruntime', 'sklearn', 'av') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
