"""Fusioner on the frozen features of nano: classes never seen in training, and mosaics of four images.

    python benchmarks/fusioner.py --folder runs/fusioner --json-file benchmarks/fusioner.json

Runs, each with its own seed and its own 25 of the 100 categories held out. Every arm is trained on the same images, names and steps:
    fusion     the method, on patches in the space of the texts
    linear     a linear map of the patches, and the cosine with the text
    no text    fusion with every text replaced by one vector: it can find things but not which one is named
    zero-shot  no training: the cosine of patch and text above a threshold that was chosen on the training images
    chance     pixels at random, as many as fusion marks
With --patches tokens, the patches are tokens that bypass the pooling head: a pair of towers without a common space.
Only classes that an image shows are named, as in the paper; the share of pixels marked for a class that it does not show is given too.
Intervals are over runs and images. With --json-file, the counts of every query go to a .npz with the same name.
A finished arm of a run is not computed again.
"""

import argparse
import time
from dataclasses import dataclass
from itertools import count as numbers
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fusioner_scores import chance, described, gap, miou, read_rows, save_rows
from harness import facts, save
from torch import Tensor, nn
from torch.nn import functional as F

import percept
from percept.core.io import read_json, write_json
from percept.core.report import out, table
from percept.infer.labels import class_vectors
from percept.losses.segmentation import mask_bce
from percept.methods.segmentation.fusioner import Fusioner
from percept.world import CATEGORIES, render, sample_scene

SIDE, UNSEEN, BATCH = 48, 25, 8
CONFIG = Fusioner.Config(width=64, layers=2, heads=4, scales=(2,))
TRAINED = ("fusion", "linear", "no text")
EVALUATED, SINGLES = 150, 120
"""Images for seen and unseen classes, and images of one thing that make the mosaics."""
SETS = ("seen", "unseen", "mosaic")


@dataclass(frozen=True, kw_only=True, eq=False)
class Set:
    """Images with features, and their queries (image, class, whether the image shows it)."""

    vectors: Tensor
    ids: Tensor
    """Category plus 1 at each pixel; 0 for the background."""
    queries: list[tuple[int, int]]
    absent: list[tuple[int, int]]


class Linear(nn.Module):
    """A linear map of the patches to the space of the texts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, width)
        nn.init.eye_(self.map.weight)
        self.scale, self.shift = nn.Parameter(torch.tensor(14.0)), nn.Parameter(torch.tensor(-4.0))

    def logits(self, patches: Tensor, text: Tensor) -> Tensor:
        """Return scaled cosines on the grid of patches."""
        mapped = F.normalize(self.map(patches), dim=-1)
        return self.scale * torch.einsum("bhwd,bd->bhw", mapped, text) + self.shift


def rendered(split: str, first: int, things: tuple[int, int], only: set[int] | None = None) -> Any:
    """Yield images and category masks of scenes without end, of all categories or only of some."""
    names = list(CATEGORIES)
    for number in numbers(first):
        scene = sample_scene(number, split=split, things=things)
        if only is not None and not {names.index(thing.category) for thing in scene.things} <= only:
            continue
        found = render(scene, size=96)
        ids = np.zeros((96, 96), np.uint8)
        assert found.masks is not None
        for thing, mask in zip(found.scene.things, found.masks, strict=True):
            ids[mask] = names.index(thing.category) + 1
        yield found.image, ids


@torch.no_grad()
def features(task: Fusioner, encoder: Any, images: np.ndarray, patches: str) -> Tensor:
    """Return the unit vectors of patches: in the space of the texts, or tokens that bypass the pooling head."""
    pixels = encoder.preprocess.normalise(torch.from_numpy(images).permute(0, 3, 1, 2))
    if patches == "value":
        return torch.cat([task.patches(part) for part in pixels.split(32)])
    seen = [task.clip.vision(part, pool=False) for part in pixels.split(32)]
    return torch.cat([F.normalize(each.tokens[:, each.prefix :].unflatten(1, each.grid), dim=-1) for each in seen])


def made(
    task: Fusioner, encoder: Any, pairs: list[Any], classes: set[int], seed: int, patches: str, least: int = 12
) -> Set:
    """Return a set; queries are the classes of `classes` with at least `least` pixels of the small mask."""
    images, ids = (np.stack(column) for column in zip(*pairs, strict=True))
    return asked(features(task, encoder, images, patches), ids, classes, seed, least)


def asked(vectors: Tensor, ids: np.ndarray, classes: set[int], seed: int, least: int = 12) -> Set:
    """Return a set of images whose vectors are known."""
    small = torch.from_numpy(ids[:, 1::2, 1::2].copy())
    rng, queries, absent = np.random.default_rng(seed), [], []
    for place, each in enumerate(small):
        numbers, counts = each.unique(return_counts=True)
        shown = {int(number) - 1 for number, count in zip(numbers, counts, strict=True) if number and count >= least}
        queries += [(place, number) for number in sorted(shown & classes)]
        others = sorted(classes - {int(number) - 1 for number in numbers})
        absent.append((place, int(rng.choice(others))))
    return Set(vectors=vectors, ids=small, queries=queries, absent=absent)


def mosaics(pairs: list[Any]) -> list[Any]:
    """Return mosaics of four images each, at half of their size; the classes of a mosaic differ."""
    rows = []
    for start in range(0, len(pairs) - 3, 4):
        four = pairs[start : start + 4]
        kinds = [set(np.unique(ids).tolist()) - {0} for _, ids in four]
        if len(set().union(*kinds)) < sum(map(len, kinds)):
            continue
        halves = [
            (F.avg_pool2d(torch.from_numpy(image).permute(2, 0, 1).float(), 2).round().byte().permute(1, 2, 0).numpy(), ids[::2, ::2])
            for image, ids in four
        ]  # fmt: skip
        rows.append(tuple(np.concatenate([np.concatenate([halves[0][k], halves[1][k]], 1), np.concatenate([halves[2][k], halves[3][k]], 1)]) for k in (0, 1)))  # fmt: skip
    return rows


def sets_of(task: Fusioner, encoder: Any, seed: int, images: int, patches: str) -> tuple[dict[str, Set], set[int]]:
    """Return the training set and the evaluation sets of one run, and its unseen classes."""
    order = np.random.default_rng(100).permutation(len(CATEGORIES))
    unseen = set(order[seed * UNSEEN : (seed + 1) * UNSEEN].tolist())
    seen = set(range(len(CATEGORIES))) - unseen
    train = list(islice(rendered("train", 100_000 * (seed + 1), (1, 4)), images))
    evaluation = list(islice(rendered("evaluation", 100_000 * (seed + 1), (1, 4)), EVALUATED))
    singles = list(islice(rendered("evaluation", 500_000 * (seed + 1), (1, 1), unseen), SINGLES))
    return {
        "train": made(task, encoder, train, seen, seed, patches),
        "seen": made(task, encoder, evaluation, seen, seed, patches),
        "unseen": made(task, encoder, evaluation, unseen, seed, patches),
        "mosaic": made(task, encoder, mosaics(singles), unseen, seed, patches),
    }, unseen


def inputs(arm: str, data: Set, rows: list[tuple[int, int]], texts: Tensor) -> tuple[Tensor, Tensor]:
    """Return patches and texts of queries, as an arm takes them."""
    places, classes = (list(column) for column in zip(*rows, strict=True))
    words = texts.mean(dim=0, keepdim=True).expand(len(rows), -1) if arm == "no text" else texts[classes]
    return data.vectors[places], F.normalize(words, dim=-1)


def truth(data: Set, rows: list[tuple[int, int]], ignored: set[int]) -> Tensor:
    """Return masks of queries: 1 on the class, 255 on classes that must not be learned."""
    masks = []
    for place, number in rows:
        ids = data.ids[place].long()
        mask = (ids == number + 1).long()
        for each in ignored:
            mask[ids == each + 1] = 255
        masks.append(mask)
    return torch.stack(masks)


def enlarged(logits: Tensor) -> Tensor:
    """Bring logits to the size of the masks."""
    return F.interpolate(logits[:, None], (SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]


def train(arm: str, model: Any, data: Set, texts: Tensor, unseen: set[int], seed: int, steps: int) -> list[float]:
    """Train one arm; AdamW with a rate of 1e-3, 10 steps of warm-up, then cosine. Return the losses."""
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1, (step + 1) / 10) * (0.5 + 0.5 * np.cos(np.pi * step / steps))
    )
    rng, losses = np.random.default_rng(seed), []
    for _ in range(steps):
        rows = [data.queries[place] for place in rng.integers(0, len(data.queries), BATCH)]
        loss = mask_bce(enlarged(model.logits(*inputs(arm, data, rows, texts))), truth(data, rows, unseen))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        losses.append(float(loss.detach()))
    return losses


@torch.no_grad()
def judged(arm: str, model: Any, data: Set, texts: Tensor) -> dict[str, Any]:
    """Return a row of benchmarks/fusioner_scores.py per query, and the mean share of pixels marked for absent classes."""
    rows = []
    for start in range(0, len(data.queries), 32):
        part = data.queries[start : start + 32]
        found = enlarged(model.logits(*inputs(arm, data, part, texts))) > 0
        true = truth(data, part, set()) == 1
        counts = [(found & true), (found | true), found, true]
        sums = torch.stack([each.flatten(1).sum(1) for each in counts], 1).tolist()
        rows += [[number, *each, place] for (place, number), each in zip(part, sums, strict=True)]
    marked = [
        float((enlarged(model.logits(*inputs(arm, data, data.absent[start : start + 32], texts))) > 0).float().mean())
        for start in range(0, len(data.absent), 32)
    ]
    return {"rows": rows, "absent": float(np.mean(marked))}


class ZeroShot(nn.Module):
    """The cosine of patch and text above a threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def logits(self, patches: Tensor, text: Tensor) -> Tensor:
        """Return cosines minus the threshold."""
        return torch.einsum("bhwd,bd->bhw", patches, text) - self.threshold


def threshold_on(data: Set, texts: Tensor) -> float:
    """Return the threshold with the best mean IoU on training images."""
    few = Set(vectors=data.vectors, ids=data.ids, queries=data.queries[:150], absent=data.absent[:4])
    choices = np.arange(0.05, 0.6, 0.025).tolist()
    return max(choices, key=lambda value: miou(np.array(judged("zero-shot", ZeroShot(value), few, texts)["rows"])))


def one_run(seed: int, folder: Path, images: int, steps: int, patches: str) -> None:
    """Train and judge all arms of one run that are not finished."""
    arms = [arm for arm in (*TRAINED, "zero-shot") if not (folder / f"{seed} {arm}.json").exists()]
    if not arms:
        return
    encoder = percept.load("nano", dtype="float32")
    torch.manual_seed(seed)
    data, unseen = sets_of(Fusioner(CONFIG, encoder.model), encoder, seed, images, patches)
    texts = class_vectors(encoder, list(CATEGORIES))
    for arm in arms:
        torch.manual_seed(seed)
        start, losses = time.perf_counter(), [0.0]
        if arm == "zero-shot":
            model: Any = ZeroShot(threshold_on(data["train"], texts))
        else:
            model = Linear(texts.shape[1]) if arm == "linear" else Fusioner(CONFIG, encoder.model)
            losses = train(arm, model, data["train"], texts, unseen, seed, steps)
        results = {name: judged(arm, model.eval(), data[name], texts) for name in SETS}
        seconds = round(time.perf_counter() - start, 1)
        write_json(
            folder / f"{seed} {arm}.json", {"loss": float(np.mean(losses[-20:])), "seconds": seconds, "sets": results}
        )
        out.print(
            f"run {seed}, {arm}: {seconds} s, "
            + ", ".join(f"{name} {miou(np.array(results[name]['rows'])):.3f}" for name in SETS)
        )


def summary(folder: Path, seeds: int) -> dict[str, Any]:
    """Return mean IoU over the runs, and the differences between fusion and the other arms."""
    result: dict[str, Any] = {}
    for arm in (*TRAINED, "zero-shot"):
        stored = [read_json(folder / f"{seed} {arm}.json") for seed in range(seeds)]
        result[arm] = {
            "seconds": [each["seconds"] for each in stored],
            "final loss": [round(each["loss"], 4) for each in stored],
        }
        for name in SETS:
            runs = read_rows(folder, arm, name, seeds)
            result[arm][name] = described(runs, shared=False)
            result[arm][name]["marked for absent classes"] = round(
                float(np.mean([each["sets"][name]["absent"] for each in stored])), 4
            )
            if arm == "fusion":
                result.setdefault("chance", {})[name] = described(
                    [chance(rows, SIDE**2) for rows in runs], shared=False
                )
    result["differences"] = {
        f"fusion minus {arm}": {
            name: gap(*(read_rows(folder, each, name, seeds) for each in ("fusion", arm)), shared=False)
            for name in SETS
        }
        for arm in ("zero-shot", "linear", "no text")
    }
    return result


def main() -> None:
    """Run what is not finished, then write the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the results of finished arms")
    parser.add_argument("--json-file", type=Path)
    parser.add_argument("--images", type=int, default=240, help="training images of a run")
    parser.add_argument("--runs", type=int, default=3, help="each with its own seed and its own unseen classes")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--patches", choices=("value", "tokens"), default="value", help="what the image tower gives")
    chosen = parser.parse_args()
    start = time.perf_counter()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for seed in range(chosen.runs):
        one_run(seed, chosen.folder, chosen.images, chosen.steps, chosen.patches)
    result = summary(chosen.folder, chosen.runs)
    arms = [*TRAINED, "zero-shot", "chance"]
    rows = [
        (
            arm,
            *(
                f"{100 * result[arm][name]['mIoU']:.1f} [{100 * result[arm][name]['low']:.1f} - {100 * result[arm][name]['high']:.1f}]"
                for name in SETS
            ),
        )
        for arm in arms
    ]
    table("Mean IoU in percent", ("arm", *SETS), rows)
    about = {
        **facts(torch.device("cpu"), start),
        "images": chosen.images,
        "steps": chosen.steps,
        "patches": chosen.patches,
        "batch": BATCH,
        "unseen classes": UNSEEN,
    }
    save(
        chosen.json_file,
        {
            "run": about,
            "config": {
                "width": CONFIG.width,
                "layers": CONFIG.layers,
                "heads": CONFIG.heads,
                "scales": list(CONFIG.scales),
            },
            "arms": result,
        },
    )
    save_rows(
        chosen.json_file,
        {
            f"{arm}, {name}, {seed}": rows
            for arm in (*TRAINED, "zero-shot")
            for name in SETS
            for seed, rows in enumerate(read_rows(chosen.folder, arm, name, chosen.runs))
        },
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
