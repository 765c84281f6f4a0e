"""Does Mod-X keep what an encoder knew while it is pretrained on one domain after the other, and does spatial disorder explain what is lost?

    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/modx.py --models nano --json-file benchmarks/adaptation/modx.json
    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/modx.py --report --runs one.jsonl two.jsonl

Two streams of image-text pairs of the labelled world: five unseen styles, and three groups of categories in one unseen style. From an encoder that
was trained on the world, each arm is trained on part after part: plain continued training; Mod-X; the alignment of all rows, without the filter; EWC,
which weighs weights by pairs of the part before, of the old domain at first; all parts at once, an upper bound; and contrast of two views of each
image, a control without texts. --arms also runs other weights of the alignment and scaled cosines. Measured after each part: R@1 both ways on the
parts so far, on a part that is never learned, and on the old domain; the rotation of the vectors of the old domain and the deviation of its texts.
All arms take the same steps and batches of the same pairs (AdamW, weight decay 0.1, a warm-up over a fifth of each part, then a cosine, as in the
reference); weights of the alignment are scaled from the batch of the reference. The rate of each arm, and the strength of EWC, is the best of --rates
and --strengths for each encoder on validation pairs of the first two parts of the second stream: by the mean R@1 of parts and old domain, or for the
control the share of nearest images with a common category. Parts have to pass the gate of `beds.py` with R@1. As a control, the vectors of the old
domain are turned by known angles: both modalities together, then the texts alone. Runs are lines of the first file of --runs, so that the command
goes on where it was interrupted. Intervals: 95 %, a bootstrap over cells of stream, encoder and seed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
import tyro
from beds import about
from harness import save
from modx_report import report, worth
from modx_streams import (
    OLD,
    STREAMS,
    VERSION,
    Domain,
    Pairs,
    Stream,
    joined,
    measured,
    pairs_of,
    passes,
    predicted,
    recall,
    turn,
    vectors,
    views,
)
from recorded import Record, RunOptions, Runs, batches, best_of, files_of, of_one_setting, settings_of, weights_of
from torch import Tensor

import percept
from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.core.seed import derive
from percept.data.batch import ImageText
from percept.eval.retrieval import same
from percept.losses.contrastive import info_nce
from percept.methods.adaptation.texts import base_of
from percept.methods.continual.disorder import disorder
from percept.methods.continual.ewc import EWC
from percept.methods.continual.modx import ModX
from percept.optim.rules import parameter_groups
from percept.optim.schedule import warmup_cosine

JOINT, IMAGES, ELASTIC = "joint", "images alone", "EWC"
HEADLINE: dict[str, dict[str, Any]] = {
    "continued": {"weight": 0.0},
    "Mod-X": {},
    "all rows": {"kept": "all"},
    ELASTIC: {},
    JOINT: {"weight": 0.0},
    IMAGES: {"weight": 0.0},
}
"""Arm to what differs from the configuration of the reference."""
GRID: dict[str, dict[str, Any]] = {
    **{f"Mod-X, weight {weight:g}": {"weight": weight} for weight in (1.0, 5.0, 100.0)},
    "Mod-X, scaled cosines": {"weight": 1.0, "scaled": True},
}
"""The weights of the alignment that are tried besides the reference's 20, and cosines with the temperature of the contrast."""
ARMS = HEADLINE | GRID
KEY = ("model", "vectors", "settings", "stream", "arm", "seed")
"""Fields that identify a run."""
TUNED, PLANTED = "contents", "planted rotation"
"""Stream on whose first parts rates are chosen; name of the control in place of a stream."""
ANGLES = (10.0, 30.0, 45.0, 60.0, 75.0)
"""Degrees of the planted rotations."""
DECAY, WARMUP, VIEW_SCALE, WEIGHED = 0.1, 0.2, 10.0, 10
"""Weight decay, share of the steps of a part in which the rate grows, scale of the cosines of views, and batches by which EWC weighs weights."""
VALIDATION, TESTED = 1_000_003, 2_000_003
"""Seeds of validation and test pairs; those of training pairs are smaller."""


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the benchmark."""

    models: tuple[str, ...] = ("nano",)
    """Encoders that were trained on the labelled world."""
    streams: tuple[str, ...] = tuple(STREAMS)
    """Of styles and contents."""
    arms: tuple[str, ...] = tuple(HEADLINE)
    """Arms that are run; those of the grid of weights have to be named."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Of the training pairs and their order."""
    steps: int = 40
    """Steps of a part."""
    batch: int = 48
    """Pairs of a step."""
    pairs: int = 600
    """Training pairs of a part."""
    test: int = 200
    """Test pairs of a part, and validation pairs."""
    old: int = 400
    """Test pairs of the old domain; at least as many as the vectors are long, so that images show how all of a space turned."""
    rates: tuple[float, ...] = (5e-5, 2e-4, 5e-4)
    """Learning rates that are tried; 5e-4 in the reference."""
    strengths: tuple[float, ...] = (0.1, 1.0, 10.0)
    """Weights of the penalty of EWC that are tried with each rate."""

    def __post_init__(self) -> None:
        if self.batch > self.pairs or min(self.batch, self.test, self.old) < 2 or self.steps < 1:
            raise PerceptError(
                f"batch={self.batch}, pairs={self.pairs}, test={self.test} and steps={self.steps}: a batch is of at least two and at most all pairs of a "
                "part, which has at least one step. Change them."
            )
        for given, known in ((self.streams, STREAMS), (self.arms, ARMS)):
            if unknown := set(given) - set(known):
                raise PerceptError(f"{', '.join(sorted(unknown))} is unknown. Choose from {', '.join(known)}.")

    @property
    def settings(self) -> str:
        """Hash of what decides a run besides its key."""
        return settings_of(self, version=VERSION)


@dataclass(frozen=True, kw_only=True, eq=False)
class Foundation:
    """An encoder, and the pairs and vectors that all runs with it share."""

    encoder: Any
    options: Options
    known: dict[Any, Any] = field(default_factory=dict)

    def tested(self, stream: Stream, seed: int) -> dict[str, Pairs]:
        """Return the pairs that are measured: old domain, parts, and the part that is never learned."""
        for domain in (OLD, *stream.parts, stream.never):
            if (domain.name, seed) not in self.known:
                count = self.options.old if domain is OLD else self.options.test
                self.known[domain.name, seed] = pairs_of(self.encoder, domain, count, seed)
        return {domain.name: self.known[domain.name, seed] for domain in (OLD, *stream.parts, stream.never)}

    def learned(self, domain: Domain, seed: int) -> Pairs:
        """Return training pairs; those of the last seed are kept."""
        if self.known.get(("seed", domain.name)) != seed:
            self.known["seed", domain.name] = seed
            self.known["pairs", domain.name] = pairs_of(self.encoder, domain, self.options.pairs, seed)
        return self.known["pairs", domain.name]

    def batch(self, pairs: Pairs, rows: Sequence[int]) -> ImageText:
        """Return some pairs as a method takes them."""
        return ImageText(image=self.encoder.preprocess.normalise(pairs.pixels[rows]), tokens=pairs.tokens[rows])

    def before(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the vectors of the untrained encoder."""
        if id(pairs) not in self.known:
            self.known[id(pairs)] = vectors(self.encoder.model, self.encoder, pairs)
        return self.known[id(pairs)]

    def open(self, name: str) -> Stream | None:
        """Return a stream without parts that do not pass the gate; None if fewer than two are left, or the old domain does not."""
        stream, tests = STREAMS[name], self.tested(STREAMS[name], TESTED)
        found = {each: passes(each, measured(*self.before(pairs), pairs), len(pairs), self.encoder) for each, pairs in tests.items()}  # fmt: skip
        parts = tuple(part for part in stream.parts if found[part.name])
        if len(parts) < 2 or not found[OLD.name] or not found[stream.never.name]:
            notice(f"the stream {name} is left out with {self.encoder.name}")
            return None
        return replace(stream, parts=parts)

    @cached_property
    def tuned(self) -> Stream:
        """The stream on which rates are chosen."""
        return replace(STREAMS[TUNED], parts=STREAMS[TUNED].parts[:2])


def train(
    method: ModX | EWC, foundation: Foundation, pairs: Pairs, steps: int, rate: float, seed: int, *, texts: bool
) -> float:
    """Train on pairs, or on their images alone; return the mean share of the rows that were kept."""
    options, kept = foundation.options, 0.0
    optimiser = torch.optim.AdamW(parameter_groups(method.clip, rate=rate, weight_decay=DECAY), lr=rate)
    rates = [group["lr"] for group in optimiser.param_groups]
    for step, rows in enumerate(batches(len(pairs), options.batch, steps, order(seed))):
        factor = warmup_cosine(step, warmup=max(1, round(WARMUP * steps)), steps=steps)
        for group, own in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = factor * own
        if texts:
            found = method(foundation.batch(pairs, rows))
        else:
            one, other = map(method.clip.embed_image, views(foundation.encoder, pairs, rows, derive(seed, "views", step)))  # fmt: skip
            found = {"loss": info_nce(one, other, torch.tensor(VIEW_SCALE))}
        optimiser.zero_grad()
        found["loss"].backward()
        optimiser.step()
        method.after_step()
        kept += float(found.get("kept", 0.0)) / steps
    return round(kept, 4)


def order(seed: int) -> torch.Generator:
    """Return the random numbers for the order of pairs."""
    return torch.Generator().manual_seed(derive(seed, "order"))


def method_of(arm: str, encoder: Any, batch: int, strength: float = 0.0) -> ModX | EWC:
    """Return an untrained arm."""
    if arm == ELASTIC:
        return EWC(EWC.Config(strength=strength), base_of(encoder))
    return ModX(ModX.Config.of_batch(batch, **ARMS[arm]), base_of(encoder))


def begin(method: ModX | EWC, foundation: Foundation, before: Callable[[], Pairs], seed: int) -> None:
    """Begin a phase; EWC weighs the weights by pairs of the domain before, which only it needs."""
    if isinstance(method, EWC):
        pairs = before()
        rows = batches(len(pairs), foundation.options.batch, WEIGHED, order(seed))
        method.weigh(foundation.batch(pairs, each) for each in rows)
    method.begin()


def state(
    method: ModX | EWC, foundation: Foundation, tests: dict[str, Pairs], trained: Sequence[str]
) -> dict[str, Any]:
    """Return what is measured of a model that was trained on some parts: R@1, neighbours, and the disorder of the old domain."""
    method.eval()
    last = list(tests)[-1]
    found = {name: vectors(method.clip, foundation.encoder, tests[name]) for name in (OLD.name, *trained, last)}
    turned = disorder(foundation.before(tests[OLD.name]), found[OLD.name])
    angle = {name: round(value, 3) for name, value in (vars(turned) | {"total": turned.total}).items()}
    old = foundation.before(tests[OLD.name])
    expected = predicted(*old, same(tests[OLD.name].captions), turned.deviation)
    return {
        "trained": list(trained), "domains": {name: measured(*each, tests[name]) for name, each in found.items()},
        "disorder": angle, "predicted R@1": expected,
    }  # fmt: skip


def run(foundation: Foundation, stream: Stream, arm: str, seed: int, tuned: tuple[float, float], tested: int = TESTED) -> Record:  # fmt: skip
    """Train an arm on a stream, and return what is measured before the first part and after each one; `tuned` is its rate and strength."""
    start, options, (rate, strength) = time.process_time(), foundation.options, tuned
    torch.manual_seed(derive(seed, "modx"))
    method = method_of(arm, foundation.encoder, options.batch, strength)
    tests, names = foundation.tested(stream, tested), [part.name for part in stream.parts]
    parts = [foundation.learned(part, seed) for part in stream.parts]
    before = {"trained": [], "domains": {name: measured(*foundation.before(each), each) for name, each in tests.items()}}  # fmt: skip
    phases, kept = [before], []
    for number in range(len(parts)) if arm != JOINT else (len(parts) - 1,):
        earlier = partial(foundation.learned, stream.parts[number - 1] if number else OLD, seed)
        begin(method, foundation, earlier, derive(seed, number))
        method.train()
        pairs, steps = (joined(parts), options.steps * len(parts)) if arm == JOINT else (parts[number], options.steps)
        kept.append(train(method, foundation, pairs, steps, rate, derive(seed, number), texts=arm != IMAGES))
        phases.append(state(method, foundation, tests, names[: number + 1]))
    seconds = round(time.process_time() - start, 1)
    return {"rate": rate, "strength": strength, "parts": names, "never": stream.never.name, "kept": kept, "seconds": seconds, "phases": phases}  # fmt: skip


def planted(foundation: Foundation, seed: int) -> dict[str, Any]:
    """Return what turns by known angles do to R@1 and to the disorder of the old domain: of both modalities, then of the texts alone."""
    pairs = foundation.tested(STREAMS[TUNED], TESTED)[OLD.name]
    (image, text), positive = foundation.before(pairs), same(pairs.captions)
    rows = []
    for angle in ANGLES:
        turned = turn(image.shape[1], angle, seed).T
        together, alone = (image @ turned, text @ turned), (image, text @ turned)
        rows.append({
            "angle": angle, "both": {"R@1": recall(*together, positive), **vars(disorder((image, text), together))},
            "texts": {"R@1": recall(*alone, positive), **vars(disorder((image, text), alone))},
            "predicted R@1": predicted(image, text, positive, angle),
        })  # fmt: skip
    return {"R@1": recall(image, text, positive), "turns": rows}


@dataclass(frozen=True, eq=False)
class Cells:
    """The runs with one encoder; what is done is read from and added to files."""

    foundation: Foundation
    runs: Runs

    def record(self, stream: str, arm: str, seed: int, made: Callable[[], Record]) -> Record:
        """Return the record of a run, which `made` makes if it is not done."""
        encoder, options = self.foundation.encoder, self.foundation.options
        place = (encoder.name, weights_of(encoder), options.settings, stream, arm, seed)
        return self.runs.once(place, made, lambda each: f"{encoder.name} {stream} {arm} {seed}, {each['seconds']} s")

    def tuned(self, arm: str) -> tuple[float, float]:
        """Return the rate and the strength of EWC, 0 for other arms, with the best result on validation pairs."""
        foundation, options = self.foundation, self.foundation.options
        strengths = options.strengths if arm == ELASTIC else (0.0,)

        def value(tuned: tuple[float, float]) -> float:
            name = f"{arm} {tuned[0]:g}" + (f" {tuned[1]:g}" if tuned[1] else "")
            tried = self.record("tuning", name, 0, lambda: run(foundation, foundation.tuned, arm, 0, tuned, VALIDATION))
            return worth(tried, arm == IMAGES)

        return best_of([(rate, strength) for rate in options.rates for strength in strengths], value)

    def all(self) -> None:
        """Run what is missing, seed by seed, so that a part of the table is complete early."""
        foundation, options = self.foundation, self.foundation.options
        streams = {name: stream for name in options.streams if (stream := foundation.open(name)) is not None}
        tuned = {arm: self.tuned(arm) for arm in options.arms} if streams else {}
        for seed in options.seeds:
            self.record(PLANTED, PLANTED, seed, partial(planted, foundation, seed))
            for name, stream in streams.items():
                for arm, best in tuned.items():
                    self.record(name, arm, seed, partial(run, foundation, stream, arm, seed, best))


def main(options: Options) -> None:
    """Run what is missing, print and write the comparison."""
    torch.set_num_threads(options.threads)
    start, files = time.perf_counter(), files_of(options.runs, "modx.jsonl")
    runs, used = Runs(files, KEY), set[tuple[str, str]]()
    for model in () if options.report else options.models:
        encoder = percept.load(model, dtype="float32")
        used.add((encoder.name, weights_of(encoder)))
        Cells(Foundation(encoder=encoder, options=options), runs).all()
    mine = [each for each in runs.done.values() if each["settings"] == options.settings]
    mine = [each for each in mine if options.report or (each["model"], each["vectors"]) in used]
    save(
        options.json_file,
        {**about(start), "steps": options.steps, "batch": options.batch, **report(checked(mine), PLANTED)},
    )


def checked(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records.

    Raises:
        PerceptError: there is none, or a name of a model stands for several.
    """
    if not records:
        raise PerceptError("no run has these options. Give the options that the runs were made with, or leave --report out.")  # fmt: skip
    return of_one_setting(records, KEY, {"model": "vectors"})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
