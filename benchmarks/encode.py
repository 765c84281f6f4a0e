"""How fast pictures are encoded here, as a share of what this machine's matrix products reach.

    sh benchmarks/oracles.sh                         # once: timm and open_clip in an environment of their own
    python benchmarks/encode.py                      # prints tables and writes encode.json beside this file
    python benchmarks/encode.py --quick              # the smallest and the middle model, two turns; writes nothing
    python benchmarks/encode.py --device cuda        # on a GPU: B16, L14 and G14, and writes encode_gpu.json

Random weights of the released sizes; a pass is the vision tower from normalised pixels to the projected vector. Ways take
turns, each model and batch on a CPU in a process of its own, and between the turns the peak is measured, a product of large
matrices in the same number type:
    plain          float32, every layer called as it is written, as the public code computes
    autocast       the same under torch.autocast to bfloat16
    timm, open_clip    their models, in float32 and with bfloat16 weights, each library in a process of its own that waits for
                   its turn; skipped with a notice where they are not installed
    ours float32, ours bfloat16    as percept.load computes
    ours unpacked  bfloat16 without the second copy of the weights
On a GPU, in bfloat16, all with the same weights:
    plain          every layer called as it is written, as the public code computes
    plain compiled     the same, one block compiled for all
    ours eager     as percept.load computes: on Hopper GPUs cuDNN's attention, GELU within its matrix product
    ours compiled  as percept.load(..., compile=True) computes: also each sum with the norm behind it
    compiled, tuned    with --tuned: the compiler tries more ways to write a kernel
A turn is a burst of passes one after the other, as in use, and the pass its mean. Short cases take more turns, for as long as
`--span` says: a neighbour's work on a shared machine comes and goes in seconds.
"of peak" is the median over the turns of each turn's share of the peak measured right before it: on a shared processor with
AMX the same product gives 0.7 TFLOP/s in one second and 2.2 in another. "of best" is the median pass as a share of the best
product of the whole run, which asks more. A peak on a CPU is the best of some products, on a GPU that of a burst, for it
clocks lower after a while. Both count the matrix products of the model, by the clock, which is what one waits for; the file
also has shares of processor seconds. Preprocessing reads JPEG files of 1600 x 1200 pixels made here.
"""

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.core.machine import device_name, fast_dtype, peak_side, pick_device, wait
from percept.core.report import notice, out, table, track
from percept.data.transforms import Preprocess
from percept.infer.encoder import Encoder, Setting
from percept.infer.identity import Identity
from percept.infer.pictures import prepared, to_tensor
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, VisionConfig
from percept.models.vision import VisionTower
from percept.models.zoo import find
from percept.nn.linear import linear, pack, plain_layers
from percept.nn.stack import Step, call_block, compiled_step

RESULTS = Path(__file__).with_suffix(".json")
GPU_RESULTS = RESULTS.with_name("encode_gpu.json")
ORACLES = Path(__file__).parents[1] / ".venv-oracles"
FLOAT, NARROW = torch.float32, torch.bfloat16
ON_CPU = ("PE-Core-T16-384", "PE-Core-S16-384", "PE-Core-B16-224", "PE-Core-L14-336")
ON_GPU = {"PE-Core-B16-224": 256, "PE-Core-L14-336": 64, "PE-Core-G14-448": 64}
"""Models, and the batch that fills a large GPU."""
GOALS = {
    ("cpu", "PE-Core-B16-224", 8, "ours bfloat16"): 0.70,
    ("cpu", "PE-Core-B16-224", 1, "ours bfloat16"): 0.55,
    ("cpu", "PE-Core-B16-224", 8, "ours float32"): 0.85,
    ("cuda", "PE-Core-B16-224", 256, "ours compiled"): 0.60,
    ("cuda", "PE-Core-L14-336", 64, "ours compiled"): 0.75,
    ("cuda", "PE-Core-G14-448", 64, "ours compiled"): 0.85,
}
"""Least shares of the peak beside, by the clock."""
LIBRARIES = ("timm", "open_clip")
BURST, MOST = 0.4, 1000
"""Seconds of a burst, and its most passes."""
TURNS = 100
"""Most turns of a model and batch."""
TUNED = {"coordinate_descent_tuning": True, "triton.multi_kernel": 1}
"""Options of the compiler."""
KEEPS_UP = 1.2
"""Preprocessing has to be this many times as fast as the smallest model."""


@dataclass(frozen=True)
class Rate:
    """Floating-point operations per second, or seconds of one pass, by the clock and of the processor."""

    clock: float
    processor: float


@dataclass
class Times:
    """Seconds of one thing, once per turn, and the peaks measured right before."""

    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    peaks: list[Rate] = field(default_factory=list)

    def add(self, job: Callable[[], Any], device: torch.device, passes: int = 1) -> None:
        """Do it so many times and note what one took."""
        one = timed(job, device, passes)
        self.clock.append(one.clock)
        self.processor.append(one.processor)

    def burst(self) -> int:
        """Return how many passes make a burst."""
        return max(1, min(MOST, round(BURST / self.clock[-1])))


def timed(job: Callable[[], Any], device: torch.device, passes: int) -> Rate:
    """Do it so many times and return the seconds of one."""
    wait(device)
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(passes):
        job()
    wait(device)
    return Rate((time.perf_counter() - clock) / passes, (time.process_time() - processor) / passes)


@dataclass(frozen=True)
class Way:
    """One way to compute a pass."""

    dtype: torch.dtype
    model: Callable[[Tensor], Any]
    inside: Callable[[], AbstractContextManager[Any]] = nullcontext
    products: torch.dtype | None = None
    """The number type it multiplies in, if it is not that of its weights."""

    def turn(self, image: Tensor, device: torch.device, passes: int) -> Rate:
        """Compute so many passes and return the seconds of one."""
        image = image.to(self.dtype)
        with self.inside():
            return timed(lambda: self.model(image), device, passes)


@dataclass(frozen=True)
class Theirs:
    """A model of another library in its own process, which computes when told to."""

    dtype: torch.dtype
    library: str
    process: "subprocess.Popen[str]"
    products: torch.dtype | None = None

    def turn(self, image: Tensor, device: torch.device, passes: int) -> Rate:
        """Have so many passes computed, on an image of that process, and return the seconds of one."""
        found = answer(self.process, f"{self.library} {str(self.dtype).removeprefix('torch.')} {passes}")
        if found is None or "error" in found:
            raise PerceptError(f"{self.library} stopped: {(found or {}).get('error', 'its process ended')}")
        return Rate(found["clock"], found["processor"])


def answer(process: "subprocess.Popen[str]", line: str | None = None) -> dict[str, Any] | None:
    """Send a line and return what comes back, None if the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    if line is not None:
        try:
            print(line, file=process.stdin, flush=True)
        except BrokenPipeError:
            return None
    for told in process.stdout:
        if told.startswith("{"):
            return json.loads(told)
    return None


@contextmanager
def theirs(name: str, batch: int, python: Path, dtypes: list[torch.dtype]) -> Iterator[dict[str, Theirs]]:
    """Start the models of other libraries in their own environment, one process per library, and end them afterwards."""
    found: dict[str, Theirs] = {}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with ExitStack() as stack:
        for library in LIBRARIES if python.is_file() else ():
            command = [str(python), str(Path(__file__).with_name("oracle.py")), library, name, str(batch)]
            command += [str(torch.get_num_threads()), *(str(one).removeprefix("torch.") for one in dtypes)]
            log = stack.enter_context(tempfile.TemporaryFile("w+"))
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
            stack.callback(ended, process)
            about = answer(process)
            if about is None:
                log.seek(0)
                about = {"error": (log.read().strip().splitlines() or ["?"])[-1]}
            if "error" in about:
                notice(f"{library} has no {name} that runs here: {about['error']}")
                continue
            for dtype in dtypes:
                kind = str(dtype).removeprefix("torch.")
                found[f"{library} {about['version']} {kind}"] = Theirs(dtype, library, process)
        yield found


def ended(process: "subprocess.Popen[str]") -> None:
    """End a process that waits for lines."""
    process.kill()
    process.communicate()


@contextmanager
def autocast() -> Iterator[None]:
    """Compute with float32 weights, products in bfloat16."""
    with plain_layers(), torch.autocast("cpu", NARROW):
        yield


def tower(config: VisionConfig, device: torch.device, dtype: torch.dtype) -> VisionTower:
    """Return a tower of random weights, the same for every way."""
    torch.manual_seed(0)
    with device:  # a processor takes minutes for the random numbers of a large one
        return VisionTower(config).eval().to(dtype)


def packed(config: VisionConfig, device: torch.device, dtype: torch.dtype) -> VisionTower:
    """Return a tower as an encoder holds it."""
    model = tower(config, device, dtype)
    pack(model)
    return model


@contextmanager
def called(model: VisionTower, step: Step, plain: bool = False) -> Iterator[None]:
    """Have the blocks called by a step, with plain layers or ours."""
    before, model.step = model.step, step
    try:
        with plain_layers() if plain else nullcontext():
            yield
    finally:
        model.step = before


def ways_of_gpu(config: VisionConfig, device: torch.device, tuned: bool) -> dict[str, Way]:
    """Return eager and compiled ways, which share one tower."""
    model = tower(config, device, NARROW)
    steps: dict[str, tuple[Step, bool]] = {
        "plain": (call_block, True),
        "plain compiled": (torch.compile(call_block), True),
        "ours eager": (call_block, False),
        "ours compiled": (compiled_step(), False),
    }
    if tuned:
        steps["compiled, tuned"] = (compiled_step(dynamic=False, options=TUNED), False)
    return {key: Way(NARROW, model, partial(called, model, *how)) for key, how in steps.items()}


def ways_of(config: VisionConfig, device: torch.device, tuned: bool = False) -> dict[str, Way]:
    """Return the ways that make sense on a device."""
    if device.type != "cpu":
        return ways_of_gpu(config, device, tuned)
    ways = {"plain": Way(FLOAT, tower(config, device, FLOAT), plain_layers)}
    ways["ours float32"] = Way(FLOAT, packed(config, device, FLOAT))
    if fast_dtype(device)[0] == NARROW:
        ways["autocast"] = Way(FLOAT, ways["plain"].model, autocast, NARROW)
        ways["ours unpacked"] = Way(NARROW, tower(config, device, NARROW))
        ways["ours bfloat16"] = Way(NARROW, packed(config, device, NARROW))
    return ways


def operations(config: VisionConfig) -> float:
    """Return the floating-point operations of the matrix products of one picture."""
    with torch.device("meta"):
        model, image = VisionTower(config).eval(), torch.empty(1, 3, config.image_size, config.image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(image)
    return counter.get_total_flops()


class Peaks:
    """The matrix-product peak of number types, measured again and again; the best counts.

    On a CPU both as torch multiplies and as oneDNN does with an ordered weight: in float32 these are two libraries, and the
    share of what the slower one reaches would say nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.size = device, peak_side(device)
        self.clock: dict[torch.dtype, float] = {}
        self.processor: dict[torch.dtype, float] = {}
        self._jobs: dict[torch.dtype, list[Callable[[], Any]]] = {}

    @torch.no_grad()
    def measure(self, dtype: torch.dtype) -> Rate:
        """Multiply large matrices a few times and return the rate of the best."""
        clock = processor = 0.0
        for job in self._prepared(dtype):
            times, passes = Times(), 1
            for turn in range(4):
                times.add(job, self.device, passes)
                if not turn:  # warms up
                    passes, times = 1 if self.device.type == "cpu" else times.burst(), Times()
            work = 2 * self.size**3
            clock = max(clock, work / min(times.clock))
            processor = max(processor, work / max(min(times.processor), 1e-9))
        self.take(dtype, Rate(clock, processor))
        return Rate(clock, processor)

    def take(self, dtype: torch.dtype, peak: Rate) -> None:
        """Keep a peak if it is the best."""
        self.clock[dtype] = max(self.clock.get(dtype, 0), peak.clock)
        self.processor[dtype] = max(self.processor.get(dtype, 0), peak.processor)

    def _prepared(self, dtype: torch.dtype) -> list[Callable[[], Any]]:
        if dtype not in self._jobs:
            matrix = torch.randn(self.size, self.size, device=self.device).to(dtype)
            self._jobs[dtype] = [lambda: matrix @ matrix]
            if self.device.type == "cpu":
                layer = torch.nn.Linear(self.size, self.size, dtype=dtype)
                pack(layer)
                self._jobs[dtype].append(lambda: linear(layer, matrix))
        return self._jobs[dtype]


@dataclass(frozen=True)
class Turns:
    """How often a model and batch are measured: so many turns at least, and for so many seconds."""

    repeats: int
    span: float

    def __iter__(self) -> Iterator[int]:
        """Count the turns while there is another one."""
        start, turn = time.perf_counter(), 0
        while turn < self.repeats or (time.perf_counter() - start < self.span and turn < TURNS):
            yield turn
            turn += 1


@torch.no_grad()  # not inference_mode: weights made in that are never packed
def measured(
    name: str, batch: int, turns: Turns, device: torch.device, peaks: Peaks, *, oracles: Path, tuned: bool = False
) -> list[dict[str, Any]]:
    """Measure all ways of one model, taking turns."""
    config = vision(name)
    image = torch.randn(batch, 3, config.image_size, config.image_size, device=device)
    own = ways_of(config, device, tuned)
    dtypes = list(dict.fromkeys(way.dtype for way in own.values()))
    python = oracles / "bin" / "python" if device.type == "cpu" else oracles / "none"
    with theirs(name, batch, python, dtypes) as others:
        ways = own | others
        times, passes = {key: Times() for key in ways}, {key: warmed(way, image) for key, way in ways.items()}
        for _ in turns:
            for key, way in ways.items():
                times[key].peaks.append(peaks.measure(way.products or way.dtype))
                taken = way.turn(image, device, passes[key])
                times[key].clock.append(taken.clock)
                times[key].processor.append(taken.processor)
    rows = [row_of(name, batch, key, str(way.dtype), times[key]) for key, way in ways.items()]
    work = batch * operations(config)
    for row in rows:
        add_shares(row, times[row["way"]], times["plain"], work)
        row["passes a turn"] = passes[row["way"]]
    return [
        row | {"way": row["way"].removesuffix(f" {row['type']}") if row["way"] in others else row["way"]}
        for row in rows
    ]


def measured_apart(
    name: str, batch: int, turns: Turns, device: torch.device, peaks: Peaks, *, oracles: Path, tuned: bool = False
) -> list[dict[str, Any]]:
    """Do it in a process of its own: what ran before leaves memory slower behind."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "one.json"
        command = [sys.executable, __file__, "--models", name, "--batches", str(batch)]
        command += ["--repeats", str(turns.repeats), "--span", str(turns.span), "--files", "0", "--device", str(device)]
        command += ["--oracles", str(oracles), "--json-file", str(file)]
        wide = os.environ | {"COLUMNS": "500"}  # a notice stays in one line
        done = subprocess.run(command + ["--tuned"] * tuned, capture_output=True, text=True, check=False, env=wide)
        for line in done.stderr.splitlines():
            if " that runs here: " in line:
                notice(line)
        if done.returncode:
            raise PerceptError(f"{name}, batch {batch}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        found = json.loads(file.read_text())
    for dtype, peak in found["peak GFLOP/s by the clock"].items():
        of_processor = (found["peak GFLOP/s of the processor"] or {}).get(dtype, 0)
        peaks.take(getattr(torch, dtype.removeprefix("torch.")), Rate(1e9 * peak, 1e9 * of_processor))
    return found["results"]


def warmed(way: Way | Theirs, image: Tensor) -> int:
    """Compute the first passes, which compile, and return how many passes a turn has from now on."""
    device, times = image.device, Times()
    for _ in range(1 if device.type == "cpu" else 3):
        times.clock.append(way.turn(image, device, 1).clock)
    return times.burst()


def free(device: torch.device) -> None:
    """Give back the memory of models that are not used any more."""
    gc.collect()
    if device.type != "cpu":
        torch.compiler.reset()
        torch.get_device_module(device).empty_cache()


def vision(name: str) -> VisionConfig:
    """Return the shapes of a released model."""
    config = find(name).config
    if config is None:
        raise PerceptError(f"{name} ships in the package; give released models, such as {ON_CPU[0]}")
    return config.vision


def row_of(name: str, batch: int, way: str, dtype: str, times: Times) -> dict[str, Any]:
    """Sum up the turns of one way: medians, and the range by the clock."""
    return {
        "model": name,
        "batch": batch,
        "way": way,
        "type": "mixed" if way == "autocast" else dtype.removeprefix("torch."),
        "clock s": round(statistics.median(times.clock), 6),
        "lowest s": round(min(times.clock), 6),
        "highest s": round(max(times.clock), 6),
        "turns": len(times.clock),
        "processor s": round(statistics.median(times.processor), 6),
    }


def add_shares(row: dict[str, Any], times: Times, plain: Times, work: float) -> None:
    """Add speed, shares of the peaks beside and how much faster than plain float32 it is, turn by turn."""
    on_cpu = any(peak.processor for peak in times.peaks) and row["processor s"] > 0
    pairs = list(zip(times.clock, times.processor, times.peaks, strict=True))
    row["pictures/s"] = round(row["batch"] / row["clock s"], 3)
    row["share by the clock"] = round(statistics.median(work / clock / peak.clock for clock, _, peak in pairs), 4)
    of_processor = [work / max(spent, 1e-9) / max(peak.processor, 1e-9) for _, spent, peak in pairs]
    row["share of the processor"] = round(statistics.median(of_processor), 4) if on_cpu else None
    row["times plain"] = round(statistics.median(a / b for a, b in zip(plain.clock, times.clock, strict=True)), 3)


def finish(rows: list[dict[str, Any]], peaks: Peaks) -> None:
    """Add shares of the best product of the run, and the goals."""
    work = {name: operations(vision(name)) for name in {row["model"] for row in rows}}
    for row in rows:
        best = peaks.clock[FLOAT if row["type"] == "float32" else NARROW]  # autocast multiplies in bfloat16
        row["share of the best"] = round(work[row["model"]] * row["batch"] / row["clock s"] / best, 4)
        row["goal"] = GOALS.get((peaks.device.type, row["model"], row["batch"], row["way"]))


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return what the table shows of one way."""
    return (
        row["way"], row["type"], f"{row['pictures/s']:.3g}", f"{1000 * row['clock s']:,.1f}",
        f"{row['share by the clock']:.1%}", f"{row['share of the best']:.1%}", f"{row['times plain']:.2f}",
    )  # fmt: skip


def show(rows: list[dict[str, Any]], peaks: Peaks) -> None:
    """Print a table for each model and batch, the peaks, and which goals are met."""
    for dtype, peak in peaks.clock.items():
        out.print(f"peak {str(dtype).removeprefix('torch.')}: {peak / 1e9:,.0f} GFLOP/s by the clock")
    columns = ("way", "type", "pict./s", "ms", "of peak", "of best", "x plain")
    for name, batch in dict.fromkeys((row["model"], row["batch"]) for row in rows):
        some = [row for row in rows if (row["model"], row["batch"]) == (name, batch)]
        table(f"{name}, batch {batch}", columns, [cells(row) for row in some])
    for row in rows:
        if row["goal"] is not None:
            share, best, goal = row["share by the clock"], row["share of the best"], row["goal"]
            verdict, case = "met" if share >= goal else "MISSED", f"{row['model']}, batch {row['batch']}, {row['way']}"
            out.print(f"goal for {case}: {goal:.0%}; {share:.1%} of peak: {verdict} ({best:.1%} of best)")
    slower = [row for row in rows if row["way"] in ("ours float32", "ours bfloat16") and row["times plain"] < 1]
    for row in slower:
        out.print(f"SLOWER than plain float32: {row['model']}, batch {row['batch']}, {row['way']}")


def photographs(folder: Path, count: int) -> list[Path]:
    """Write JPEG files of 1600 x 1200 pixels that compress as photographs do."""
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (75, 100, 3), dtype=np.uint8)).resize((1600, 1200))
        noise = generator.integers(-6, 7, (1200, 1600, 1))
        pixels = np.clip(np.asarray(coarse, np.int16) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)
    return sorted(folder.iterdir())


def preprocessing(name: str, count: int, device: torch.device) -> dict[str, Any]:
    """Measure reading files alone, the model alone, and both together as an encoder does it, in pictures per second."""
    config, (dtype, reason) = vision(name), fast_dtype(device)
    setting = Setting(device=device, dtype=dtype, reason=reason, batch=8)
    preprocess, identity = Preprocess(size=config.image_size), Identity(name=name, fingerprint="random weights", dim=1)
    torch.manual_seed(0)
    encoder = Encoder(CLIP(ClipConfig(vision=config)), preprocess=preprocess, identity=identity, setting=setting)
    jobs: dict[str, Callable[[], Any]]
    with tempfile.TemporaryDirectory() as folder:
        files = photographs(Path(folder), count)
        pixels = torch.stack([to_tensor(file, preprocess) for file in files])
        jobs = {
            "reading": lambda: list(prepared(files, lambda file: to_tensor(file, preprocess))),
            "model": lambda: encoder.image(preprocess.normalise(pixels)),
            "together": lambda: encoder.files(files),
        }
        times = {job: Times() for job in jobs}
        for turn in track(range(3), f"reading files for {name}", 3):
            for job, do in jobs.items():
                (times[job] if turn else Times()).add(do, device)
    rates = {f"{job}/s": round(count / min(one.clock), 2) for job, one in times.items()}
    processor = {f"{job} processor ms": round(1000 * min(one.processor) / count, 3) for job, one in times.items()}
    return {"model": name, "files": count, **rates, **processor}


def show_preprocessing(row: dict[str, Any]) -> None:
    """Print how reading and model compare."""
    columns = ("", "pictures/s", "processor ms per picture")
    jobs = ("reading", "model", "together")
    table(f"JPEG files of 1600 x 1200 pixels into {row['model']}", columns,
          [(job, row[f"{job}/s"], row[f"{job} processor ms"]) for job in jobs])  # fmt: skip
    times = row["reading/s"] / row["model/s"]
    verdict = "met" if times >= KEEPS_UP else "MISSED"
    out.print(f"goal: reading at least {KEEPS_UP} times as fast as {row['model']}; {times:.2f} times: {verdict}")


def main(
    models: tuple[str, ...] = (),
    batches: tuple[int, ...] = (),
    repeats: int | None = None,
    span: float = 90,
    quick: bool = False,
    files: int | None = None,
    tuned: bool = False,
    device: str = "auto",
    oracles: Path = ORACLES,
    json_file: Path | None = None,
) -> None:
    """Measure.

    Args:
        models: Released models; T16, S16, B16 and L14 on a CPU, B16, L14 and G14 on a GPU if none are given.
        batches: Pictures in a pass; 1 and 8 on a CPU, on a GPU one that fills it if none are given.
        repeats: Turns of every way at least, medians of which are shown; 5 on a CPU, 9 on a GPU if not given.
        span: Seconds to take turns for with a model and batch on a CPU; each way and the peak before it take half a second or more.
        quick: T16 and B16 only, 2 turns.
        files: JPEG files for the part about preprocessing, 0 to leave it out; 48 on a CPU, 0 on a GPU if not given.
        tuned: On a GPU also with tuned kernels.
        device: auto, cpu, cuda or mps.
        oracles: Environment with timm and open_clip.
        json_file: Where to write the figures; if not given, encode.json or encode_gpu.json, of all models and batches only.
    """
    start, place = time.perf_counter(), pick_device(device)
    beside = place.type == "cpu"
    repeats, files = (5 if beside else 9) if repeats is None else repeats, 48 * beside if files is None else files
    if json_file is None and not (quick or models or batches):
        json_file = RESULTS if beside else GPU_RESULTS
    if repeats < 1 or files < 0 or span < 0:
        raise PerceptError(f"repeats={repeats}, files={files} and span={span}; at least 1, 0 and 0")
    names = models or tuple(ON_CPU if beside else ON_GPU)
    if quick:
        names, repeats = models or (ON_CPU[0], ON_CPU[2]), min(repeats, 2)
    turns = Turns(repeats, span if beside and not quick else 0)
    peaks, rows, python = Peaks(place), [], oracles / "bin" / "python"
    if beside and not python.is_file():
        notice(f"timm and open_clip are left out: there is no {python}; make it with: sh benchmarks/oracles.sh")
    if beside and fast_dtype(place)[0] != NARROW:
        notice("bfloat16 is left out: this processor has no fast bfloat16")
    for name in names:
        vision(name)  # an unknown one is said before minutes of work
    cases = [(name, size) for name in names for size in batches or ((1, 8) if beside else (ON_GPU.get(name, 64),))]
    read = None
    for name, batch in track(cases, "models and batches", len(cases)):
        alone = len(cases) == 1 or not beside
        rows += (measured if alone else measured_apart)(name, batch, turns, place, peaks, oracles=oracles, tuned=tuned)
        free(place)
        finish(rows, peaks)
        write(json_file, rows, peaks, repeats=repeats, start=start)  # what is there survives an interruption
    show(rows, peaks)
    if files:
        read = preprocessing(names[0], files, place)
        show_preprocessing(read)
    write(json_file, rows, peaks, repeats=repeats, start=start, preprocessing=read)
    out.print("nothing written: give --json-file" if json_file is None else f"written: {json_file}", soft_wrap=True)


def without_folder(word: str) -> str:
    """Leave out the folders of an absolute path, which say nothing elsewhere."""
    return Path(word).name if os.path.isabs(word) else word


def write(
    file: Path | None, rows: list[dict[str, Any]], peaks: Peaks, *, repeats: int, start: float, **more: Any
) -> None:
    """Write what was measured, and on what, if there is a file for it."""
    if file is None:
        return
    told = ((peaks.clock, "by the clock"), (peaks.processor if peaks.device.type == "cpu" else {}, "of the processor"))
    about = {
        "command": " ".join(["python", "benchmarks/encode.py", *map(without_folder, sys.argv[1:])]),
        "torch": torch.__version__, "machine": device_name(peaks.device), "device": str(peaks.device),
        "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 2), "seed": 0, "repeats": repeats,
        **{f"peak GFLOP/s {how}": {str(key): round(value / 1e9, 1) for key, value in known.items()} or None
           for known, how in told},
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    write_json(file, about | {"results": rows, "preprocessing": None} | more)


if __name__ == "__main__":
    tyro.cli(main)
