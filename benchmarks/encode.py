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
    timm, open_clip    their models, in float32 and with bfloat16 weights; skipped with a notice where they are not installed
    ours float32, ours bfloat16    as percept.load computes
    ours unpacked  bfloat16 without the second copy of the weights
On a GPU, in bfloat16, all with the same weights:
    plain          every layer called as it is written, as the public code computes
    plain compiled     the same, one block compiled for all
    ours eager     as percept.load computes: on Hopper GPUs cuDNN's attention, GELU within its matrix product
    ours compiled  as percept.load(..., compile=True) computes: also each sum with the norm behind it
    compiled, tuned    with --tuned: the compiler tries more ways to write a kernel
A turn is a burst of passes one after the other, as in use, and the pass its mean. Short cases take more turns, for as long as
`--span` says: a neighbour's work on a shared machine comes and goes in seconds. The peak of a CPU is the best single
product of the whole run; that of a GPU is of a burst too, for it clocks lower after a while.
The share of the peak counts the matrix products of the model. "by the clock" is what one waits for; "of the processor" divides
by processor seconds of all threads, so that other work on the machine changes it little. Preprocessing reads JPEG files
of 1600 x 1200 pixels made here.
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
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
"""Least shares of the peak, by the clock."""
BURST, MOST = 0.4, 1000
"""Seconds of a burst, and its most passes."""
SPANS = 5
"""Ways of ours that share the seconds of a case; a model of another library has its own share."""
TURNS = 100
"""Most turns of a model and batch."""
TUNED = {"coordinate_descent_tuning": True, "triton.multi_kernel": 1}
"""Options of the compiler."""
KEEPS_UP = 1.2
"""Preprocessing has to be this many times as fast as the smallest model."""


@dataclass
class Times:
    """Seconds of one thing, once per turn."""

    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def add(self, job: Callable[[], Any], device: torch.device, passes: int = 1) -> None:
        """Do it so many times and note what one took."""
        wait(device)
        clock, processor = time.perf_counter(), time.process_time()
        for _ in range(passes):
            job()
        wait(device)
        self.clock.append((time.perf_counter() - clock) / passes)
        self.processor.append((time.process_time() - processor) / passes)

    def burst(self) -> int:
        """Return how many passes make a burst."""
        return max(1, min(MOST, round(BURST / self.clock[-1])))


@dataclass(frozen=True)
class Way:
    """One way to compute a pass."""

    dtype: torch.dtype
    model: Callable[[Tensor], Any]
    inside: Callable[[], AbstractContextManager[Any]] = nullcontext


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
        ways["autocast"] = Way(FLOAT, ways["plain"].model, autocast)
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

    @torch.no_grad()
    def measure(self, dtype: torch.dtype) -> None:
        """Multiply large matrices a few times."""
        matrix = torch.randn(self.size, self.size, device=self.device).to(dtype)
        self._time(dtype, lambda: matrix @ matrix)
        if self.device.type == "cpu":
            layer = torch.nn.Linear(self.size, self.size, dtype=dtype)
            pack(layer)
            self._time(dtype, lambda: linear(layer, matrix))

    def _time(self, dtype: torch.dtype, job: Callable[[], Any]) -> None:
        times, passes = Times(), 1
        for turn in range(4):
            times.add(job, self.device, passes)
            if not turn:  # warms up
                passes, times = 1 if self.device.type == "cpu" else times.burst(), Times()
        work = 2 * self.size**3
        self.clock[dtype] = max(self.clock.get(dtype, 0), work / min(times.clock))
        self.processor[dtype] = max(self.processor.get(dtype, 0), work / max(min(times.processor), 1e-9))


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
    name: str, batch: int, turns: Turns, device: torch.device, peaks: Peaks, *, tuned: bool = False
) -> list[dict[str, Any]]:
    """Measure all ways of one model, taking turns."""
    config = vision(name)
    ways = ways_of(config, device, tuned)
    image = torch.randn(batch, 3, config.image_size, config.image_size, device=device)
    inputs = {key: image.to(way.dtype) for key, way in ways.items()}
    times, passes = {key: Times() for key in ways}, {key: warmed(way, inputs[key], device) for key, way in ways.items()}
    for _ in turns:
        for dtype in dict.fromkeys(way.dtype for way in ways.values()):
            peaks.measure(dtype)
        for key, way in ways.items():
            with way.inside():
                times[key].add(lambda w=way, k=key: w.model(inputs[k]), device, passes[key])
    rows = [row_of(name, batch, key, str(way.dtype), times[key]) for key, way in ways.items()]
    return [row | {"passes a turn": passes[row["way"]]} for row in rows]


def measured_apart(
    name: str, batch: int, turns: Turns, device: torch.device, peaks: Peaks, *, tuned: bool = False
) -> list[dict[str, Any]]:
    """Do it in a process of its own, as the other libraries' models are: what ran before leaves memory slower behind."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "one.json"
        command = [sys.executable, __file__, "--models", name, "--batches", str(batch)]
        command += ["--repeats", str(turns.repeats), "--span", str(turns.span), "--files", "0", "--device", str(device)]
        command += ["--oracles", folder, "--json-file", str(file)]
        done = subprocess.run(command + ["--tuned"] * tuned, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PerceptError(f"{name}, batch {batch}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        found = json.loads(file.read_text())
    for known, told in ((peaks.clock, "by the clock"), (peaks.processor, "of the processor")):
        for dtype, peak in found[f"peak GFLOP/s {told}"].items():
            one = getattr(torch, dtype.removeprefix("torch."))
            known[one] = max(known.get(one, 0), 1e9 * peak)
    return found["results"]


def warmed(way: Way, image: Tensor, device: torch.device) -> int:
    """Compute the first passes, which compile, and return how many passes a turn has from now on."""
    times = Times()
    with way.inside():
        for _ in range(1 if device.type == "cpu" else 3):
            times.add(lambda: way.model(image), device)
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


def with_oracles(
    name: str, batch: int, turns: Turns, python: Path, dtypes: list[torch.dtype]
) -> Iterator[dict[str, Any]]:
    """Measure the models of other libraries in their own environment."""
    for dtype in (str(one).removeprefix("torch.") for one in dtypes):
        command = [str(python), str(Path(__file__).with_name("oracle.py"))]
        command += [name, str(batch), str(turns.repeats), str(turns.span / SPANS), dtype, str(torch.get_num_threads())]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if not found:
            notice(f"the other libraries' models did not run: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        for one in found:
            if "error" in one:
                notice(f"{one['library']} has no {name} that runs here: {one['error']}")
                continue
            times = Times(one["clock"], one["processor"])
            yield row_of(name, batch, f"{one['library']} {one['version']}", dtype, times)


def finish(rows: list[dict[str, Any]], peaks: Peaks) -> None:
    """Add speeds, shares of the peak and how much faster than plain float32 each way is."""
    work = {name: operations(vision(name)) for name in {row["model"] for row in rows}}
    for row in rows:
        # autocast multiplies in bfloat16, so it is measured by that peak
        dtype = FLOAT if row["type"] == "float32" else NARROW
        done = work[row["model"]] * row["batch"]
        plain = [one for one in rows if one["way"] == "plain" and one["model"] == row["model"]]
        plain = [one["clock s"] for one in plain if one["batch"] == row["batch"]]
        row["pictures/s"] = round(row["batch"] / row["clock s"], 3)
        row["share by the clock"] = round(done / row["clock s"] / peaks.clock[dtype], 4)
        on_cpu = peaks.device.type == "cpu"  # while a GPU works the processor only waits
        row["share of the processor"] = round(done / row["processor s"] / peaks.processor[dtype], 4) if on_cpu else None
        row["times plain"] = round(plain[0] / row["clock s"], 3) if plain else None
        row["goal"] = GOALS.get((peaks.device.type, row["model"], row["batch"], row["way"]))


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return what the table shows of one way."""
    return (
        row["way"], row["type"], f"{row['pictures/s']:.3g}", f"{1000 * row['clock s']:,.1f}",
        f"{1000 * row['processor s']:,.1f}", f"{row['share by the clock']:.1%}",
        "" if row["share of the processor"] is None else f"{row['share of the processor']:.1%}",
        "" if row["times plain"] is None else f"{row['times plain']:.2f}",
    )  # fmt: skip


def show(rows: list[dict[str, Any]], peaks: Peaks) -> None:
    """Print a table for each model and batch, the peaks, and which goals are met."""
    for dtype, peak in peaks.clock.items():
        out.print(f"peak {str(dtype).removeprefix('torch.')}: {peak / 1e9:,.0f} GFLOP/s by the clock")
    columns = ("way", "type", "pictures/s", "ms", "processor ms", "of peak", "of the processor's", "times plain")
    for name, batch in dict.fromkeys((row["model"], row["batch"]) for row in rows):
        some = [row for row in rows if (row["model"], row["batch"]) == (name, batch)]
        table(f"{name}, batch {batch}", columns, [cells(row) for row in some])
    for row in rows:
        if row["goal"] is not None:
            share, goal = row["share by the clock"], row["goal"]
            verdict = "met" if share >= goal else "MISSED"
            out.print(
                f"goal for {row['model']}, batch {row['batch']}, {row['way']}: {goal:.0%}; {share:.1%}: {verdict}"
            )
    slower = [row for row in rows if row["way"] in ("ours float32", "ours bfloat16") and (row["times plain"] or 1) < 1]
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
    span: float = 60,
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
        span: Seconds to take turns for with a model and batch on a CPU.
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
        rows += (measured if alone else measured_apart)(name, batch, turns, place, peaks, tuned=tuned)
        free(place)
        if beside and python.is_file():
            rows += with_oracles(name, batch, turns, python, list(peaks.clock))
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
