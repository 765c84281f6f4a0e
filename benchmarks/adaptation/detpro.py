"""Do prompts that are learned on graded regions with background (DetPro) help a small detector to find things of new classes?

    python benchmarks/corpora.py fetch                                        # for emoji
    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/detpro.py --json-file benchmarks/adaptation/detpro.json

The detector of `percept.methods.detection.vild` learns proposals, masks and its text head on things of 24 base classes in a hard style of the
labelled world; new classes occur in its images unlabelled. Every arm gives it class vectors; its text head is trained again with those of the
base classes. Tested on 36 classes: average precision of boxes and masks (COCO, faster-coco-eval), base and new classes apart, on the style
that was trained on and, without any training, on two others and on emoji on backgrounds. Prompts have SGD with momentum 0.9, weight decay
5e-4 and 20 epochs in every arm; the paper has no momentum and 6 epochs of far more regions. Cells are lines of --runs, so that the command
goes on where it was interrupted; two processes may share the work, each with its own --runs file and its own --models, and --report --runs ONE OTHER
judges both. Two intervals of 95 %: a bootstrap over cells of set, foundation and seed, and a paired one over test images, in which cells are averaged.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from beds import about, home
from detpro_report import SCORES, averages, judged, precisions
from detpro_sets import BASE, NAMES, VERSION, Drawn, scenes
from harness import save
from recorded import (
    Record,
    RunOptions,
    Runs,
    files_of,
    of_one_setting,
    read_files,
    settings_of,
    show_claims,
    weights_of,
)
from torch import Tensor

import percept
from percept.core.io import content_hash, load_tensors, save_tensors
from percept.core.report import out, table
from percept.core.seed import derive
from percept.eval.probes.masks import MaskDetected
from percept.methods.adaptation.contract import Training
from percept.methods.adaptation.texts import SELECTED, TEMPLATE, Base, averaged_vectors, base_of
from percept.methods.detection.detpro import DetPro, learn
from percept.methods.detection.regions import BACKGROUND, Regions, assigned, jittered, region_vectors, scattered
from percept.methods.detection.vild import Proposed, Scenes, ViLD

ARMS: dict[str, dict[str, Any] | None] = {
    "hand prompt": None,
    "DetPro": {},
    "CoOp, exact boxes": {"grades": (1.0, 1.0), "background": "none"},
    "CoOp, all regions": {"grades": (0.5, 1.0), "background": "none"},
    "DetPro - grading": {"grades": (0.5, 1.0)},
    "DetPro - background": {"background": "none"},
    "DetPro, learned background": {"background": "learned"},
    "hand ensemble": None,
}
"""Arm to what differs from the defaults of DetPro; None for prompts that are not learned."""
ELSEWHERE = ("hand prompt", "DetPro", "CoOp, exact boxes", "CoOp, all regions")
"""Arms that are tested on the other sets too."""
NEGATIVES = 0.3
"""Share of background regions that is kept; 1 of 10 of far more in the paper."""
PLACE = ("model", "vectors", "seed", "arm")
KEY = ("options", "settings", *PLACE)
"""Fields that identify a cell: hashes of the options, and of these with the images, and where it belongs."""


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the benchmark."""

    models: tuple[str, ...] = ("nano",)
    """Encoders."""
    seeds: int = 3
    """Detectors and prompts."""
    train: int = 300
    """Training images."""
    test: int = 150
    """Test images of each set."""
    sets: tuple[str, ...] = ("comic", "halftone", "psychedelic", "emoji")
    """Sets; the first is trained on."""
    steps: int = 300
    """Steps of proposals and masks."""
    name_steps: int = 150
    """Steps of the text head."""
    epochs: int = 20
    """Of the prompts, about 12 steps each."""
    rate: float = 2e-3
    """Of the prompts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Set:
    """Images of a set with what the frozen tower says about them."""

    drawn: Sequence[Drawn]
    image: Tensor
    tokens: Tensor
    content: str
    """Hash of the images."""

    def batch(self, rows: Sequence[int]) -> Scenes:
        """Return training images; things of new classes are not labelled."""
        kept = [np.flatnonzero(self.drawn[row].label < len(BASE)) for row in rows]
        most = max(1, *(len(each) for each in kept))
        boxes, masks = torch.zeros(len(rows), most, 4), torch.zeros(len(rows), most, *self.image.shape[2:], dtype=torch.bool)  # fmt: skip
        label = torch.full((len(rows), most), BACKGROUND)
        for place, (row, things) in enumerate(zip(rows, kept, strict=True)):
            one = self.drawn[row]
            boxes[place, : len(things)] = torch.from_numpy(one.boxes[things])
            label[place, : len(things)] = torch.from_numpy(one.label[things])
            masks[place, : len(things)] = torch.from_numpy(one.masks[things])
        chosen = list(rows)
        return Scenes(image=self.image[chosen], boxes=boxes, label=label, masks=masks, tokens=self.tokens[chosen].float())  # fmt: skip


def seen(encoder: Any, style: str, part: str, count: int) -> Set | None:
    """Return a set; tokens are computed once, in float16."""
    drawn = scenes(style, part, count)
    if not drawn:
        return None
    image = torch.stack([encoder.prepare(one.image) for one in drawn])
    content = content_hash(b"".join(one.image.tobytes() for one in drawn))[:12]
    place = home() / "detpro" / f"{style}-{part}-{count}-{content}-{encoder.identity.image[:12]}.safetensors"
    if not place.is_file():
        with torch.no_grad():
            parts = [encoder.model.vision(each, pool=False).tokens.half() for each in image.split(32)]
        save_tensors(place, {"tokens": torch.cat(parts)})
    return Set(drawn=drawn, image=image, tokens=load_tensors(place)["tokens"], content=content)


def fitted(model: ViLD, data: Set, parts: Sequence[str], steps: int, seed: int) -> ViLD:
    """Train the heads of a detector: finding, naming, or both; on the same batches and random boxes whatever it was trained on before."""
    names = ("text", "elsewhere")
    chosen = [
        value for name, value in model.named_parameters()
        if value.requires_grad and (("naming" in parts) if name.startswith(names) else ("finding" in parts))
    ]  # fmt: skip
    optimiser = torch.optim.AdamW(chosen, lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    rng = torch.Generator().manual_seed(derive(seed, "batches"))
    model.steps = 0
    model.train()
    for _ in range(steps):
        batch = data.batch(torch.randint(len(data.drawn), (16,), generator=rng).tolist())
        losses = list(model.finding(batch).values()) if "finding" in parts else []
        losses += [model.naming(batch)] if "naming" in parts else []
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        torch.nn.utils.clip_grad_norm_(chosen, 5.0)
        optimiser.step()
        schedule.step()
    return model.eval()


def finder(encoder: Any, data: Set, options: Options, seed: int) -> ViLD:
    """Return a detector with trained proposals and masks, from the cache if it is there."""
    scale = float(encoder.model.scale())
    config = ViLD.Config(temperature=1 / scale, test_temperature=0.7 / scale)
    torch.manual_seed(derive(seed, "detector"))
    model = ViLD.from_encoder(config, encoder, BASE, TEMPLATE)
    model.prepare(data.tokens)
    place = home() / "detpro" / f"finder-{options.sets[0]}-{data.content}-{options.steps}-{seed}-{encoder.identity.image[:12]}.safetensors"  # fmt: skip
    if place.is_file():
        model.load_state_dict(load_tensors(place), strict=False)
        return model.eval()
    start = time.perf_counter()
    fitted(model, data, ("finding",), options.steps, seed)
    save_tensors(place, {name: value for name, value in model.state_dict().items() if not name.startswith("clip.")})
    out.print(f"{encoder.name} {seed}: proposals and masks, {time.perf_counter() - start:.0f} s")
    return model


def regions(model: ViLD, data: Set, seed: int) -> Regions:
    """Return the regions that prompts are trained on: proposals, shifted and exact boxes of base classes, and background near them."""
    rng = torch.Generator().manual_seed(derive(seed, "regions"))
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for one, image, tokens in zip(data.drawn, data.image, data.tokens, strict=True):
        base = one.label < len(BASE)
        truth, labels = torch.from_numpy(one.boxes[base]), torch.from_numpy(one.label[base])
        boxes = torch.cat([jittered(truth, 8, rng), scattered(4, rng), model.propose(image, tokens).boxes[:20]])
        label, overlap, _ = assigned(boxes, truth, labels)
        few = torch.rand(len(boxes), generator=rng) < NEGATIVES
        kept = (label != BACKGROUND) | ((overlap > 0.1) & few)
        vector = region_vectors(model.clip.vision, tokens.float(), model.grid, boxes[kept])  # type: ignore[arg-type]
        found.append((vector, label[kept], overlap[kept]))
    vector, label, overlap = (torch.cat(each) for each in zip(*found, strict=True))
    return Regions(vector=vector, label=label, overlap=overlap)


def class_vectors(arm: str, base: Base, found: Regions, options: Options, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """Return the unit vectors of all classes in an arm, and what its training was like."""
    config, start = ARMS[arm], time.perf_counter()
    if config is None:
        templates = (*SELECTED, TEMPLATE) if arm == "hand ensemble" else (TEMPLATE,)
        return averaged_vectors(base, NAMES, templates), {"trainable": 0, "seconds": 0.0}
    torch.manual_seed(derive(seed, "prompts"))
    method = DetPro(DetPro.Config(temperature=1 / float(base.clip.scale()), **config), base, BASE)
    used = Training(epochs=options.epochs, batch=512, rate=options.rate, momentum=0.9, warmup=0)
    losses: list[float] = []
    learn(method, found, used, seed=seed, told=lambda _, loss: losses.append(loss))
    with torch.no_grad():
        vectors = method.use(NAMES).classes()
    facts = {"trainable": sum(method.declared().values()), "seconds": round(time.perf_counter() - start, 1)}
    return vectors, facts | {"loss": [round(losses[0], 3), round(losses[-1], 3)]}


def detections(model: ViLD, data: Set, found: Sequence[Proposed], vectors: Tensor) -> list[MaskDetected]:
    """Return what the detector finds in the images of a set."""
    base = torch.arange(len(NAMES)) < len(BASE)
    named = [model.named(one, tokens.float(), vectors, base) for one, tokens in zip(found, data.tokens, strict=True)]
    return [
        MaskDetected(boxes=one.boxes.numpy(), labels=one.label.numpy(), scores=one.score.numpy(), masks=one.masks.numpy())
        for one in named
    ]  # fmt: skip


def background_errors(vectors: Tensor, found: Regions, scale: float) -> dict[str, float]:
    """Return the share of background regions above the probability that 80 % of the things exceed, and the accuracy on things."""
    shares = (scale * found.vector @ vectors.T).softmax(dim=1).max(dim=1)
    things = found.label != BACKGROUND
    limit = shares.values[things].quantile(0.2)
    right = shares.indices[things] == found.label[things]
    return {"false alarms": round(float((shares.values[~things] > limit).float().mean()), 4), "accuracy": round(float(right.float().mean()), 4)}  # fmt: skip


def run(options: Options, files: Sequence[Path]) -> list[Record]:
    """Run the cells that the files do not hold, and return those of these options."""
    runs, found = Runs(files, KEY), []
    for name in options.models:
        encoder = percept.load(name, dtype="float32")
        data = seen(encoder, options.sets[0], "train", options.train)
        assert data is not None
        tests = {style: each for style in options.sets if (each := seen(encoder, style, "test", options.test)) is not None}  # fmt: skip
        images = [data.content, {style: each.content for style, each in tests.items()}]
        hashes = (settings_of(options, version=VERSION), settings_of(options, version=VERSION, images=images))
        shared = (*hashes, encoder.name, weights_of(encoder))
        for seed in range(1, options.seeds + 1):
            trained = Detector(encoder=encoder, data=data, tests=tests, options=options, seed=seed)
            found += [
                runs.once((*shared, seed, arm), lambda trained=trained, arm=arm: cell(arm, trained), shown) for arm in ARMS
            ]  # fmt: skip
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Detector:
    """A detector whose proposals and masks are trained, with what all arms share; computed when an arm needs it."""

    encoder: Any
    data: Set
    tests: dict[str, Set]
    options: Options
    seed: int

    @cached_property
    def model(self) -> ViLD:
        """The detector."""
        return finder(self.encoder, self.data, self.options, self.seed)

    @cached_property
    def regions(self) -> Regions:
        """What prompts are trained on."""
        found = regions(self.model, self.data, self.seed)
        background = int((found.label == BACKGROUND).sum())
        out.print(f"{self.encoder.name} {self.seed}: {len(found)} regions, {background} of background", soft_wrap=True)
        return found

    @cached_property
    def proposed(self) -> dict[str, list[Proposed]]:
        """Proposals in the test images of every set."""
        return {style: [self.model.propose(*pair) for pair in zip(each.image, each.tokens, strict=True)] for style, each in self.tests.items()}  # fmt: skip


def shown(record: Record) -> str:
    """Return a line about a cell."""
    new = {style: {kind: each["both heads"][f"new {kind}"]["AP"] for kind in ("box", "mask")} for style, each in record["sets"].items()}  # fmt: skip
    return f"{record['model']} {record['seed']} {record['arm']}: {record['seconds']} s, new {new}, {record['regions']}"


def cell(arm: str, trained: Detector) -> Record:
    """Learn the class vectors of an arm, train the text head with those of the base classes, and measure."""
    encoder, options, seed, model = trained.encoder, trained.options, trained.seed, trained.model
    found, proposed = trained.regions, trained.proposed
    vectors, facts = class_vectors(arm, base_of(encoder), found, options, seed)
    model.class_vectors.copy_(vectors[: len(BASE)])
    torch.manual_seed(derive(seed, "text head"))
    assert model.text is not None
    for layer in model.text:
        if isinstance(layer, torch.nn.Linear):
            layer.reset_parameters()
    torch.nn.init.normal_(model.elsewhere, std=len(model.elsewhere) ** -0.5)
    fitted(model, trained.data, ("naming",), options.name_steps, seed)
    record: Record = {**facts, "sets": {}}
    for style, each in trained.tests.items():
        if style != options.sets[0] and arm not in ELSEWHERE:
            continue
        targets = [one.truth for one in each.drawn]
        record["sets"][style] = {
            "both heads": precisions(targets, detections(model, each, proposed[style], vectors), style)
        }
        if style == options.sets[0]:
            text, model.text = model.text, None
            record["sets"][style]["image head"] = precisions(
                targets, detections(model, each, proposed[style], vectors), style
            )
            model.text = text
            record["regions"] = background_errors(vectors, tested_regions(model, each), float(encoder.model.scale()))
    return record


def tested_regions(model: ViLD, data: Set) -> Regions:
    """Return shifted boxes of all test things, and background."""
    rng, found = torch.Generator().manual_seed(0), []
    for one, tokens in zip(data.drawn, data.tokens, strict=True):
        truth = torch.from_numpy(one.boxes)
        boxes = torch.cat([jittered(truth, 4, rng), scattered(8, rng)])
        label, overlap, _ = assigned(boxes, truth, torch.from_numpy(one.label))
        vector = region_vectors(model.clip.vision, tokens.float(), model.grid, boxes)  # type: ignore[arg-type]
        found.append((vector, label, overlap))
    vector, label, overlap = (torch.cat(each) for each in zip(*found, strict=True))
    return Regions(vector=vector, label=label, overlap=overlap)


def recorded(options: Options, files: Sequence[Path]) -> list[Record]:
    """Return the records of the files that have these options, whatever their encoders and seeds."""
    kept = [record for record in read_files(files, KEY) if record["options"] == settings_of(options, version=VERSION)]
    return of_one_setting(kept, PLACE, {"model": "vectors"})


def main(options: Options) -> None:
    """Run what is missing, print and write the comparison."""
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    files = files_of(options.runs, "detpro.jsonl")
    records = recorded(options, files) if options.report else run(options, files)
    means = {style: row for style in options.sets if (row := averages(records, style, tuple(ARMS)))}
    for style, rows in means.items():
        table(f"{style}: AP", ("arm", *SCORES), [(arm, *(f"{row[s]:.1f}" for s in SCORES)) for arm, row in rows.items()])  # fmt: skip
    claims = judged(records, tuple(means))
    rows = [row | {"claim": f"{row['claim']}; {row['heads']}, {row['score']}"} for row in claims]
    show_claims("paired differences, points of AP", rows)
    kept = [
        {name: record[name] for name in ("model", "seed", "arm", "trainable", "seconds", "regions")}
        | {"AP": {s: {h: {k: v["AP"] for k, v in row.items()} for h, row in each.items()} for s, each in record["sets"].items()}}
        for record in records
    ]  # fmt: skip
    save(options.json_file, {**about(start), "means": means, "claims": claims, "records": kept})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
