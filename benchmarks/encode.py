"""Measure the speed of the image towers as a share of this machine's matrix-product peak, and compare it with other libraries.

    sh benchmarks/oracles.sh                         # once: timm and open_clip in a separate environment
    python benchmarks/encode.py                      # prints tables and writes encode.json
    python benchmarks/encode.py --quick              # the smallest and the middle model, two turns; writes nothing
    python benchmarks/encode.py --device cuda        # B16, L14 and G14 on a GPU; writes encode_gpu.json

Random weights of the released sizes; a pass computes the projected vector from normalised pixels. The cases take turns:

    plain            the tower of `models` and `nn`, in float32 (bfloat16 on a GPU)
    autocast         the same under torch.autocast to bfloat16
    ours float32, ours bfloat16    as percept.load computes: the forms of `fast`, weights packed
    ours unpacked    bfloat16 without the packed copy of the weights
    plain compiled, ours compiled  on a GPU: one block compiled for all
    timm, open_clip  their models in both number types; skipped with a notice if not installed

"of peak" is the median over the turns of each turn's share of the peak that was measured immediately before it. "of best" is
the median pass as a share of the best product of the run. On a CPU every model and batch runs in a separate process.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from harness import Peaks, Rate, Times, Turns, facts, save, take_turns, timed
from others import ENVIRONMENT, others, short
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from percept import fast
from percept.core.errors import PerceptError
from percept.core.machine import fast_dtype, pick_device
from percept.core.report import notice, out, table, track
from percept.models.config import VisionConfig
from percept.models.vision import VisionTower
from percept.models.zoo import find

RESULTS = Path(__file__).with_suffix(".json")
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
"""Least shares of the peak."""


@dataclass(frozen=True)
class Case:
    """One way to compute a pass."""

    model: Callable[[Tensor], Any]
    dtype: torch.dtype
    autocast: bool = False

    @property
    def products(self) -> torch.dtype:
        """Number type of the matrix products."""
        return NARROW if self.autocast else self.dtype

    def job(self, image: Tensor) -> Callable[[int], Rate]:
        """Return a function that times a number of passes over `image`."""
        image = image.to(self.dtype)

        def run(passes: int) -> Rate:
            with torch.autocast(image.device.type, NARROW, enabled=self.autocast):
                return timed(lambda: self.model(image), image.device, passes)

        return run


def tower(config: VisionConfig, device: torch.device, dtype: torch.dtype) -> VisionTower:
    """Return a tower with random weights, the same for every case."""
    torch.manual_seed(0)
    with device:
        return VisionTower(config).eval().requires_grad_(False).to(dtype)


def ours(config: VisionConfig, device: torch.device, dtype: torch.dtype, *, pack: bool) -> VisionTower:
    """Return a tower in the forms of `fast`."""
    model = tower(config, device, dtype)
    fast.adopt(model, pack=pack)
    return model


def compiled(model: VisionTower) -> VisionTower:
    """Compile the blocks of a tower."""
    model.call = fast.compiled_call()
    return model


def cases_of(config: VisionConfig, device: torch.device) -> dict[str, Case]:
    """Return the cases for a device."""
    if device.type != "cpu":
        towers = {
            "plain": tower(config, device, NARROW),
            "plain compiled": compiled(tower(config, device, NARROW)),
            "ours eager": ours(config, device, NARROW, pack=False),
            "ours compiled": compiled(ours(config, device, NARROW, pack=False)),
        }
        return {name: Case(model, NARROW) for name, model in towers.items()}
    plain = tower(config, device, FLOAT)
    cases = {"plain": Case(plain, FLOAT), "ours float32": Case(ours(config, device, FLOAT, pack=True), FLOAT)}
    if fast_dtype(device)[0] == NARROW:
        cases["autocast"] = Case(plain, FLOAT, autocast=True)
        cases["ours unpacked"] = Case(ours(config, device, NARROW, pack=False), NARROW)
        cases["ours bfloat16"] = Case(ours(config, device, NARROW, pack=True), NARROW)
    return cases


def operations(config: VisionConfig) -> float:
    """Return the floating-point operations in the matrix products for one image."""
    with torch.device("meta"):
        model, image = VisionTower(config).eval(), torch.empty(1, 3, config.image_size, config.image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(image)
    return counter.get_total_flops()


def packed_layer(layer: torch.nn.Linear) -> torch.nn.Module:
    """Return a linear layer in its fastest form, so that the peak is that of the faster of two libraries."""
    holder = torch.nn.Sequential(layer.requires_grad_(False))
    fast.adopt(holder, pack=True)
    return holder


@torch.no_grad()
def measured(name: str, batch: int, turns: Turns, device: torch.device, oracles: Path) -> dict[str, Any]:
    """Measure all cases of one model and batch; return rows and the best peaks."""
    config = vision(name)
    image = torch.randn(batch, 3, config.image_size, config.image_size, device=device)
    cases = cases_of(config, device)
    types = {key: (case.dtype, case.products) for key, case in cases.items()}
    peaks = Peaks(device, packed_layer if device.type == "cpu" else None)
    kinds = list(dict.fromkeys(case.dtype for case in cases.values()))
    with others(name, batch, kinds, oracles if device.type == "cpu" else oracles / "none") as theirs:
        types |= {key: (model.dtype, model.dtype) for key, model in theirs.items()}
        jobs = {key: case.job(image) for key, case in cases.items()} | theirs
        times = take_turns(jobs, turns, lambda key: peaks.measure(types[key][1]))
    work = batch * operations(config)
    rows = [row_of(name, batch, key, types[key], times, work, peaks) for key in jobs]
    return {"results": rows, "peak GFLOP/s": {short(key): round(best / 1e9, 1) for key, best in peaks.best.items()}}


def row_of(
    name: str, batch: int, case: str, types: tuple[torch.dtype, torch.dtype], times: dict[str, Times], work: float,
    peaks: Peaks,
) -> dict[str, Any]:  # fmt: skip
    """Return the figures of one case."""
    own, summary = times[case], times[case].summary()
    return {
        "model": name,
        "batch": batch,
        "case": case.removesuffix(f" {short(types[0])}") if not case.startswith("ours") else case,
        "type": short(types[0]),
        **summary,
        "images/s": round(batch / summary["clock s"], 3),
        "share of peak": own.share_of_peak(work),
        "share of best": round(work / summary["clock s"] / peaks.best[types[1]], 4),
        "times plain": own.speedup_over(times["plain"]),
        "goal": GOALS.get((peaks.device.type, name, batch, case)),
    }


def measured_apart(name: str, batch: int, turns: Turns, device: torch.device, oracles: Path) -> dict[str, Any]:
    """Measure in a new process, because memory fragmented by earlier models is slower."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "case.json"
        command = [sys.executable, __file__, "--models", name, "--batches", str(batch), "--device", str(device)]
        command += ["--repeats", str(turns.repeats), "--span", str(turns.span), "--oracles", str(oracles)]
        done = subprocess.run([*command, "--json-file", str(file)], capture_output=True, text=True, check=False)
        for line in done.stderr.splitlines():
            if " that runs here: " in line:
                notice(line)
        if done.returncode:
            raise PerceptError(f"{name}, batch {batch}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        return json.loads(file.read_text())


def vision(name: str) -> VisionConfig:
    """Return the shapes of a released model."""
    config = find(name).config
    if config is None or not isinstance(config.vision, VisionConfig):
        raise PerceptError(f"{name} is a packaged model. Give a released model, for example {ON_CPU[0]}.")
    return config.vision


def show(rows: list[dict[str, Any]], peaks: dict[str, float]) -> None:
    """Print the peaks, a table per model and batch, and the goals."""
    out.print("best matrix products: " + ", ".join(f"{peak:,.0f} GFLOP/s in {dtype}" for dtype, peak in peaks.items()))
    columns = ("case", "type", "images/s", "ms", "of peak", "of best", "times plain")
    for name, batch in dict.fromkeys((row["model"], row["batch"]) for row in rows):
        some = [row for row in rows if (row["model"], row["batch"]) == (name, batch)]
        table(f"{name}, batch {batch}", columns, map(cells, some))
    for row in rows:
        if row["goal"] is not None:
            verdict = "met" if row["share of peak"] >= row["goal"] else "MISSED"
            case = f"{row['model']}, batch {row['batch']}, {row['case']}"
            out.print(f"goal for {case}: {row['goal']:.0%}; {row['share of peak']:.1%} of peak: {verdict}")
        if row["case"] in ("ours float32", "ours bfloat16") and row["times plain"] < 1:
            out.print(f"SLOWER than plain float32: {row['model']}, batch {row['batch']}, {row['case']}")


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of one row of the table."""
    return (
        row["case"], row["type"], f"{row['images/s']:.3g}", f"{1000 * row['clock s']:,.1f}",
        f"{row['share of peak']:.1%}", f"{row['share of best']:.1%}", f"{row['times plain']:.2f}",
    )  # fmt: skip


def main(
    models: tuple[str, ...] = (),
    batches: tuple[int, ...] = (),
    repeats: int | None = None,
    span: float = 90,
    quick: bool = False,
    device: str = "auto",
    oracles: Path = ENVIRONMENT,
    json_file: Path | None = None,
) -> None:
    """Measure the speed of the vision towers.

    Args:
        models: Released models. Default: T16, S16, B16 and L14 on a CPU; B16, L14 and G14 on a GPU.
        batches: Images per pass. Default: 1 and 8 on a CPU, a full GPU otherwise.
        repeats: Least number of turns. Default: 5 on a CPU, 9 on a GPU.
        span: Least seconds of turns per model and batch on a CPU.
        quick: T16 and B16 only, two turns.
        device: auto, cpu, cuda or mps.
        oracles: Environment with timm and open_clip.
        json_file: Result file. Default: encode.json or encode_gpu.json, if all models and batches are measured.
    """
    start, place = time.perf_counter(), pick_device(device)
    on_cpu, whole = place.type == "cpu", not (quick or models or batches)
    repeats = (5 if on_cpu else 9) if repeats is None else repeats
    if repeats < 1 or span < 0:
        raise PerceptError(f"repeats must be at least 1 and span at least 0, got {repeats} and {span}.")
    names = models or ((ON_CPU[0], ON_CPU[2]) if quick else tuple(ON_CPU if on_cpu else ON_GPU))
    turns = Turns(min(repeats, 2) if quick else repeats, span if on_cpu and not quick else 0.0)
    for name in names:
        vision(name)  # an unknown name is reported before minutes of work
    if on_cpu and not (oracles / "bin" / "python").is_file():
        notice("timm and open_clip are skipped; install them with: sh benchmarks/oracles.sh")
    cases = [(name, size) for name in names for size in batches or ((1, 8) if on_cpu else (ON_GPU.get(name, 64),))]
    rows: list[dict[str, Any]] = []
    peaks: dict[str, float] = {}
    for name, batch in track(cases, "models and batches", len(cases)):
        part = (measured if len(cases) == 1 else measured_apart)(name, batch, turns, place, oracles)
        rows += part["results"]
        peaks = {key: max(peaks.get(key, 0.0), peak) for key, peak in part["peak GFLOP/s"].items()}
    show(rows, peaks)
    if json_file is None and whole:
        json_file = RESULTS if on_cpu else RESULTS.with_name("encode_gpu.json")
    save(json_file, facts(place, start) | {"repeats": turns.repeats, "peak GFLOP/s": peaks, "results": rows})


if __name__ == "__main__":
    tyro.cli(main)
