"""DAS: what do skipped layers cost and save? Two fusion models x two tasks on the frozen towers of several encoders.

    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/das.py --models nano,runs/upgrade/small-0,runs/upgrade/small-1 \\
        --json-file benchmarks/adaptation/das.json

A fusion model (`methods/adaptation/fusion.py`) is trained on captions, then frozen. A cell is an encoder, a model, a task and a seed. Its arms are
adapters in every layer and LoRA at about the trainable count of DAS, the search of DAS, and a training for each set of skipped layers: the set that the
search found, first, last, and all others, which rank it. Runs are lines of --runs, so the command goes on where it stopped; `--sets` limits how many
sets of a cell are trained. FLOPs are those of the layers, adapters included, counted by torch; latency is a ratio of turns. One thread is used; two
processes may share the work, each with its own --runs file and its own --models, --kinds or --tasks; --report --runs ONE OTHER judges both.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beds import about, home
from das_data import ANSWERS, COUNTS, EACH, GRID, TASKS, WORDS, Data, Examples
from das_report import judged, show
from harness import Rate, Turns, save, take_turns, timed
from recorded import Record, Runs, files_of, of_one_setting, parser_of, read_files
from recorded import batches as rows_of_batches
from torch import Tensor, nn
from torch.nn import functional as F

import percept
from percept.core.io import load_tensors, save_tensors
from percept.core.report import out
from percept.core.seed import derive
from percept.methods.adaptation.bench import digest
from percept.methods.adaptation.fusion import CoAttention, FusionConfig, Pairs, SingleStream
from percept.methods.adaptation.skipping import Bottleneck, Skips, make_skippable
from percept.nn.lora import add_lora
from percept.train.meters import operations

SIZES = {"single-stream": (SingleStream, 6), "co-attention": (CoAttention, 3)}
"""Class, and layers of one stream, so that both have six candidates."""
WIDTH, SKIP, HIDDEN = 64, 2, 8
"""Channels, skipped layers, and hidden width of the adapters in a layer: as many channels of 64 as 96 of 768."""
REPLACEMENT = {"single-stream": 16, "co-attention": 24}
"""Hidden width of the adapter in place of a layer: as many channels of 64 as ViLT's 192 and METER's 288 of 768."""
BATCH, STEPS, RATE = 32, 500, 2e-3
PRETRAINING, LARGE = 500, 64
"""Steps and batch of the training on captions."""
WARMUP, EVERY, JUDGED = 0.25, 10, 128
"""Of the search: share of the steps without search steps, training steps for each of them, and samples for rewards."""
FIRST = 5
"""Sets of a cell that are trained before the search with the published reward is run; the choice that is compared is that with standardised rewards."""

KEY = ("foundation", "weights", "model", "task", "seed", "arm", "settings")
"""Fields that identify a run."""


def settings() -> str:
    """Return a short hash of what changes the result of a run, besides the fields of `KEY`."""
    sizes = {kind: layers for kind, (_, layers) in SIZES.items()}
    return digest([sizes, WIDTH, SKIP, HIDDEN, REPLACEMENT, BATCH, STEPS, RATE, PRETRAINING, LARGE, WARMUP, EVERY, JUDGED, COUNTS, GRID, WORDS, ANSWERS, EACH])  # fmt: skip


def device_free(seed: int) -> torch.Generator:
    """Return a generator for the order of samples."""
    return torch.Generator().manual_seed(seed)


def batches(examples: Examples, steps: int, seed: int, size: int = BATCH) -> Iterator[Pairs]:
    """Yield batches of random examples, without repetition within a pass."""
    return map(examples.batch, rows_of_batches(len(examples), size, steps, device_free(seed)))


def train(
    parameters: Sequence[nn.Parameter],
    steps: int,
    loss: Callable[[int], Tensor],
    after: Callable[[int], None] = lambda _: None,
) -> None:
    """Take AdamW steps with a warm-up of 20 steps and a cosine."""
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = RATE * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
        value = loss(step)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        after(step)


def new_model(kind: str, data: Data) -> nn.Module:
    """Return an untrained fusion model."""
    made, layers = SIZES[kind]
    image, words = data.images["train"].shape[-1], data.words.encoder.model.config.text.width
    return made(FusionConfig(image_width=image, word_width=words, width=WIDTH, layers=layers))


def pretrained(kind: str, seed: int, data: Data, folder: Path) -> nn.Module:
    """Return a fusion model trained on captions: which belong to an image, and the next word of a cut one."""
    torch.manual_seed(derive(seed, "das", kind))
    model, file = new_model(kind, data), folder / f"{kind}-{seed}-{data.weights}-{settings()}.safetensors"
    if file.is_file():
        model.load_state_dict(load_tensors(file))
        return model.eval().requires_grad_(False)
    start, tasks = time.perf_counter(), (data.matching(), data.next_words())
    heads = nn.ModuleList(nn.Linear(WIDTH, each.classes) for each in tasks)
    sources = [batches(each, PRETRAINING, seed, LARGE) for each in tasks]
    losses = []

    def loss(_: int) -> Tensor:
        found = [_loss(model, head, next(source)) for head, source in zip(heads, sources, strict=True)]
        losses.append([float(each.detach()) for each in found])
        return torch.stack(found).sum()

    train([*model.parameters(), *heads.parameters()], PRETRAINING, loss)
    last = np.mean(losses[-50:], axis=0).round(3).tolist()
    out.print(
        f"{kind}, seed {seed}: matching and next-word loss {last}, {time.perf_counter() - start:.0f} s", soft_wrap=True
    )
    save_tensors(file, model.state_dict())
    return model.eval().requires_grad_(False)


def _loss(model: nn.Module, head: nn.Module, pairs: Pairs) -> Tensor:
    return F.cross_entropy(head(model(pairs)), pairs.label)


class Cell:
    """A pretrained model on one task."""

    def __init__(self, kind: str, task: str, seed: int, data: Data, folder: Path) -> None:
        self.kind, self.task, self.seed, self.data, self.folder = kind, task, seed, data, folder
        self.train, self.valid, self.test = (data.task(task, split) for split in ("train", "valid", "test"))

    def model(self) -> tuple[Any, nn.Linear]:
        """Return a copy of the frozen model, and a new head."""
        model = pretrained(self.kind, self.seed, self.data, self.folder)
        torch.manual_seed(derive(self.seed, "head"))
        return model, nn.Linear(WIDTH, self.train.classes)

    def finished(self, model: Any, head: nn.Linear, start: float) -> dict[str, Any]:
        """Return the measurements of a trained model."""
        names = [each for each in model.parameters() if each.requires_grad]
        return {
            "accuracy": round(accuracy(model, head, self.test), 5), "n": len(self.test), "trainable": sum(each.numel() for each in names),
            "layer FLOPs": layer_flops(model, self.test.batch(range(8))), "steps": STEPS, "seconds": round(time.perf_counter() - start, 1),
        }  # fmt: skip

    def tuned(self, change: Callable[[Any], Any]) -> dict[str, Any]:
        """Change the frozen model, train what is trainable and the head, and measure."""
        (model, head), start = self.model(), time.perf_counter()
        change(model)
        self._train(model, head)
        return self.finished(model, head, start)

    def _train(
        self,
        model: Any,
        head: nn.Linear,
        before: Callable[[], None] = lambda: None,
        after: Callable[[int], None] = lambda _: None,
    ) -> None:
        source = batches(self.train, STEPS, derive(self.seed, "order"))

        def loss(_: int) -> Tensor:
            before()
            return _loss(model, head, next(source))

        parameters = [each for each in (*model.parameters(), *head.parameters()) if each.requires_grad]
        train(parameters, STEPS, loss, after)

    def search(self, reward: Any) -> dict[str, Any]:
        """Search for the layers to skip; return them with the gates."""
        (model, head), start = self.model(), time.perf_counter()
        skips = Skips(skippable(model, self.kind), SKIP, reward=reward)
        rng = device_free(derive(self.seed, "valid"))
        torch.manual_seed(derive(self.seed, "draws", reward))

        def after(step: int) -> None:
            if step >= WARMUP * STEPS and step % EVERY == 0:
                pairs = self.valid.batch(torch.randperm(len(self.valid), generator=rng)[:JUDGED].tolist())
                skips.learn(lambda: _loss(model, head, pairs))

        self._train(model, head, lambda: skips.skip(skips.draw()), after)
        gates = [round(value, 4) for value in skips.gate.tolist()]
        return {"chosen": list(skips.best()), "gates": gates, "seconds": round(time.perf_counter() - start, 1)}


def skippable(model: Any, kind: str) -> list[Any]:
    """Make all layers of a model skippable."""
    return [
        layer
        for stack in model.stacks
        for layer in make_skippable(stack, WIDTH, hidden=HIDDEN, replacement=REPLACEMENT[kind])
    ]


def skipping(chosen: Sequence[int], kind: str) -> Callable[[Any], None]:
    """Return a change of a model: these layers are skipped, the others have adapters."""
    return lambda model: Skips(skippable(model, kind), len(chosen)).settle(chosen)


def values_of(hidden: int) -> int:
    """Return the number of values of an adapter."""
    return sum(Bottleneck.sizes(WIDTH, hidden).values())


def trained_by_das(layers: int, kind: str) -> int:
    """Return the number of values that DAS trains in a model."""
    return 2 * (layers - SKIP) * values_of(HIDDEN) + SKIP * values_of(REPLACEMENT[kind])


def with_adapters(model: Any, kind: str) -> None:
    """Put two adapters into every layer, of the width that comes nearest to the trainable count of DAS."""
    count = sum(map(len, model.stacks))
    hidden = min(range(1, 64), key=lambda hidden: abs(2 * count * values_of(hidden) - trained_by_das(count, kind)))
    layers = [layer for stack in model.stacks for layer in make_skippable(stack, WIDTH, hidden=hidden, replacement=0)]
    Skips(layers, 0).settle(())


def with_lora(model: Any, kind: str) -> None:
    """Put low-rank adapters into the self-attention of every layer, of the rank that comes nearest to the trainable count of DAS."""
    layers = sum(map(len, model.stacks))
    rank = round(trained_by_das(layers, kind) / (layers * 6 * WIDTH))
    add_lora(model, r"blocks\.\d+\.attention\.(qkv|out)$", rank=rank, alpha=rank)


@torch.no_grad()
def accuracy(model: Any, head: nn.Linear, examples: Examples) -> float:
    """Return the share of right answers."""
    right = 0
    for start in range(0, len(examples), 256):
        pairs = examples.batch(range(start, min(start + 256, len(examples))))
        right += int((head(model(pairs)).argmax(dim=1) == pairs.label).sum())
    return right / len(examples)


@torch.no_grad()
def layer_flops(model: Any, pairs: Pairs) -> int:
    """Return the FLOPs of the layers for one pair: those of the model without its inputs."""
    return (operations(lambda: model(pairs)) - operations(lambda: model.inputs(pairs))) // len(pairs)


def run_cell(cell: Cell, files: Sequence[Path], most: int) -> None:
    """Run what the files do not hold yet."""
    data, kind, runs = cell.data, cell.kind, Runs(files, KEY)
    words = f"{data.foundation}, {kind}, {cell.task}, {cell.seed}"

    def once(arm: str, job: Callable[[], dict[str, Any]]) -> Record:
        place = (data.foundation, data.weights, kind, cell.task, cell.seed, arm, settings())
        return runs.once(place, job, lambda each: f"{words}: {arm} {each.get('accuracy', each.get('chosen'))}, {each['seconds']} s")  # fmt: skip

    def trained(some: tuple[int, ...]) -> None:
        once(f"skip {','.join(map(str, some))}", lambda: cell.tuned(skipping(some, kind)))

    layers = sum(map(len, cell.model()[0].stacks))
    found = tuple(once("search standardised", lambda: cell.search("standardised"))["chosen"])
    once("adapters", lambda: cell.tuned(partial(with_adapters, kind=kind)))
    trained(found)
    once("latency", lambda: latency(cell, found))
    once("lora", lambda: cell.tuned(partial(with_lora, kind=kind)))
    others = list(itertools.combinations(range(layers), SKIP))
    np.random.default_rng(derive(cell.seed, "sets")).shuffle(others)
    sets = [found, tuple(range(layers - SKIP, layers)), tuple(range(SKIP)), *map(tuple, others)]
    for some in list(dict.fromkeys(sets))[:most]:
        trained(some)
    if most > FIRST:
        trained(tuple(once("search exp", lambda: cell.search("exp"))["chosen"]))


@torch.no_grad()
def _timed(model: Any, pairs: Pairs, passes: int) -> Rate:
    return timed(lambda: model(pairs), torch.device("cpu"), passes)


def latency(cell: Cell, chosen: Sequence[int]) -> dict[str, Any]:
    """Return by how many times the model with skipped layers is faster than with adapters in every layer, at two batch sizes."""
    found, start = {}, time.perf_counter()
    for size in (1, 32):
        pairs, jobs = cell.test.batch(range(size)), {}
        for name, change in (
            ("adapters", partial(with_adapters, kind=cell.kind)),
            ("das", skipping(chosen, cell.kind)),
        ):
            model = cell.model()[0]
            change(model)
            jobs[name] = partial(_timed, model.eval(), pairs)
        times = take_turns(jobs, Turns(7))
        found[f"batch of {size}"] = times["das"].speedup_over(times["adapters"])
    return {"times as fast": found, "seconds": round(time.perf_counter() - start, 1)}


def options_of() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--models", default="nano", help="encoders, separated by commas")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(SIZES), help="fusion models")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--sets", type=int, default=15, help="sets of skipped layers that are trained in each cell")
    parser.add_argument("--folder", type=Path, help="data and fusion models; default: das in the cache")
    return parser.parse_args()


def main() -> None:
    """Run, print and write the comparison."""
    options, start = options_of(), time.perf_counter()
    torch.set_num_threads(options.threads)
    folder = options.folder or home() / "das"
    files = files_of(options.runs or [folder / "runs.jsonl"], "")
    used: set[tuple[str, str]] = set()
    for model in () if options.report else options.models.split(","):
        data = Data(percept.load(model, dtype="float32", device="cpu"), folder / "data")
        used.add((data.foundation, data.weights))
        pairs = list(itertools.product(options.kinds.split(","), options.tasks.split(",")))
        for seed, (kind, task) in itertools.product(range(1, options.seeds + 1), pairs):
            run_cell(Cell(kind, task, seed, data, folder), files, options.sets)
    records = [record for record in read_files(files, KEY) if record["settings"] == settings()]
    records = [each for each in records if options.report or (each["foundation"], each["weights"]) in used]
    records = of_one_setting(records, KEY[:-1], {"foundation": "weights"})
    results = judged(records)
    show(results)
    save(options.json_file, {**about(start), "results": results, "records": records})


if __name__ == "__main__":
    main()
