"""Run lmms-eval with our adapter on tasks written here, and compare with the same questions asked directly.

    sh benchmarks/lmms/environment.sh
    .venv-lmms/bin/python benchmarks/lmms/run.py --model FOLDER

Two tasks of the generated world: answers in words to questions about one and about several images, in batches, as chat messages; and
options ranked by likelihood. lmms-eval has to find the answers that the model gives when it is asked without it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

import percept
from percept.core.io import write_json
from percept.data.chat.conversation import ImageInput
from percept.eval.vlm.choices import most_likely
from percept.eval.vlm.item import ask
from percept.world.qa import example

HERE = Path(__file__).parent
KINDS = ("colour", "side", "which_image")
MOST = 16
UTILS = """
from pathlib import Path
from PIL import Image

def visual(doc):
    return [Image.open(Path(__file__).parent / name).convert("RGB") for name in doc["images"]]

def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]

def choices(doc):
    return doc["choices"]

def target(doc):
    return doc["choices"].index(doc["answer"])

def results(doc, answers):
    return {"exact": float(answers[0].strip() == doc["answer"])}
"""
SHARED = """
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
"""
WORDS = (
    SHARED
    + """
task: percept_words
output_type: generate_until
doc_to_target: answer
generation_kwargs: {{max_new_tokens: {most}, temperature: 0}}
process_results: !function utils.results
metric_list: [{{metric: exact, aggregation: mean, higher_is_better: true}}]
"""
)
OPTIONS = (
    SHARED
    + """
task: percept_options
output_type: multiple_choice
doc_to_target: !function utils.target
doc_to_choice: !function utils.choices
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
)


def write_tasks(folder: Path, count: int) -> list[dict[str, Any]]:
    """Write images, rows and task files; return the rows."""
    rows = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        drawn = example(number, kind=kind, split="evaluation")
        names = []
        for place, rendering in enumerate(drawn.images):
            names.append(f"{number}-{place}.png")
            Image.fromarray(rendering.image).save(folder / names[-1])
        pair = drawn.pairs[0]
        rows.append({"images": names, "question": pair.question, "answer": pair.answer, "choices": list(pair.choices)})
    data = folder / "test.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "utils.py").write_text(UTILS)
    (folder / "words.yaml").write_text(WORDS.format(data=data, most=MOST))
    (folder / "options.yaml").write_text(OPTIONS.format(data=data))
    return rows


def asked_directly(model: str, folder: Path, rows: list[dict[str, Any]]) -> tuple[list[str], float]:
    """Return the answers in words, and the accuracy by likelihood."""
    assistant: Any = percept.assistant(model)
    prompts = [ask(row["question"], [ImageInput(source=folder / name) for name in row["images"]]) for row in rows]
    said = assistant.answers(prompts, max_new_tokens=MOST)
    right = [
        row["choices"][most_likely(assistant.scores(prompt, row["choices"]))] == row["answer"]
        for prompt, row in zip(prompts, rows, strict=True)
    ]
    return [text.strip().removesuffix(".") for text in said], sum(right) / len(right)


def lmms_eval(folder: Path, model: str, task: str, *options: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run lmms-eval in a process of its own; return its results and its log of samples."""
    out = folder / f"out-{task}"
    command = [
        sys.executable, "-m", "lmms_eval", "--model", "percept", "--model_args", f"pretrained={model}", "--tasks", task,
        "--include_path", str(folder), "--output_path", str(out), "--log_samples", "--batch_size", "8", *options,
    ]  # fmt: skip
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    subprocess.run(command, check=True, env={**os.environ, **offline})
    (results,) = out.rglob("*_results.json")
    (samples,) = out.rglob(f"*_samples_{task}.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    return json.loads(results.read_text())["results"][task], sorted(lines, key=lambda line: line["doc_id"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="name or folder")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    chosen = parser.parse_args()
    model = str(Path(chosen.model).resolve()) if Path(chosen.model).exists() else chosen.model
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = write_tasks(folder, chosen.count)
        texts, likely = asked_directly(model, folder, rows)
        exact = sum(text == row["answer"] for text, row in zip(texts, rows, strict=True)) / len(rows)
        words, samples = lmms_eval(folder, model, "percept_words")
        options, _ = lmms_eval(folder, model, "percept_options", "--force_simple")
    logged = [str(sample["filtered_resps"]).strip() for sample in samples]
    result = {
        "command": " ".join(["benchmarks/lmms/run.py", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("percept-models", "lmms_eval", "torch")},
        "seconds": round(time.perf_counter() - start),
        "n": len(rows),
        "words": {
            "lmms_eval": words["exact,none"],
            "direct": exact,
            "equal_answers": sum(map(str.__eq__, logged, texts)),
        },
        "options": {"lmms_eval": options["acc,none"], "direct": likely},
        "examples": [
            {"question": row["question"], "reference": row["answer"], "direct": text, "lmms_eval": other}
            for row, text, other in list(zip(rows, texts, logged, strict=True))[:3]
        ],
    }
    write_json(chosen.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
