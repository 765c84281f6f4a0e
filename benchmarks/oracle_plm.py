"""Run transformers' PerceptionLM on request; started by plm.py in an environment of its own.

    sh benchmarks/oracles.sh FOLDER && FOLDER/bin/pip install transformers    # then: python benchmarks/plm.py --oracle FOLDER

The arguments are the folder of a model, threads and new tokens. A line of json is printed when the model is ready; then for each
input line, such as `decode 3` for three answers, the seconds and tokens of one answer. It does not import percept.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from oracle import declare


def main() -> None:
    folder, threads, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    operators = declare()
    transformers = importlib.import_module("transformers")
    model: Any = transformers.PerceptionLMForConditionalGeneration.from_pretrained(folder).eval()
    del operators
    given = torch.load(folder / "prompt.pt", weights_only=True)
    ids, tiles = given["ids"], given["tiles"][None]
    options = {
        "max_new_tokens": count,
        "min_new_tokens": count,
        "do_sample": False,
        "eos_token_id": None,
        "pad_token_id": 0,
    }

    @torch.inference_mode()
    def answer() -> Any:
        return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=tiles, **options)[
            0, ids.shape[1] :
        ]

    print(json.dumps({"version": transformers.__version__, "tokens": answer().tolist()}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            answer()
        print(json.dumps({"seconds": (time.perf_counter() - start) / int(line)}), flush=True)


if __name__ == "__main__":
    main()
