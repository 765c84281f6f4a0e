"""Measure how fast a perception language model answers, as ratios within one run.

    python benchmarks/plm.py --threads 1                       # prints a table and writes plm.json next to this file
    python benchmarks/plm.py --threads 1 --oracle FOLDER       # also beside transformers, see oracle_plm.py

The model has random weights: the decoder of Qwen2.5-0.5B and the tower of PE-Core-B16-224, in bfloat16 with packed weights, as
`percept.assistant` runs it on a CPU. The cases take turns, and every ratio is the median of those of the turns:

    batch       tokens per second of 8 answers together, divided by those of 8 single calls; questions alone, and about an image of one tile each
    decoding    weights that a token needs, in bytes, divided by seconds per token and by the bandwidth measured in the same turn
    prefill     operations of a prompt of 1,024 tokens per second, as a share of the matrix-product peak of the same turn
                (both also in processor time, which on a shared machine leaves out the time given to other processes)
    second      seconds to the first token of a first question about an image, divided by those of a second question about it
    beside      seconds of transformers' PerceptionLM divided by ours: a toy model of the same weights, in float32, greedy
"""

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import tyro
from harness import Peaks, Rate, facts, save, timed
from others import answer
from random_assistant import BASE_TOWER, HALF_DECODER, TOY_DECODER, TOY_TOWER, Made, made, photo

from percept.core.report import notice, table, track
from percept.data.chat.conversation import Conversation
from percept.infer.asking import asked
from percept.infer.assistant import Assistant
from percept.infer.setting import Setting

RESULTS = Path(__file__).with_suffix(".json")
BUFFER = 256 << 20
"""Bytes that are read to measure the bandwidth; far more than the caches hold."""
GOALS = {
    "batch": 3.0,
    "batch, images": 3.0,
    "decoding": 0.6,
    "decoding, processor time": 0.6,
    "second": 5.0,
    "beside": 1.0,
}
"""Least ratios; the share of prefill is reported."""
PROMPT, ROWS = 1024, 8
CPU = torch.device("cpu")


def seconds(job: Callable[[], Any]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def opened(parts: Made, dtype: torch.dtype) -> Assistant:
    """Return an assistant on the CPU."""
    return Assistant(parts.model, name="random", setting=Setting(device=CPU, dtype=dtype), processor=parts.processor)


class Half:
    """The cases of the model with the decoder of Qwen2.5-0.5B."""

    def __init__(self, new_tokens: int) -> None:
        self.assistant = opened(made(BASE_TOWER, HALF_DECODER, tiles=4, dtype=torch.bfloat16), torch.bfloat16)
        self.new_tokens = new_tokens
        self.decoder = self.assistant.model.decoder
        self._buffer = torch.ones(BUFFER // 4)
        self._peaks = Peaks(CPU)
        self._photos = iter(range(1_000_000))

    def batch(self, *, images: bool) -> float:
        """Return how many times as many tokens a second 8 answers have together."""
        lengths = [f"{'how many birds ' * (number % 4)}are there?" for number in range(ROWS)]
        together, alone = (self._prompts(lengths, images), self._prompts(lengths, images))
        options: Any = {"max_new_tokens": self.new_tokens, "mode": "single" if images else None}
        first = seconds(lambda: self.assistant.batch(together, **options))
        second = seconds(lambda: [self.assistant.reply(prompt, **options) for prompt in alone])
        return second / first

    def _prompts(self, questions: list[str], images: bool) -> list[Conversation]:
        """Return prompts about new images, of one tile each."""
        return [asked(photo(next(self._photos), 224, 224) if images else None, question) for question in questions]

    @torch.no_grad()
    def decoding(self) -> tuple[float, float]:
        """Return the share of the bandwidth at which the weights are read, by wall clock and by processor time."""
        cache = self.decoder.new_cache(1, 128 + self.new_tokens)
        token = self.decoder(torch.randint(0, 400, (1, 64)), cache=cache).tokens[:, -1:]

        def generate() -> None:
            logits = self.decoder.logits(token[:, 0])
            for _ in range(self.new_tokens):
                ids = logits.argmax(dim=-1)[:, None]
                logits = self.decoder.logits(self.decoder(ids, cache=cache).tokens[:, 0])

        weights = sum(parameter.nbytes for parameter in self.decoder.parameters())
        before, taken, after = self._read(), timed(generate, CPU), self._read()
        wall = (before.clock + after.clock) / 2 / taken.clock
        busy = (before.processor + after.processor) / 2 / taken.processor
        scale = self.new_tokens * weights / BUFFER
        return scale * wall, scale * busy

    def _read(self) -> Rate:
        """Return the seconds of reading a large buffer once, over about as long as a few tokens take."""
        return timed(self._buffer.sum, CPU, 12)

    @torch.no_grad()
    def prefill(self) -> tuple[float, float]:
        """Return the share of the matrix-product peak, by wall clock and by processor time."""
        ids, config = torch.randint(0, 400, (1, PROMPT)), self.decoder.config
        matrices = sum(parameter.numel() for parameter in self.decoder.blocks.parameters() if parameter.dim() == 2)
        attention = 2 * config.layers * config.heads * config.head_width * PROMPT  # causal: half of all pairs
        peak, work = self._peaks.measure(torch.bfloat16), PROMPT * (2 * matrices + attention)
        taken = timed(lambda: self.decoder(ids, cache=self.decoder.new_cache(1, PROMPT)), CPU)
        return work / taken.clock / peak.clock, work / taken.processor / peak.processor

    def second(self) -> float:
        """Return how many times as fast the first token of a second question comes."""
        image = photo(next(self._photos))
        first = seconds(lambda: self.assistant.ask(image, "what is on the table?", max_new_tokens=1))
        return first / seconds(lambda: self.assistant.ask(image, "how many birds are there?", max_new_tokens=1))


@contextmanager
def transformers(python: Path, folder: Path, count: int) -> "Iterator[subprocess.Popen[str]]":
    """Start transformers in its own environment."""
    command = [python, Path(__file__).with_name("oracle_plm.py"), folder, str(torch.get_num_threads()), str(count)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(list(map(str, command)), stdin=pipe, stdout=pipe, text=True, env={})
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Beside:
    """The same toy model here and in transformers."""

    def __init__(self, stack: ExitStack, environment: Path, count: int) -> None:
        folder, self.count = Path(stack.enter_context(tempfile.TemporaryDirectory())), count
        parts = made(TOY_TOWER, TOY_DECODER)
        parts.save(folder, layout="transformers")
        self.assistant = opened(parts, torch.float32)
        visual = 2 * parts.processor.per_tile
        image = torch.full((1, visual), parts.model.config.image_token)
        self.ids = torch.cat([torch.randint(0, 200, (1, 8)), image, torch.randint(0, 200, (1, 24))], dim=1)
        self.tiles = torch.randn(2, 3, TOY_TOWER.image_size, TOY_TOWER.image_size)
        torch.save({"ids": self.ids, "tiles": self.tiles}, folder / "prompt.pt")
        self.process = stack.enter_context(transformers(environment / "bin" / "python", folder, count))
        about = answer(self.process)
        if about is None:
            raise RuntimeError("transformers did not start")
        self.version = about["version"]
        self.equal = about["tokens"] == self._ours().tolist()[0]

    def _ours(self) -> torch.Tensor:
        return self.assistant.generate_ids(self.ids, self.tiles, max_new_tokens=self.count, stop_ids=())

    def __call__(self) -> float:
        """Return seconds of transformers / ours."""
        ours = seconds(self._ours)
        theirs = answer(self.process, "1")
        assert theirs is not None
        return theirs["seconds"] / ours


def main(
    turns: int = 5,
    new_tokens: int = 32,
    threads: int | None = None,
    oracle: Path | None = None,
    json_file: Path = RESULTS,
) -> None:
    """Measure all ratios.

    Args:
        turns: Number of turns.
        new_tokens: Tokens of an answer.
        threads: Threads of torch. Default: torch's own choice.
        oracle: Environment with transformers, see oracle_plm.py.
        json_file: Result file.
    """
    start = time.perf_counter()
    if threads is not None:
        torch.set_num_threads(threads)
    half = Half(new_tokens)
    cases: dict[str, Callable[[], float | tuple[float, float]]] = {
        "batch": lambda: half.batch(images=False),
        "batch, images": lambda: half.batch(images=True),
        "decoding": half.decoding,
        "prefill": half.prefill,
        "second": half.second,
    }
    about: dict[str, Any] = {}
    with ExitStack() as stack:
        if oracle is not None:
            beside = Beside(stack, oracle, new_tokens)
            cases["beside"] = beside
            about = {"transformers": beside.version, "greedy tokens equal": beside.equal}
        else:
            notice("transformers is left out: give --oracle")
        ratios = measured(cases, turns)
    rows = [row(name, values) for name, values in ratios.items()]
    title = f"Answering, {torch.get_num_threads()} threads, {turns} turns, {json.dumps(about)}"
    table(title, ("case", "median", "lowest", "highest", "goal", ""), [list(entry.values()) for entry in rows])
    settings = {"turns": turns, "new tokens": new_tokens, "prompt of prefill": PROMPT, "rows of a batch": ROWS}
    save(json_file, facts(CPU, start) | settings | about | {"results": rows})


def measured(cases: dict[str, Callable[[], float | tuple[float, float]]], turns: int) -> dict[str, list[float]]:
    """Return the ratios of each case, which take turns; the first turn warms up."""
    ratios: dict[str, list[float]] = {}
    for turn in track(range(turns + 1), "turns", turns + 1):
        for name, case in cases.items():
            value = case()
            if turn:
                wall, *busy = value if isinstance(value, tuple) else (value,)
                ratios.setdefault(name, []).append(wall)
                for share in busy:
                    ratios.setdefault(f"{name}, processor time", []).append(share)
    return ratios


def row(name: str, values: list[float]) -> dict[str, Any]:
    median, goal = statistics.median(values), GOALS.get(name)
    verdict = "" if goal is None else "met" if median >= goal else "MISSED"
    return {
        "case": name, "median": round(median, 3), "lowest": round(min(values), 3), "highest": round(max(values), 3),
        "goal": "" if goal is None else goal, "verdict": verdict,
    }  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
