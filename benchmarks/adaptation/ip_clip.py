"""Does IP-CLIP keep a prompt useful in the authorised domain and useless in all others?

    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/ip_clip.py --json-file benchmarks/adaptation/ip_clip.json

Domains are hard styles of the labelled world with the same classes; pool and test images have different seeds. Four scenarios: the
unauthorised domain is given; it is not (styles are made from the authorised images); images with a mark are unauthorised (ownership); only
marked images are authorised (applicability). "before" is the same generator trained on the authorised images alone. Every arm has the same
images, steps and schedule: 10 epochs without warm-up (50 and 1 in the release). A pair of domains takes part if zero-shot passes the gate of
`beds.py` in both. Besides the measures, two attacks are printed: images of a domain that nobody trained on, and 4 labelled unauthorised
images of each class to train the prompt on again; and what an attacker gets who drops the prompt, because the towers are not changed. Cells
are lines of --runs, so that the command goes on where it was interrupted; two processes may share the work, each with its own --runs file and its own
--models or --scenarios; --report --runs ONE OTHER judges both. Two intervals of 95 %: a bootstrap over cells of a pair of domains,
foundation and seed, and a paired one over test images, whose values are first added up over all cells that share them.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from beds import KINDS, about, drawn_set, home, single
from beds import harder as made_harder
from harness import save
from ip_clip_report import against, measures, thresholds
from recorded import (
    Record,
    RunOptions,
    Runs,
    files_of,
    of_one_setting,
    passes_gate,
    read_files,
    settings_of,
    show_claims,
    weights_of,
)
from torch import Tensor, nn
from torch.nn import functional as F

import percept
from percept.core.io import load_tensors, save_tensors
from percept.core.report import table
from percept.core.seed import derive
from percept.methods.adaptation.bench import digest
from percept.methods.adaptation.contract import Training
from percept.methods.adaptation.few import LabelledSet
from percept.methods.adaptation.ip_clip import IPCLIP, Weights, protect
from percept.methods.adaptation.ip_domains import Domain, marked, pair_batches, restyled
from percept.methods.adaptation.texts import TEMPLATE, base_of
from percept.models.clip import unit
from percept.optim.schedule import constant_then_cosine

VERSION = 1
"""Changes with what is computed of the images, and with the arms."""
DOMAINS = {
    "comic": ("rendition", "comic"),
    "chalk": ("sketch", "chalk"),
    "fog": ("corruption", "fog"),
    "psychedelic": ("unusual", "psychedelic"),
    "pixels": ("rendition", "pixel art"),
}
CELLS = (("comic", "chalk"), ("psychedelic", "fog"), ("chalk", "comic"))
"""Authorised and unauthorised domain of each cell."""
UNSEEN = "pixels"
"""Domain that no arm is trained on."""
RELEASE_FREE = Weights(tokens=-5.0, entropy=1.0, answers=-5.0)
NOTHING = {"enhanced_authorised": 0.0, "enhanced_unauthorised": 0.0, "answers": 0.0, "tokens": 0.0, "entropy": 0.0}
UNPROTECTED, NTL = Weights(unauthorised=0.0, **NOTHING), Weights(**NOTHING)
ARMS: dict[str, dict[str, Any]] = {
    "before": {"weights": UNPROTECTED, "self_enhanced": False, "cross_domain": False},
    "IP-CLIP": {},
    "CoOp prompt, CE_a - CE_u": {"style": False, "content": False, "weights": NTL, "self_enhanced": False, "cross_domain": False},
    "- banks": {"self_enhanced": False, "cross_domain": False},
    "- style": {"style": False},
    "- content": {"content": False},
    "- self-enhanced": {"self_enhanced": False},
    "- cross-domain": {"cross_domain": False},
    "signs of the release": {"weights": Weights(enhanced_authorised=-1.0)},
    "interaction trained": {"train_interaction": True},
}  # fmt: skip
"""Arm to what differs from the defaults."""
VISUAL = "visual adapter"
"""A rival that leaves the prompt alone: a residual network on image vectors, trained with CE_a - min(CE_u, cap)."""
SCENARIOS = ("given", "not given", "ownership", "applicability")
RECOVERY = 4
"""Labelled images of each class that an attacker has."""
PLACE = ("model", "vectors", "scenario", "cell", "arm", "seed")
KEY = ("options", "settings", *PLACE)
"""Fields that identify a run: hashes of the options, and of these with the images, and where it belongs."""


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the benchmark."""

    models: tuple[str, ...] = ("nano",)
    """Encoders."""
    seeds: int = 3
    """Seeds of the generator and of the pairs."""
    cells: int = len(CELLS)
    """How many pairs of domains."""
    classes: int = 12
    """Classes of each domain."""
    epochs: int = 10
    """Of every arm."""
    batch: int = 8
    """Pairs of images of a step."""
    rate: float = 1e-3
    """Of AdamW; between the two that are published."""
    scenarios: tuple[str, ...] = SCENARIOS
    """Of given, not given, ownership and applicability; removals are measured in the first."""


def domain_set(name: str, classes: int) -> LabelledSet:
    """Return the images of a domain."""
    style, variant = DOMAINS[name]

    def draw(kind: str, number: int, rng: Any) -> Any:
        return made_harder(single(kind, rng.getrandbits(30), style=style, variant=variant), rng)

    return drawn_set(f"ip-{name}-{classes}", KINDS[:classes], draw)


@dataclass(frozen=True, kw_only=True, eq=False)
class Domains:
    """Domains as the frozen tower sees them; stored."""

    encoder: Any
    classes: int
    seer: IPCLIP

    def of(self, name: str, part: str, change: str = "") -> Domain:
        """Return the pool or the test images of a domain: as they are, marked, or restyled."""
        data = domain_set(name, self.classes)
        rows = data.pool if part == "pool" else data.test
        order = [KINDS.index(each) for each in data.classes]  # sets have an order of classes of their own
        label = torch.tensor([order[number] for number in data.labels[rows]])
        content = digest([data.keys, rows.tolist(), VERSION])
        place = (
            home() / "ip_clip" / f"{data.name}-{part}-{change}-{content}-{self.encoder.identity.image[:12]}.safetensors"
        )
        if not place.is_file():
            edit: dict[str, Callable[[Any, int], Any]] = {"": lambda each, _: each, "marked": lambda each, _: marked(each), "restyled": restyled}  # fmt: skip
            images = [self.encoder.prepare(edit[change](np.asarray(data.image(row)), int(row))) for row in rows]
            seen = [self.seer.see(each, torch.zeros(len(each), dtype=torch.long)) for each in torch.stack(images).split(32)]  # fmt: skip
            place.parent.mkdir(parents=True, exist_ok=True)
            save_tensors(place, {key: torch.cat([one.tensors()[key] for one in seen]) for key in ("vector", "style", "content")})  # fmt: skip
        return Domain(**load_tensors(place), label=label)

    def passes(self, name: str) -> bool:
        """Return whether zero-shot leaves room to gain and to lose in a domain."""
        share = float(np.mean(right(lambda each: each.vector @ self.seer.hand_vectors().T, self.of(name, "test"))))
        return passes_gate(name, share, 1 / self.classes, self.encoder.name)


def joined(*parts: Domain) -> Domain:
    """Return all images of some domains."""
    return Domain(**{name: torch.cat([part.tensors()[name] for part in parts]) for name in parts[0].tensors()})


def images_of(domains: Domains, scenario: str, cell: tuple[str, str]) -> dict[str, tuple[Domain, Domain]]:
    """Return authorised and unauthorised images to train on and to test on."""
    own, other = cell
    found = {}
    for part in ("pool", "test"):
        plain = domains.of(own, part)
        if scenario == "given":
            found[part] = plain, domains.of(other, part)
        elif scenario == "not given":
            found[part] = plain, domains.of(own, part, "restyled") if part == "pool" else domains.of(other, part)
        elif scenario == "ownership":
            found[part] = plain, domains.of(own, part, "marked")
        else:
            found[part] = domains.of(own, part, "marked"), joined(plain, domains.of(other, part))
    return found


class Adapter(nn.Module):
    """The visual rival: unit(f + network(f)) before the vectors of the template."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(length, 128), nn.ReLU(), nn.Linear(128, length))
        nn.init.zeros_(self.network[2].weight)  # type: ignore[arg-type]

    def forward(self, vector: Tensor) -> Tensor:
        """Return adapted unit vectors."""
        return unit(vector + self.network(vector))


def visual(method: IPCLIP, pool: tuple[Domain, Domain], options: Options, seed: int) -> Callable[[Domain], Tensor]:
    """Train the visual rival on the batches and with the schedule of `protect`."""
    torch.manual_seed(derive(seed, "adapter"))
    adapter, scale, classes = Adapter(pool[0].vector.shape[1]), method.clip.scale(), method.hand_vectors()
    optimiser = torch.optim.AdamW(adapter.parameters(), lr=options.rate, weight_decay=0.0)
    batches = pair_batches(*pool, options.batch, seed)
    answers = lambda batch: scale * adapter(batch.vector) @ classes.T  # noqa: E731
    for epoch in range(options.epochs):
        optimiser.param_groups[0]["lr"] = constant_then_cosine(epoch, rate=options.rate, epochs=options.epochs, warmup=0)  # fmt: skip
        for batch in batches(epoch):
            losses = [F.cross_entropy(answers(one), one.label) for one in batch.split()]
            loss = losses[0] - losses[1].clamp(max=method.config.cap)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return torch.no_grad()(answers)


@torch.no_grad()
def right(answers: Callable[[Domain], Tensor], images: Domain) -> list[int]:
    """Return 1 for every image that is recognised."""
    return (answers(images).argmax(dim=1) == images.label).int().tolist()


def attacked(method: IPCLIP, unauthorised: Domain, test: Domain, options: Options, seed: int) -> list[int]:
    """Train the prompt again on few unauthorised images, and return which test images are recognised."""
    dice = torch.Generator().manual_seed(derive(seed, "stolen"))
    order = torch.randperm(len(unauthorised), generator=dice)
    rows = torch.cat([order[unauthorised.label[order] == label][:RECOVERY] for label in range(len(method.names))])
    few = Domain(**{name: value[rows] for name, value in unauthorised.tensors().items()})
    stolen = copy.deepcopy(method)
    stolen.config = replace(method.config, weights=UNPROTECTED, self_enhanced=False, cross_domain=False)
    stolen.interaction.requires_grad_(False)
    training = Training(epochs=options.epochs, batch=options.batch, rate=options.rate, optimiser="adamw", weight_decay=0.0, warmup=0)  # fmt: skip
    return right(protect(stolen, few, few, training, seed=seed).seen_logits, test)


def run_cell(domains: Domains, scenario: str, cell: tuple[str, str], arm: str, seed: int, options: Options) -> Record:
    """Train one arm and return which test images it recognises."""
    images, start = images_of(domains, scenario, cell), time.perf_counter()
    fields = dict(ARMS.get(arm, {}))
    if scenario in ("not given", "applicability") and arm == "IP-CLIP":
        fields["weights"] = RELEASE_FREE
    torch.manual_seed(derive(seed, "generator"))
    method = IPCLIP.from_encoder(IPCLIP.Config(**fields), domains.encoder, KINDS[: options.classes], TEMPLATE)
    if arm == VISUAL:
        answers = visual(method, images["pool"], options, seed)
    else:
        training = Training(epochs=options.epochs, batch=options.batch, rate=options.rate, optimiser="adamw", weight_decay=0.0, warmup=0)  # fmt: skip
        answers = protect(method, *images["pool"], training, seed=seed).seen_logits
    record = {
        "cell": list(cell), "seconds": round(time.perf_counter() - start, 1),
        "trainable": sum(method.declared().values()), "authorised": right(answers, images["test"][0]), "unauthorised": right(answers, images["test"][1]),
        "unseen": right(answers, domains.of(UNSEEN, "test")), "prompt dropped": right(lambda each: each.vector @ method.hand_vectors().T, images["test"][1]),
    }  # fmt: skip
    if arm == "IP-CLIP":
        record["recovered"] = attacked(method, images["pool"][1], images["test"][1], options, seed)
    return record


def jobs(domains: Domains, options: Options) -> list[tuple[str, tuple[str, str], str, int]]:
    """Return scenario, pair of domains, arm and seed of every run."""
    cells = CELLS[: options.cells]
    passed = {name: domains.passes(name) for name in dict.fromkeys(name for cell in cells for name in cell)}
    removals = (VISUAL, *list(ARMS)[2:])
    return [
        (scenario, cell, arm, seed)
        for seed in range(1, options.seeds + 1)
        for scenario in options.scenarios
        for cell in cells
        if all(passed[name] for name in cell)
        for arm in ("before", "IP-CLIP", *(removals if scenario == "given" else ()))
    ]


def run(options: Options, files: Sequence[Path]) -> list[Record]:
    """Run what the files do not hold, and return the runs of these options."""
    runs, found = Runs(files, KEY), []
    images = {name: digest(domain_set(name, options.classes).keys) for name in DOMAINS}
    for name in options.models:
        encoder = percept.load(name, dtype="float32")
        seer = IPCLIP(IPCLIP.Config(), base_of(encoder), KINDS[: options.classes])
        domains = Domains(encoder=encoder, classes=options.classes, seer=seer)
        hashes = (settings_of(options, version=VERSION), settings_of(options, version=VERSION, images=images))
        shared = (*hashes, encoder.name, weights_of(encoder))
        found += [
            runs.once((*shared, *job), lambda domains=domains, job=job: run_cell(domains, *job, options), shown) for job in jobs(domains, options)
        ]  # fmt: skip
    return found


def shown(record: Record) -> str:
    """Return a line about a run."""
    shares = {part: f"{np.mean(record[part]):.1%}" for part in ("authorised", "unauthorised", "unseen")}
    place = [str(record[name]) for name in ("model", "seed", "scenario", "cell", "arm")]
    return f"{' '.join(place)}: {shares}, {record['seconds']} s"


def recorded(options: Options, files: Sequence[Path]) -> list[Record]:
    """Return the records of the files that have these options, whatever their encoders and seeds."""
    kept = [record for record in read_files(files, KEY) if record["options"] == settings_of(options, version=VERSION)]
    return of_one_setting(kept, PLACE, {"model": "vectors"})


def main(options: Options) -> None:
    """Run what is missing, print and write the comparison."""
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    files = files_of(options.runs, "ip_clip.jsonl")
    records = recorded(options, files) if options.report else run(options, files)
    found = {
        scenario: {arm: row for arm in (*ARMS, VISUAL) if (row := measures(records, scenario, arm))}
        for scenario in options.scenarios
    }
    for scenario, rows in found.items():
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        lines = [(arm, *(f"{100 * row[name]:.1f}" if name in row else "" for name in names)) for arm, row in rows.items()]  # fmt: skip
        table(f"unauthorised domain: {scenario}, %", ("arm", *names), lines)
    claims = [row for scenario in options.scenarios for row in thresholds(records, scenario)]
    claims += [row for arm in (*ARMS, VISUAL) if arm != "IP-CLIP" and (row := against(records, arm))]
    show_claims("claims, shares", claims)
    save(options.json_file, {**about(start), "measures": found, "claims": claims, "runs": len(records)})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
