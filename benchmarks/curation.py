"""Curation of noisy, imbalanced data: zero-shot accuracy at an equal training budget, and the cost of a million rows.

    python benchmarks/curation.py effect --json-file benchmarks/curation_effect.json
    python benchmarks/curation.py scale --json-file benchmarks/curation_scale.json

effect: 30 % of the captions belong to another image, 10 % say nothing, 20 % of the images are copies, and categories have Zipf frequencies.
The word list of the balance holds the nouns of the world, as the lists of the paper hold those of WordNet.
Every arm trains the small model of `small_clip.py` for the same steps on its rows; the score step uses the model that the raw rows trained.
scale: the command `percept curate` on a million captions: seconds, and the largest memory of all its processes together.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch
from small_clip import NAMES, Noise, Small, Test, noisy_rows, paired, singles_of, stored, train, zero_shot

import percept
from percept.core.report import err
from percept.data.curate.pipeline import Curation
from percept.data.curate.step import Tools, make_steps
from percept.data.tokenizers import Tokenizer

CONTEXT = 32
RULES, COPIES = ["texts"], ["exact-images", "near-images"]
ARMS: dict[str, list[str]] = {
    "text rules": RULES,
    "rules, copies, balance": [*RULES, *COPIES, "balance"],
    "rules, copies, score, balance": [*RULES, *COPIES, "score", "balance"],
}
SETTINGS: dict[str, Any] = {
    "score": {"top": 0.7},
    "balance": {"tail": 0.35},
}


def curated(source: Path, out: Path, steps: Sequence[str], tools: Tools) -> list[dict[str, Any]]:
    """Run steps and return the rows."""
    import pyarrow.parquet as pq

    (source.parent / "nouns.txt").write_text("\n".join(NAMES))
    settings = {name: dict(value) for name, value in SETTINGS.items() if name in steps}
    if "balance" in settings:
        settings["balance"]["words"] = [str(source.parent / "nouns.txt")]
    Curation(source=source, out=out, steps=make_steps(steps, settings), tools=tools, workers=1).run()
    return [row for file in sorted(out.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def scorer(model: Small, known: dict[bytes, torch.Tensor]) -> Tools:
    """Return the small model as the model of the score step; its locked tower has seen the images already."""
    return Tools(
        name="small",
        dim=64,
        images=lambda images: model.images(torch.stack([known[image] for image in images if isinstance(image, bytes)])),
        texts=model.texts,
    )


def run_seed(encoder: Any, test: Test, seed: int, count: int, steps: int) -> dict[str, dict[str, float]]:
    """Train every arm on the rows of one seed; return accuracy, rows and shares by arm."""
    rows = noisy_rows(count, Noise(), seed)
    vectors = encoder.image([row["image"] for row in rows])
    place = {row["key"]: number for number, row in enumerate(rows)}
    tokenizer = Tokenizer.train([row["caption"] for row in rows], vocab_size=800, context=CONTEXT)
    found: dict[str, dict[str, float]] = {}

    def arm(name: str, chosen: Sequence[dict[str, Any]]) -> Small:
        places = torch.tensor([place[row["key"]] for row in chosen])
        model = train(vectors[places], [[row["caption"]] for row in chosen], tokenizer, steps=steps, seed=seed)
        right = zero_shot(model, test)
        tail = test.labels >= len(NAMES) * 2 // 3
        found[name] = {
            "accuracy": float(right.mean()),
            "accuracy on the rarest third": float(right[tail].mean()),
            "rows": len(chosen),
            "mismatched": float(np.mean([rows[number]["mismatch"] for number in places.tolist()])),
            "largest category": float(np.bincount([NAMES.index(rows[number]["category"]) for number in places.tolist()]).max() / len(chosen)),
        }  # fmt: skip
        err.print(seed, name, found[name])
        return model

    raw = arm("raw", rows)
    tools = scorer(raw, {row["image"]: vector for row, vector in zip(rows, vectors, strict=True)})
    with tempfile.TemporaryDirectory() as folder:
        source = stored(Path(folder) / "source", rows)
        kept = rows
        for name, chosen in ARMS.items():
            kept = curated(source, Path(folder) / name, chosen, tools)
            arm(name, kept)
    random = np.random.default_rng(seed).choice(len(rows), len(kept), replace=False)
    arm("random rows, as many", [rows[number] for number in random])
    return found


def effect(arguments: argparse.Namespace) -> dict[str, Any]:
    encoder = percept.load("nano")
    test = singles_of(encoder, arguments.test, seed=10_000)
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    runs = [run_seed(encoder, test, seed, arguments.rows, arguments.steps) for seed in seeds]
    arms = {name: {key: [round(run[name][key], 4) for run in runs] for key in runs[0][name]} for name in runs[0]}
    gains = {}
    if len(runs) > 1:
        for name, values in arms.items():
            gains[name] = {
                key: paired(values[key], arms["raw"][key]) for key in ("accuracy", "accuracy on the rarest third")
            }
    return {
        "rows": arguments.rows, "steps": arguments.steps, "test images": arguments.test, "categories": len(NAMES),
        "settings": SETTINGS, "noise": vars(Noise()), "arms": arms, "gain over raw, 95 % interval over seeds": gains,
    }  # fmt: skip


WORDS = 40_000


def many_rows(file: Path, count: int) -> None:
    """Write captions of words with Zipf frequencies; some are repeated, nearly repeated, or say nothing."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnoprstuvwyz"))
    words = ["".join(rng.choice(letters, rng.integers(3, 9))) for _ in range(WORDS)]
    chances = 1 / (np.arange(WORDS) + 10)
    with file.open("w", encoding="utf-8") as stream:
        for start in range(0, count, 10_000):
            drawn = rng.choice(WORDS, (10_000, 10), p=chances / chances.sum())
            lengths, kinds = rng.integers(4, 11, 10_000), rng.random(10_000)
            for number, (row, length, kind) in enumerate(zip(drawn, lengths, kinds, strict=True), start=start):
                text = "untitled" if kind < 0.05 else " ".join(words[word] for word in row[:length])
                stream.write(json.dumps({"id": number, "caption": text, "image": f"{number}.jpg"}) + "\n")
                if kind > 0.9:
                    stream.write(
                        json.dumps({"id": f"{number}b", "caption": f"{text}!" if kind > 0.95 else f"{text} new"}) + "\n"
                    )


def memory(process: int) -> int:
    """Return the bytes that a process and its children hold, shared pages counted once (Linux)."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(") ", 1)[1].split()[1])
            if process in (int(folder.name), parent):
                lines = (folder / "smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) << 10
        except (OSError, StopIteration, ValueError):
            continue
    return total


def scale(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many_rows(folder / "rows.jsonl", arguments.rows)
        steps = "texts,exact-texts,near-texts,balance"
        command = [sys.executable, "-m", "percept", "curate", str(folder / "rows.jsonl"), "--out", str(folder / "out")]
        begin, most = time.perf_counter(), 0
        running = subprocess.Popen([*command, "--steps", steps, "--workers", str(arguments.workers)])
        while running.poll() is None:
            most = max(most, memory(running.pid))
            time.sleep(0.5)
        seconds = time.perf_counter() - begin
        if running.returncode:
            raise SystemExit(running.returncode)
        report = json.loads((folder / "out" / "report.json").read_text())
        counts = {one["step"]: one["rows after"] for one in report["steps"]}
    return {
        "steps": steps, "workers": arguments.workers, "rows": report["rows in the source"], "rows after": counts,
        "entries": report["steps"][-1]["entries"], "seconds": round(seconds, 1),
        "rows per second": round(report["rows in the source"] / seconds), "largest memory MB": round(most / 1e6),
        "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("effect", "scale"))
    parser.add_argument("--rows", type=int, default=None, help="rows of the source: 4,000, or a million")
    parser.add_argument("--steps", type=int, default=400, help="training steps of an arm")
    parser.add_argument("--test", type=int, default=1000, help="test images")
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--workers", type=int, default=2, help="processes of the curation")
    parser.add_argument("--json-file", type=Path, default=None, help="file of the result")
    arguments = parser.parse_args()
    arguments.rows = arguments.rows or {"effect": 4000, "scale": 1_000_000}[arguments.part]
    start = time.perf_counter()
    result = {"effect": effect, "scale": scale}[arguments.part](arguments)
    harness.save(arguments.json_file, {**harness.facts(torch.device("cpu"), start), "result": result})


if __name__ == "__main__":
    main()
