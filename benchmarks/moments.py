"""ExCL against windows, proposals and priors: when in a clip is a sentence true?

    python benchmarks/moments.py --folder runs/moments --json-file benchmarks/moments.json

Three sets of generated clips (`percept.world.clips.queries`), each with its own training clips and with evaluation clips of other seeds and
held-out compositions. All arms read the same frozen features of nano, computed once. Nothing was tuned on the evaluation clips. Arms:
    PREDICTOR LOSS    ExCL with each predictor and loss; `tied classification`, the default, was chosen before anything was measured
    tied classification plain    without the cosine of frame and query as a feature, as in the paper
    window            a classifier of sliding windows: the means of three parts of a window and the query, trained on the IoU with the truth
    proposals         the same windows ranked by the cosine of their mean frame and the text; not trained
    prior             the span that fits the training clips best, as shares of the clip
    random            two random frames
    shuffled          `tied classification` asked for the sentences of other clips
    best window       the window that fits best, an upper bound of both arms with windows
Speed is queries per second from cached features, in turns; also with the encoding of the frames. A finished arm is not computed again.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Rate, Turns, facts, save, take_turns, timed
from torch import Tensor, nn
from torch.nn import functional as F

import percept
from percept.core.io import read_json, write_json
from percept.core.report import out, table
from percept.eval.resampling import group_numbers, resampled_means
from percept.eval.vlm.spans import overlap
from percept.methods.video.excl import LOSSES, PREDICTORS, Asked, ExCL, Recurrent, frame_features, similarity
from percept.recipes.excl_data import Features, MomentSource, features_of
from percept.world.clips.queries import KINDS, queried_clip

MAIN = "tied classification"
VARIANTS = (*(f"{predictor} {loss}" for predictor in PREDICTORS for loss in LOSSES), f"{MAIN} plain")
UNTRAINED = ("proposals", "prior", "random", "best window")
LENGTHS = (2, 3, 5, 8, 12, 18)
"""Frames of the windows; the stride is a quarter of them."""
BATCH, RATE = 32, 3e-3
AT_ONCE = 64


def windows(frames: int) -> list[tuple[int, int, int]]:
    """Return length, stride and number of the windows of clips of so many frames."""
    steps = [(length, max(1, length // 4)) for length in LENGTHS if length <= frames]
    return [(length, stride, (frames - length) // stride + 1) for length, stride in steps]


def edges(frames: int) -> tuple[Tensor, Tensor]:
    """Return first and last frame of every window."""
    starts = [torch.arange(count) * stride for _, stride, count in windows(frames)]
    lasts = [start + length - 1 for start, (length, _, _) in zip(starts, windows(frames), strict=True)]
    return torch.cat(starts), torch.cat(lasts)


def ious(first: Tensor, last: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return intersection over union of spans of frames; the frame `last` belongs to a span."""
    shared = (torch.minimum(last, end) - torch.maximum(first, start) + 1).clamp(min=0)
    return shared / (last - first + 1 + end - start + 1 - shared)


class Window(nn.Module):
    """Scores of all windows: an MLP of the window, the query, and their product."""

    def __init__(self, frames: int, words: int, hidden: int, *, recurrent: bool = False) -> None:
        super().__init__()
        self.of_frames = nn.Linear(frames, hidden)
        self.of_similarity = nn.Linear(1, hidden)
        self.of_words = nn.Sequential(nn.LayerNorm(words), nn.Linear(words, hidden))
        self.text, self.dropout = Recurrent(hidden, hidden), nn.Dropout(ExCL.Config().dropout)
        self.video = nn.LSTM(hidden, hidden, batch_first=True, bidirectional=True) if recurrent else None
        self.of_window = nn.Linear((2 if recurrent else 3) * hidden, 2 * hidden)
        self.head = nn.Sequential(nn.Linear(6 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.centre, self.deviation = torch.zeros(frames), torch.ones(frames)

    def window(self, parts: Tensor) -> Tensor:
        """Return the vector of windows [b, n, h, length]."""
        if self.video is None:
            thirds = F.adaptive_avg_pool1d(parts.flatten(0, 1), 3).flatten(1)
            return thirds.unflatten(0, parts.shape[:2])
        _, (last, _) = self.video(parts.flatten(0, 1).transpose(1, 2))
        return torch.cat([*last], dim=1).unflatten(0, parts.shape[:2])

    def forward(self, batch: Asked) -> Tensor:
        """Return the logit of every window; -inf for those that reach into the padding."""
        mapped = self.dropout(self.of_frames((batch.frames - self.centre) / self.deviation))
        mapped = mapped + self.of_similarity(similarity(batch)[..., None])
        frames = mapped.shape[1]
        parts = [self.window(mapped.unfold(1, length, stride)) for length, stride, _ in windows(frames)]
        vectors = F.relu(self.of_window(torch.cat(parts, dim=1)))
        _, query = self.text(self.dropout(self.of_words(batch.words)), batch.word_count)
        query = query[:, None].expand_as(vectors)
        logits = self.head(self.dropout(torch.cat([vectors, query, vectors * query], dim=2)))[..., 0]
        return logits.masked_fill(edges(frames)[1] >= batch.frame_count[:, None], float("-inf"))

    def loss(self, batch: Asked) -> Tensor:
        """Return the binary cross-entropy with the IoU of every window."""
        logits, (first, last) = self(batch), edges(batch.frames.shape[1])
        truth = ious(first, last, batch.start[:, None], batch.end[:, None])
        inside = logits.isfinite()
        return F.binary_cross_entropy_with_logits(logits[inside], truth[inside])


def chosen_window(scores: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Return first and last frame of the window with the highest score."""
    first, last = edges(frames)
    best = scores.argmax(1)
    return first[best], last[best]


def proposals(batch: Asked, text: Tensor) -> tuple[Tensor, Tensor]:
    """Return the window whose mean frame is nearest to the text."""
    vectors = F.normalize(batch.frames[..., : text.shape[1]], dim=-1)
    parts = [vectors.unfold(1, length, stride).mean(-1) for length, stride, _ in windows(vectors.shape[1])]
    scores = torch.einsum("bnd,bd->bn", F.normalize(torch.cat(parts, 1), dim=-1), text)
    outside = edges(vectors.shape[1])[1] >= batch.frame_count[:, None]
    return chosen_window(scores.masked_fill(outside, float("-inf")), vectors.shape[1])


def prior_of(train: Features) -> tuple[float, float]:
    """Return start and length, as shares of the clip, with the highest mIoU plus R@1 at IoU .5 on the training clips."""
    count = train.frame_count[train.clip].float()
    grid = [(start / 20, length / 20) for start in range(20) for length in range(1, 21 - start)]
    found = [ious(start * count, (start + length) * count - 1, train.start, train.end) for start, length in grid]
    return grid[int(np.argmax([float((each + (each >= 0.5)).mean()) for each in found]))]


def trained(model: nn.Module, loss: Callable[[Asked], Tensor], train: Features, seed: int, steps: int) -> float:
    """Train with AdamW, 20 steps of warm-up, then cosine; return the mean loss of the last steps."""
    optimiser = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], RATE, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1, (step + 1) / 20) * (0.5 + 0.5 * np.cos(np.pi * step / steps))
    )
    source, losses = MomentSource(train, batch=BATCH, seed=seed), []
    model.train()
    for step in range(steps):
        value = loss(source.batch(step))
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
        losses.append(float(value.detach()))
    model.eval()
    return float(np.mean(losses[-20:]))


def shuffled(data: Features, rows: Tensor) -> Asked:
    """Return queries with the sentence of a different clip each."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(data)))
    other = torch.stack([order[(order != row) & (data.clip[order] != data.clip[row])][int(row) % 7] for row in rows])
    words = data.batch(other)
    return replace(data.batch(rows), words=words.words, word_count=words.word_count, text=words.text)


Predict = Callable[[Features, Tensor], tuple[Tensor, Tensor]]


def by_excl(model: ExCL, data: Features, rows: Tensor, *, shuffle: bool = False) -> tuple[Tensor, Tensor]:
    """Return spans of ExCL."""
    batch = shuffled(data, rows) if shuffle else data.batch(rows)
    spans = model.locate(batch)
    return spans.start, spans.end


def by_window(model: Window, data: Features, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return spans of the classifier of windows."""
    batch = data.batch(rows)
    return chosen_window(model(batch), batch.frames.shape[1])


def simple(arm: str, train: Features) -> Predict:
    """Return an arm without training."""

    def predict(data: Features, rows: Tensor) -> tuple[Tensor, Tensor]:
        batch = data.batch(rows)
        count, frames = batch.frame_count.float(), batch.frames.shape[1]
        if arm == "proposals":
            return proposals(batch, data.text[rows].float())
        if arm == "prior":
            start, length = prior_of(train)
            return start * count, (start + length) * count - 1
        if arm == "random":
            ends = torch.from_numpy(np.random.default_rng(0).random((2, len(rows)))).float() * count
            ends = ends.floor().sort(0).values
            return ends[0], ends[1]
        first, last = edges(frames)
        fits = ious(first, last, batch.start[:, None], batch.end[:, None])
        return chosen_window(fits.masked_fill(last >= batch.frame_count[:, None], -1.0), frames)

    return predict


@torch.no_grad()
def judged(predict: Predict, data: Features) -> list[float]:
    """Return the IoU of every query."""
    values: list[float] = []
    for rows in torch.arange(len(data)).split(AT_ONCE):
        spans = zip(*(each.tolist() for each in predict(data, rows)), strict=True)
        truth = zip(data.start[rows].tolist(), data.end[rows].tolist(), strict=True)
        values += [overlap(one, other) for one, other in zip(spans, truth, strict=True)]
    return values


def new_excl(arm: str, clip: Any, train: Features) -> ExCL:
    """Build a variant."""
    predictor, loss, *plain = arm.split()
    model = ExCL(ExCL.Config(predictor=predictor, loss=loss, similarity=not plain), clip)
    model.scale_to(train.frames)
    return model


def new_window(train: Features, *, recurrent: bool = False) -> Window:
    """Build the classifier of windows at the width of ExCL."""
    model = Window(train.frames.shape[1], train.words.shape[1], ExCL.Config().hidden, recurrent=recurrent)
    model.centre, model.deviation = train.frames.float().mean(0), train.frames.float().std(0).clamp(min=1e-3)
    return model


def one_run(arm: str, kind: str, seed: int, sets: tuple[Features, Features], clip: Any, steps: int) -> dict[str, Any]:
    """Train and judge one arm; return its IoU for every query, and those of shuffled queries for the main arm."""
    train, data = sets
    torch.manual_seed(seed)
    start, result = time.process_time(), {}
    if arm in UNTRAINED:
        predict, loss = simple(arm, train), 0.0
    elif arm == "window":
        window = new_window(train)
        loss, predict = trained(window, window.loss, train, seed, steps), partial(by_window, window)
    else:
        excl = new_excl(arm, clip, train)
        loss = trained(excl, lambda batch: excl(batch)["loss"], train, seed, steps)
        predict = partial(by_excl, excl)
        result = {"shuffled": judged(partial(by_excl, excl, shuffle=True), data)} if arm == MAIN else {}
    values = judged(predict, data)
    return {"iou": values, **result, "loss": loss, "processor s": round(time.process_time() - start, 1)}


def runs(seeds: int) -> list[tuple[str, int]]:
    """Return (arm, seed) in the order of their importance."""
    first = [*((arm, 0) for arm in (*UNTRAINED, MAIN, "window")), *((MAIN, seed) for seed in range(1, seeds))]
    every = [(arm, seed) for seed in range(seeds) for arm in (*VARIANTS, "window")]
    return [*first, *(each for each in every if each not in first)]


def measured(folder: Path, kind: str, arm: str, seeds: int, field: str = "iou") -> np.ndarray | None:
    """Return the IoU [seeds, queries] of the runs that are finished; None without any."""
    files = [folder / f"{kind} {seed} {arm}.json" for seed in range(seeds)]
    stored = [read_json(file)[field] for file in files if file.exists()]
    return np.array(stored) if stored else None


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "R@1 IoU .5": lambda iou: (iou >= 0.5).astype(float),
    "R@1 IoU .7": lambda iou: (iou >= 0.7).astype(float),
    "mIoU": lambda iou: iou,
}


def estimate(values: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Return the mean over seeds and queries with a bootstrap interval over clips."""
    means = values.mean(0)
    low, high = np.quantile(resampled_means(means, groups), (0.025, 0.975))
    return {"value": round(float(means.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def summary(folder: Path, kind: str, data: Features, seeds: int) -> dict[str, Any]:
    """Return the measures of all finished arms of a set, and the differences to the main one."""
    groups = group_numbers([str(number) for number in data.clip.tolist()])
    fields = {arm: (arm, "iou") for arm in (*VARIANTS, "window", *UNTRAINED)} | {"shuffled": (MAIN, "shuffled")}
    found = {name: measured(folder, kind, arm, seeds, field) for name, (arm, field) in fields.items()}
    result: dict[str, Any] = {"queries": len(data), "clips": len(data.frame_count), "arms": {}, "differences": {}}
    for name, iou in found.items():
        if iou is None:
            continue
        rows = {measure: estimate(of(iou), groups) for measure, of in MEASURES.items()}
        by_seed = [round(float((row >= 0.5).mean()), 4) for row in iou]
        result["arms"][name] = {**rows, "seeds": len(iou), "R@1 IoU .5 by seed": by_seed}
        main = found[MAIN]
        if main is not None and name != MAIN:
            result["differences"][f"{MAIN} - {name}"] = {
                measure: estimate(of(main).mean(0, keepdims=True) - of(iou).mean(0, keepdims=True), groups)
                for measure, of in MEASURES.items()
            }
    third = (3 * (data.start + data.end + 1) / 2 / data.frame_count[data.clip]).long().clamp(max=2).numpy()
    result["R@1 IoU .5 by third of the clip"] = {
        name: [round(float((found[name][:, third == place] >= 0.5).mean()), 4) for place in range(3)]  # type: ignore[index]
        for name in (MAIN, "window", "prior") if found[name] is not None
    }  # fmt: skip
    return result


def verdict(gap: dict[str, float]) -> str:
    """Say what an interval of a difference shows."""
    return "holds" if gap["low"] > 0 else "does not hold" if gap["high"] < 0 else "within noise"


def claims(sets: dict[str, Any], speed: dict[str, Any]) -> dict[str, str]:
    """Return each part of the claim with what was found."""
    result: dict[str, str] = {}
    for kind, found in sets.items():
        for rival in ("window", "proposals", "prior"):
            for measure in ("R@1 IoU .5", "R@1 IoU .7"):
                gap = found["differences"].get(f"{MAIN} - {rival}", {}).get(measure)
                if gap is not None:
                    result[f"{kind}: {MAIN} > {rival}, {measure}"] = verdict(gap)
        gap = found["differences"].get(f"{MAIN} - shuffled", {}).get("R@1 IoU .5")
        if gap is not None:
            left, prior = (found["arms"][name]["R@1 IoU .5"] for name in ("shuffled", "prior"))
            result[f"{kind}: shuffled queries fall, to the prior or below"] = (
                "holds" if verdict(gap) == "holds" and left["low"] <= prior["high"] else "does not hold"
            )
    for rival in ("window", "recurrent window"):
        ratio = speed["ratio to"][rival]
        result[f"queries/s at least 5 times those of {rival}"] = "holds" if ratio >= 5 else "does not hold"
    return result


@torch.no_grad()
def speeds(encoder: Any, train: Features, turns: int) -> dict[str, Any]:
    """Time one batch of queries with every arm, and the encoding of one clip; weights do not matter for the time."""
    rows = torch.arange(AT_ONCE) % len(train)
    excl, window = new_excl(MAIN, encoder.model, train).eval(), new_window(train).eval()
    recurrent, simple_ = new_window(train, recurrent=True).eval(), simple("proposals", train)
    pixels = torch.from_numpy(queried_clip("actions", 1, size=ExCL.Config().image_size).frames).permute(0, 3, 1, 2)
    pixels = encoder.preprocess.normalise(pixels).to(encoder.setting.dtype)
    work: dict[str, Callable[[], Any]] = {
        "excl": lambda: by_excl(excl, train, rows), "window": lambda: by_window(window, train, rows),
        "recurrent window": lambda: by_window(recurrent, train, rows), "proposals": lambda: simple_(train, rows),
        "reading the features": lambda: train.batch(rows),
        "encoding one clip": lambda: frame_features(encoder.model, pixels, ExCL.Config().grid),
    }  # fmt: skip
    device = torch.device("cpu")

    def job(name: str, passes: int) -> Rate:
        return timed(work[name], device, passes)

    times = take_turns({name: partial(job, name) for name in work}, Turns(turns))
    seconds = {name: each.summary()["processor s"] for name, each in times.items()}
    encoding = AT_ONCE * seconds["encoding one clip"]
    return {
        "queries in a batch": AT_ONCE,
        "seconds": {name: each.summary() for name, each in times.items()},
        "queries per processor second": {name: round(AT_ONCE / seconds[name], 1) for name in list(work)[:4]},
        "ratio to": {name: round(seconds[name] / seconds["excl"], 2) for name in list(work)[1:4]},
        "ratio to, with the encoding": {
            name: round((seconds[name] + encoding) / (seconds["excl"] + encoding), 3) for name in list(work)[1:4]
        },
    }


def show(sets: dict[str, Any], found: dict[str, str], speed: dict[str, Any]) -> None:
    """Print the tables."""
    for kind, result in sets.items():
        rows = [
            (name, row["seeds"], *(f"{100 * row[m]['value']:.1f} [{100 * row[m]['low']:.1f} - {100 * row[m]['high']:.1f}]" for m in MEASURES))
            for name, row in result["arms"].items()
        ]  # fmt: skip
        table(
            f"{kind}: {result['queries']} queries, {result['clips']} clips, percent", ("arm", "seeds", *MEASURES), rows
        )
    table("Speed", ("arm", "times the processor time of excl"), speed["ratio to"].items())
    table("Claims", ("claim", "found"), found.items())


def main() -> None:
    """Run what is not finished, then write the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for features and the results of finished arms")
    parser.add_argument("--json-file", type=Path)
    parser.add_argument("--clips", type=int, default=360, help="training clips of a set")
    parser.add_argument("--evaluated", type=int, default=80, help="evaluation clips of a set")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--summary", action="store_true", help="train nothing, and summarise what is finished")
    chosen = parser.parse_args()
    start, encoder = time.perf_counter(), percept.load("nano")
    config, home = ExCL.Config(), chosen.folder / "features"
    chosen.folder.mkdir(parents=True, exist_ok=True)
    data = {
        kind: (
            features_of(encoder, config, kind, chosen.clips, home=home),
            features_of(encoder, config, kind, chosen.evaluated, split="evaluation", home=home),
        )
        for kind in KINDS
    }
    for arm, seed in [(arm, 0) for arm in UNTRAINED] if chosen.summary else runs(chosen.seeds):
        for kind in KINDS:
            file = chosen.folder / f"{kind} {seed} {arm}.json"
            if not file.exists():
                result = one_run(arm, kind, seed, data[kind], encoder.model, chosen.steps)
                write_json(file, result)
                mean = float(np.mean(np.array(result["iou"]) >= 0.5))
                out.print(f"{kind}, {arm}, seed {seed}: R@1 {mean:.3f}, {result['processor s']} processor seconds")
    sets = {kind: summary(chosen.folder, kind, data[kind][1], chosen.seeds) for kind in KINDS}
    speed = speeds(encoder, data["actions"][0], chosen.turns)
    found = claims(sets, speed)
    show(sets, found, speed)
    about = {
        **facts(torch.device("cpu"), start), "training clips": chosen.clips, "steps": chosen.steps, "batch": BATCH,
        "learning rate": RATE, "training queries": {kind: len(pair[0]) for kind, pair in data.items()},
    }  # fmt: skip
    save(chosen.json_file, {"run": about, "claims": found, "speed": speed, "sets": sets})


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
