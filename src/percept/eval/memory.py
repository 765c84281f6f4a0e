"""Memory of a model: its weights, and the peak of a process that opens it and embeds one batch of images."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from percept.eval.statistics import Score

NAME = "memory"
CHILD = """
import json, sys
from pathlib import Path
import torch
from percept.infer.load import load
from percept.train.meters import peak_memory

model, options = json.loads(sys.argv[1])
encoder = load(model, **{key: Path(value) if key in ("weights", "tokenizer") and value else value for key, value in options.items()})
encoder = getattr(encoder, "encoder", encoder)
size = encoder.model.config.vision.image_size
list(encoder.hidden(torch.zeros(encoder.setting.batch, 3, size, size), -1)) if not encoder.dim else encoder.image(
    torch.zeros(encoder.setting.batch, 3, size, size))
weights = sum(tensor.numel() * tensor.element_size() for tensor in encoder.model.state_dict().values())
print(json.dumps({"weights": weights, "peak": peak_memory(encoder.setting.device)}))
"""


def memory(model: str, options: Mapping[str, Any]) -> list[Score]:
    """Return the scores of a model opened in a process of its own; none if that process fails.

    The peak is that of tensors on a GPU and of the whole process elsewhere, libraries included.

    Args:
        model: name or folder.
        options: keyword arguments of `percept.load` that json can hold.
    """
    values = {key: str(value) if key in ("weights", "tokenizer") and value else value for key, value in options.items()}
    call = [sys.executable, "-c", CHILD, json.dumps([model, values])]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        return []
    found = json.loads(done.stdout.splitlines()[-1])
    names = {"weights": "weights", "peak": "peak while a batch is embedded"}
    return [_measured_once(name, found[key] / 1e6) for key, name in names.items() if found[key]]


def _measured_once(name: str, value: float) -> Score:
    return Score(name=name, value=value, unit="MB", better="less", n=1, low=value, high=value)
