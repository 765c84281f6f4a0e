"""What `percept teach` gives on small folders of drawings, and how well "none of these" is found.

    PERCEPT_CACHE=... python benchmarks/corpora.py fetch
    PERCEPT_CACHE=... python benchmarks/teach.py --model FIRST_EDITION --json-file benchmarks/teach.json
    PERCEPT_CACHE=... python benchmarks/teach.py --vendors openmoji --least 3 --json-file benchmarks/teach_openmoji.json

Each seed draws 15 kinds of emoji at random (docs/corpora.md) among those with enough drawings: 118 drawings by four vendors, at most 8 of a kind. Every drawing is held out
once. The second edition of nano was trained on the drawings of google, twitter and fluent, so for it only those of openmoji measure more than memory.
    zero-shot      the names of the kinds
    linear probe   logistic regression on the vectors, its weight decay chosen on a quarter of the training images
    taught         what `percept teach` learns
With 1 and 2 images of each class the same three are trained on these and tested on the others.
None of these: drawings of kinds that are not among the 15. Taught labels call an image "none" by what they learned from leaving out classes
in turn, which also predicts how many are found; the threshold is that which 95 % of the held-out images reach. Text labels let other nouns compete, of which the names of the other drawings are taken out: nobody lists what is missing.
Intervals: 95 %, over seeds by Student's t.
"""

import argparse
import csv
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from harness import facts, save

import percept
from percept.core.report import out, table
from percept.data.sources.index import cache_home
from percept.eval.calibration import auroc
from percept.eval.probes.linear import fit_linear
from percept.eval.teach import Images, teach
from percept.eval.teach_fit import Prior, fit
from percept.infer.labeller import AUTO, labeller
from percept.infer.labels import class_vectors
from percept.world.objects import CATEGORIES

KINDS, MOST, IMAGES = 15, 8, 118
T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Quantile of Student's t for a two-sided 95 % interval, by the number of seeds."""


def drawings(vendors: list[str] | None) -> dict[str, list[Path]]:
    """Return the drawings of every kind of emoji, by some vendors or by all."""
    folder = cache_home().parent / "corpora" / "emoji"
    kinds: dict[str, list[Path]] = {}
    with (folder / "all.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["label"] and (vendors is None or row["vendor"] in vendors):
                kinds.setdefault(row["label"], []).append(folder / row["path"])
    return kinds


def make_folder(kinds: dict[str, list[Path]], least: int, seed: int, folder: Path) -> list[str]:
    """Write a folder of class folders of at least so many drawings, and return the names of the classes."""
    rng = np.random.default_rng(seed)
    large = sorted(kind for kind, files in kinds.items() if len(files) >= least)
    names = sorted(rng.choice(large, KINDS, replace=False).tolist())
    chosen = [(name, kinds[name][place]) for name in names for place in rng.permutation(len(kinds[name]))[:MOST]]
    for place in sorted(rng.permutation(len(chosen))[:IMAGES]):
        name, file = chosen[place]
        target = folder / name.replace(" ", "_")
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target / f"{file.parent.name}_{file.name}")
    return names


def measure(encoder: Any, kinds: dict[str, list[Path]], least: int, seed: int) -> dict[str, float]:
    """Return the numbers of one seed."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "drawings"
        names = make_folder(kinds, least, seed, folder)
        begin = time.process_time()
        lesson = teach(encoder, folder, seed=seed)
        seconds = time.process_time() - begin
        known = lesson.images.vectors
    found = {score.name: score.value for score in lesson.scores}
    found["images"] = float(len(known))
    found |= {"calibration error": lesson.taught.facts["calibration error"], "processor seconds": seconds}
    found |= few_shots(encoder, lesson.images, names, seed)
    rest = [name for name in CATEGORIES if name not in names]
    other, absent = rest[::2], rest[1::2]
    strange = encoder.files([file for name in absent for file in kinds.get(name, ())]).vectors
    taught = labeller(encoder, lesson.taught, none_below=AUTO)
    with patch("percept.world.objects.CATEGORIES", tuple(other)):
        texts = labeller(encoder, names, none_below=AUTO)
    plain = labeller(encoder, names)
    shares = taught.probabilities(strange)
    found["taught: share of others called none"] = float((taught.none(shares) >= 0).double().mean())
    assert lesson.none is not None
    found["taught: share of others called none, as predicted"] = lesson.none.found.value
    found["taught: share of known images that keep a label"] = lesson.none.kept.value
    below = labeller(encoder, lesson.taught, none_below=lesson.taught.least)
    found["threshold: share of others called none"] = float(
        (below.none(below.probabilities(strange)) >= 0).double().mean()
    )
    found["texts: share of known images that keep a label"] = float(
        (texts.none(texts.probabilities(known)) < 0).double().mean()
    )
    found["texts: share of others called none"] = float((texts.none(texts.probabilities(strange)) >= 0).double().mean())
    right = np.repeat([True, False], [len(known), len(strange)])
    both = torch.cat([known, strange])
    found["texts: AUROC, other nouns compete"] = auroc(texts.probabilities(both).sum(dim=1).clamp(0, 1).numpy(), right)
    found["texts: AUROC, probability of the best"] = auroc(plain.probabilities(both).max(dim=1).values.numpy(), right)
    return found


def few_shots(encoder: Any, images: Images, names: list[str], seed: int) -> dict[str, float]:
    """Return the accuracy of a probe and of taught labels from one and two images of each class."""
    prior = Prior(texts=class_vectors(encoder, names).float(), scale=encoder.scale)
    rng, found = np.random.default_rng(seed), {}
    for shots in (1, 2):
        rows = [np.flatnonzero(images.labels.numpy() == number) for number in range(len(names))]
        train = np.concatenate([rng.permutation(own)[:shots] for own in rows])
        test = np.flatnonzero(~np.isin(images.groups, images.groups[train]))
        vectors, labels, truth = images.vectors[train], images.labels[train], images.labels[test]
        heads = {
            "linear probe": fit_linear(vectors, labels, len(names), seed=seed),
            "taught": fit(vectors, labels, prior, len(names), groups=np.arange(len(train)), seed=seed),
        }
        for name, head in heads.items():
            right = head(images.vectors[test]).argmax(dim=1) == truth
            found[f"{name}, {shots} shot{'s' * (shots > 1)}"] = float(right.double().mean())
    return found


def summary(values: list[float]) -> dict[str, Any]:
    """Return mean and interval over the seeds."""
    mean, half = float(np.mean(values)), T[len(values)] * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return {
        "mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4),
        "seeds": [round(value, 4) for value in values],
    }  # fmt: skip


def main() -> None:
    """Measure every seed and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json-file", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--vendors", nargs="+")
    parser.add_argument("--least", type=int, default=MOST, help="fewest drawings of a kind")
    parser.add_argument("--seeds", type=int, default=5, choices=sorted(T))
    chosen = parser.parse_args()
    start = time.perf_counter()
    encoder, kinds = percept.load(chosen.model, device="cpu"), drawings(chosen.vendors)
    rows = [measure(encoder, kinds, chosen.least, seed) for seed in range(chosen.seeds)]
    found = {name: summary([row[name] for row in rows]) for name in rows[0]}
    gains = {
        f"taught minus {name}": summary([row["taught"] - row[name] for row in rows])
        for name in ("zero-shot", "linear probe")
    }
    gains |= {
        f"taught minus linear probe, {shots}": summary(
            [row[f"taught, {shots}"] - row[f"linear probe, {shots}"] for row in rows]
        )
        for shots in ("1 shot", "2 shots")
    }
    found |= gains
    lines = [(name, f"{each['mean']:.3f} [{each['low']:.3f} - {each['high']:.3f}]") for name, each in found.items()]
    table(f"{KINDS} kinds, {chosen.seeds} seeds", ("number", "mean, 95 % interval"), lines)
    out.print(f"model: {encoder.identity}")
    save(chosen.json_file, {"run": facts(torch.device("cpu"), start), "model": str(encoder.identity), **found})


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
