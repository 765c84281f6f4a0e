"""Does IP-CLIP keep a prompt useful in the authorised domain and useless in all others?

    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/ip_clip.py --json-file benchmarks/adaptation/ip_clip.json

Domains are hard styles of the labelled world with the same classes; pool and test images have different seeds. Four scenarios: the
unauthorised domain is given; it is not (styles are made from the authorised images); images with a mark are unauthorised (ownership); only
marked images are authorised (applicability). "before" is the same generator trained on the authorised images alone. Every arm has the same
images, steps and rate. Besides the measures, two attacks are printed: images of a domain that nobody trained on, and 4 labelled unauthorised
images of each class to train the prompt on again; and what an attacker gets who drops the prompt, because the towers are not changed. Cells
are lines of --runs, so that the command goes on where it was interrupted. Intervals: 95 %, a paired bootstrap over test images.
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
from torch import Tensor, nn
from torch.nn import functional as F

import percept
from percept.core.io import append_json_line, load_tensors, save_tensors
from percept.core.report import out, table
from percept.core.seed import derive
from percept.eval.statistics import mean
from percept.methods.adaptation.bench import read_records, verdict
from percept.methods.adaptation.contract import Training
from percept.methods.adaptation.few import LabelledSet
from percept.methods.adaptation.ip_clip import IPCLIP, Weights, protect
from percept.methods.adaptation.ip_domains import Domain, applicability, marked, ownership, protection, restyled
from percept.methods.adaptation.texts import TEMPLATE, base_of
from percept.models.clip import unit

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


@dataclass(frozen=True, kw_only=True)
class Options:
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
    runs: Path | None = None
    """File of the cells; ip_clip.jsonl in the cache by default."""
    json_file: Path | None = None
    """File for the result."""


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
        place = home() / "ip_clip" / f"{data.name}-{part}-{change}-{self.encoder.identity.image[:12]}.safetensors"
        if not place.is_file():
            edit: dict[str, Callable[[Any, int], Any]] = {"": lambda each, _: each, "marked": lambda each, _: marked(each), "restyled": restyled}  # fmt: skip
            images = [self.encoder.prepare(edit[change](np.asarray(data.image(row)), int(row))) for row in rows]
            seen = [self.seer.see(each, torch.zeros(len(each), dtype=torch.long)) for each in torch.stack(images).split(32)]  # fmt: skip
            place.parent.mkdir(parents=True, exist_ok=True)
            save_tensors(place, {key: torch.cat([one.tensors()[key] for one in seen]) for key in ("vector", "style", "content")})  # fmt: skip
        return Domain(**load_tensors(place), label=label)


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
    """Train the visual rival for as many steps."""
    torch.manual_seed(derive(seed, "adapter"))
    adapter, scale, classes = Adapter(pool[0].vector.shape[1]), method.clip.scale(), method.hand_vectors()
    optimiser = torch.optim.AdamW(adapter.parameters(), lr=options.rate, weight_decay=0.0)
    rng = torch.Generator().manual_seed(derive(seed, "adapter batches"))
    answers = lambda batch: scale * adapter(batch.vector) @ classes.T  # noqa: E731
    for _ in range(options.epochs * (len(pool[0]) // options.batch)):
        rows = [torch.randint(len(one), (options.batch,), generator=rng) for one in pool]
        losses = [F.cross_entropy(scale * adapter(one.vector[row]) @ classes.T, one.label[row]) for one, row in zip(pool, rows, strict=True)]  # fmt: skip
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
    rows = torch.cat([(unauthorised.label == label).nonzero()[:RECOVERY, 0] for label in range(len(method.names))])
    few = Domain(**{name: value[rows] for name, value in unauthorised.tensors().items()})
    stolen = copy.deepcopy(method)
    stolen.config = replace(method.config, weights=UNPROTECTED, self_enhanced=False, cross_domain=False)
    stolen.interaction.requires_grad_(False)
    training = Training(epochs=options.epochs, batch=options.batch, rate=options.rate, optimiser="adamw", weight_decay=0.0, warmup=0)  # fmt: skip
    return right(protect(stolen, few, few, training, seed=seed).seen_logits, test)


def run_cell(
    domains: Domains, scenario: str, cell: tuple[str, str], arm: str, options: Options, seed: int
) -> dict[str, Any]:
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
        "model": domains.encoder.name, "scenario": scenario, "cell": list(cell), "arm": arm, "seed": seed, "seconds": round(time.perf_counter() - start, 1),
        "trainable": sum(method.declared().values()), "authorised": right(answers, images["test"][0]), "unauthorised": right(answers, images["test"][1]),
        "unseen": right(answers, domains.of(UNSEEN, "test")), "prompt dropped": right(lambda each: each.vector @ method.hand_vectors().T, images["test"][1]),
    }  # fmt: skip
    if arm == "IP-CLIP":
        record["recovered"] = attacked(method, images["pool"][1], images["test"][1], options, seed)
    return record


def run(options: Options, file: Path) -> list[dict[str, Any]]:
    """Run the cells that the file does not hold, and return all of them."""
    key = lambda record: (record["model"], record["scenario"], tuple(record["cell"]), record["arm"], record["seed"])  # noqa: E731
    done = {key(record) for record in read_records(file)}
    for name in options.models:
        encoder = percept.load(name, dtype="float32")
        seer = IPCLIP(IPCLIP.Config(), base_of(encoder), KINDS[: options.classes])
        domains = Domains(encoder=encoder, classes=options.classes, seer=seer)
        for seed in range(1, options.seeds + 1):
            for scenario in options.scenarios:
                for cell in CELLS[: options.cells]:
                    for arm in (
                        ("before", "IP-CLIP", VISUAL, *list(ARMS)[2:]) if scenario == "given" else ("before", "IP-CLIP")
                    ):
                        if (encoder.name, scenario, cell, arm, seed) in done:
                            continue
                        record = run_cell(domains, scenario, cell, arm, options, seed)
                        append_json_line(file, record)
                        shares = {part: f"{np.mean(record[part]):.1%}" for part in ("authorised", "unauthorised", "unseen")}  # fmt: skip
                        out.print(f"{name} {seed} {scenario} {cell} {arm}: {shares}, {record['seconds']} s", soft_wrap=True)  # fmt: skip
    return read_records(file)


def measures(records: Sequence[dict[str, Any]], scenario: str, arm: str) -> dict[str, float]:
    """Return the measures of an arm, averaged over its cells."""
    rows = []
    for one in (r for r in records if r["scenario"] == scenario and r["arm"] == arm):
        start = next(r for r in records if r["arm"] == "before" and all(r[k] == one[k] for k in ("model", "scenario", "cell", "seed")))  # fmt: skip
        before, after = ([float(np.mean(r[part])) for part in ("authorised", "unauthorised")] for r in (start, one))
        row = {"A_a": after[0], "A_u": after[1], **protection((before[0], before[1]), (after[0], after[1]))}
        row |= {"O_ua": ownership(before[1], (after[0], after[1]))} if scenario == "ownership" else {}
        row |= {"A_a (A_a - A_u)": applicability(*after)} if scenario == "applicability" else {}
        row |= {name: float(np.mean(one[name])) for name in ("unseen", "prompt dropped", "recovered") if name in one}
        rows.append(row | {"share of A_u lost": row["D_u"] / max(before[1], 1e-9)})
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]} if rows else {}


def gap(record: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """Return resampled values of A_a - A_u; the same images are drawn for every arm of a cell."""
    draws = []
    for part in ("authorised", "unauthorised"):
        values = np.array(record[part], float)
        draws.append(values[rng.integers(len(values), size=(1000, len(values)))].mean(axis=1))
    return draws[0] - draws[1]


def against(records: Sequence[dict[str, Any]], than: str) -> dict[str, Any]:
    """Return how much larger the gap between both domains is with IP-CLIP than with a different arm, where the domain is given."""
    draws, values = [], []
    keys = ("model", "cell", "seed")
    for one in (r for r in records if r["scenario"] == "given" and r["arm"] == "IP-CLIP"):
        other = next((r for r in records if r["scenario"] == "given" and r["arm"] == than and all(r[k] == one[k] for k in keys)), None)  # fmt: skip
        if other is not None:
            draws.append(gap(one, np.random.default_rng(0)) - gap(other, np.random.default_rng(0)))
            values.append((np.mean(one["authorised"]) - np.mean(one["unauthorised"])) - (np.mean(other["authorised"]) - np.mean(other["unauthorised"])))  # fmt: skip
    if not values:
        return {}
    low, high = np.quantile(np.mean(draws, axis=0), (0.025, 0.975))
    return {
        "claim": f"the gap A_a - A_u is larger than with: {than}", "difference": round(float(np.mean(values)), 4), "interval": [round(float(low), 4), round(float(high), 4)],
        "cells": len(values), "verdict": "holds" if low > 0 else "does not hold" if high < 0 else "within noise",
    }  # fmt: skip


def thresholds(records: Sequence[dict[str, Any]], scenario: str) -> list[dict[str, Any]]:
    """Return whether the drop in the authorised domain is at most 2 points, and the other at least half of the accuracy."""
    rows: list[dict[str, Any]] = []
    pairs = [
        (next(r for r in records if r["arm"] == "before" and all(r[k] == one[k] for k in ("model", "scenario", "cell", "seed"))), one)
        for one in records if one["scenario"] == scenario and one["arm"] == "IP-CLIP"
    ]  # fmt: skip
    if not pairs:
        return rows
    kept = np.concatenate([np.subtract(after["authorised"], before["authorised"]) + 0.02 for before, after in pairs])
    lost = np.concatenate([0.5 * np.array(before["unauthorised"]) - after["unauthorised"] for before, after in pairs])
    for words, values in (("the authorised drop is at most 2 points", kept), ("the unauthorised drop is at least half", lost)):  # fmt: skip
        score = mean(words, values)
        rows.append({"claim": f"{scenario}: {words}", "difference": round(score.value, 4), "interval": [round(score.low, 4), round(score.high, 4)], "cells": len(pairs), "verdict": verdict(score)})  # fmt: skip
    return rows


def main(options: Options) -> None:
    """Run what is missing, print and write the comparison."""
    torch.set_num_threads(1)
    start, file = time.perf_counter(), options.runs or home() / "ip_clip.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    records = run(options, file)
    found = {
        scenario: {arm: row for arm in (*ARMS, VISUAL) if (row := measures(records, scenario, arm))}
        for scenario in options.scenarios
    }
    for scenario, rows in found.items():
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        shown = [(arm, *(f"{100 * row[name]:.1f}" if name in row else "" for name in names)) for arm, row in rows.items()]  # fmt: skip
        table(f"unauthorised domain: {scenario}, %", ("arm", *names), shown)
    claims = [row for scenario in options.scenarios for row in thresholds(records, scenario)]
    claims += [row for arm in (*ARMS, VISUAL) if arm != "IP-CLIP" and (row := against(records, arm))]
    table("claims, points", ("claim", "difference", "95 %", "cells", "verdict"), [
        (r["claim"], f"{100 * r['difference']:+.1f}", f"{100 * r['interval'][0]:.1f} – {100 * r['interval'][1]:.1f}", r["cells"], r["verdict"]) for r in claims
    ])  # fmt: skip
    save(options.json_file, {**about(start), "measures": found, "claims": claims, "runs": len(records)})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
