"""Answers to many prompts: read ahead by threads, encoded and started together, generated in batches of bounded memory."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError, unknown_name
from percept.data.chat.processor import Processor
from percept.data.files import in_order
from percept.data.transforms import Preprocess
from percept.infer.asking import BadPrompt, Loaded, ViewOptions, check_context, loaded, seen
from percept.infer.choices import OneOf, spelled
from percept.infer.contracts import Prompt
from percept.infer.decode import Constraint, Row, decoded
from percept.infer.generation import Generation, GenerationOptions
from percept.infer.grammar import Matches, Words
from percept.infer.memory import Memory
from percept.infer.prefill import Ready, start
from percept.infer.scoring import continued
from percept.infer.setting import Setting
from percept.models.vlm import CHUNK, VLM

CACHE_BYTES = 2 << 30
"""Most bytes of keys and values of a batch; a longer prompt is a batch alone."""
PATTERNS = 8
"""Patterns whose automata are kept."""


class Options(ViewOptions, GenerationOptions, total=False):
    """Options of images and of answers."""


class Answerer:
    """A model with everything that surrounds it."""

    def __init__(
        self, model: VLM, processor: Processor, preprocess: Preprocess, setting: Setting, memory: Memory
    ) -> None:
        self.model = model
        self.processor = processor
        self.preprocess = preprocess
        self.setting = setting
        self.memory = memory
        self._patterns: dict[str, Matches] = {}

    def many(self, prompts: Iterable[Prompt], options: Options) -> Iterator[Any]:
        """Yield the answer to each prompt, a text or with samples a list, or a `BadPrompt`, in order.

        Raises:
            PerceptError: an option is wrong.
        """
        generation, processor = self._split(options)
        constraint = self._constraint(generation)
        return self._many(prompts, processor, generation, constraint)

    def _many(
        self, prompts: Iterable[Prompt], processor: Processor, generation: Generation, constraint: Constraint | None
    ) -> Iterator[Any]:
        self.memory.refresh()
        for group in self._groups(self._read(prompts, processor, generation), generation):
            good = [prompt for prompt in group if isinstance(prompt, Loaded)]
            answers = iter(self._answered(good, generation, constraint) if good else [])
            yield from (next(answers) if isinstance(prompt, Loaded) else prompt for prompt in group)

    def stream(self, prompt: Prompt, options: Options) -> Iterator[str]:
        """Return an iterator of pieces of the answer; the prompt is read at once.

        Raises:
            PerceptError: see `Assistant.ask`, or several samples are asked for.
        """
        generation, processor = self._split(options)
        if generation.samples is not None:
            raise PerceptError("samples was given with stream=True. Stream one answer at a time.")
        constraint = self._constraint(generation)
        self.memory.refresh()
        ready = loaded(prompt, processor, self.memory.visual)
        check_context(ready, processor, self.model.config.decoder.context, generation.max_new_tokens)
        return self._stream(ready, generation, constraint)

    def likelihoods(self, prompt: Prompt, choices: Sequence[str]) -> list[list[float]]:
        """Return the log-likelihood of each token of each choice, the end of the answer included."""
        self.memory.refresh()
        tokenizer, end = self.processor.tokenizer, self.processor.template.stops(self.processor.tokenizer)[:1]
        texts = [[*spelled(choice, tokenizer), *end] for choice in choices]
        longest = max(map(len, texts))
        ready = loaded(prompt, self.processor, self.memory.visual)
        check_context(ready, self.processor, self.model.config.decoder.context, longest)
        rows = self.rows(len(ready.ids) + longest)
        with self.quietly():
            started = start(self.model, self.encoded([ready]), self.memory, room=0)
            parts = [texts[place : place + rows] for place in range(0, len(texts), rows)]
            return [row for part in parts for row in continued(self.model, started, part)]

    def _split(self, options: Options) -> tuple[Generation, Processor]:
        views = ViewOptions.__annotations__
        known = [*GenerationOptions.__annotations__, *views]
        for name in options:
            if name not in known:
                raise unknown_name("option", name, known)
        view = {name: value for name, value in options.items() if name in views}
        rest = {name: value for name, value in options.items() if name not in views}
        return Generation.of(cast(GenerationOptions, rest)), seen(self.processor, cast(ViewOptions, view))

    @cached_property
    def _words(self) -> Words:
        return Words(self.processor.tokenizer)

    def _constraint(self, generation: Generation) -> Constraint | None:
        if generation.choices is not None:
            return OneOf(generation.choices, self.processor.tokenizer, most=generation.max_new_tokens)
        if generation.pattern is not None:
            return self._matches(generation.pattern).within(generation.max_new_tokens)
        return None

    def _matches(self, pattern: str) -> Matches:
        """Return the automaton of a pattern; those used last are kept."""
        made = self._patterns.pop(pattern, None) or Matches(pattern, self._words)
        self._patterns[pattern] = made
        while len(self._patterns) > PATTERNS:
            self._patterns.pop(next(iter(self._patterns)))
        return made

    @cached_property
    def _stops(self) -> frozenset[int]:
        """Return the ids that end an answer."""
        template = self.processor.template.stops(self.processor.tokenizer)
        return frozenset((*self.model.config.stop_ids, *template))

    def rows(self, tokens: int) -> int:
        """Return how many rows of so many tokens are generated together."""
        return max(1, min(self.setting.batch, CACHE_BYTES // (self._token_bytes * tokens)))

    @property
    def _token_bytes(self) -> int:
        """Return the bytes of keys and values of a token."""
        config, item = self.model.config.decoder, self.setting.dtype.itemsize
        return 2 * config.layers * config.kv_heads * config.head_width * item

    def _read(
        self, prompts: Iterable[Prompt], processor: Processor, generation: Generation
    ) -> Iterator[Loaded | BadPrompt]:
        """Yield prompts that have been read, or why they cannot be answered."""
        context = self.model.config.decoder.context

        def attempt(numbered: tuple[int, Prompt]) -> Loaded | BadPrompt:
            try:
                prompt = loaded(numbered[1], processor, self.memory.visual)
                check_context(prompt, processor, context, generation.max_new_tokens)
                return prompt
            except PerceptError as error:
                return BadPrompt(number=numbered[0], reason=str(error))

        if isinstance(prompts, Sequence) and len(prompts) == 1:
            return iter([attempt((0, prompts[0]))])  # without starting threads
        return in_order(attempt, enumerate(prompts))

    def _groups(
        self, prompts: Iterable[Loaded | BadPrompt], generation: Generation
    ) -> Iterator[list[Loaded | BadPrompt]]:
        """Yield prompts that are answered together, as many as the batch size and the memory allow."""
        group: list[Loaded | BadPrompt] = []
        rows, longest, each = 0, 0, generation.samples or 1
        for prompt in prompts:
            size = len(prompt.ids) if isinstance(prompt, Loaded) else 0
            more, wide = rows + (each if size else 0), max(longest, size)
            fits = more <= self.rows(wide + generation.max_new_tokens)
            if rows and not fits:
                yield group
                group, more, wide = [], each if size else 0, size
            group.append(prompt)
            rows, longest = more, wide
        if group:
            yield group

    def quietly(self) -> Any:
        """Return a context without gradients and without the caller's autocast."""
        return _Quiet(self.setting.device.type)

    def _answered(self, prompts: Sequence[Loaded], generation: Generation, constraint: Constraint | None) -> list[Any]:
        samples = range(generation.samples or 1)
        with self.quietly():
            ready = [prompt for prompt in self.encoded(prompts) for _ in samples]
            rows = [self.row(generation, constraint, sample=place % len(samples)) for place in range(len(ready))]
            for part in _parts(len(rows), self.rows(max(map(len, ready)) + generation.max_new_tokens)):
                started = start(self.model, ready[part], self.memory, room=generation.max_new_tokens)
                for _ in decoded(self.model, started, rows[part]):
                    pass
        texts = [row.text for row in rows]
        if generation.samples is None:
            return texts
        return [texts[place : place + len(samples)] for place in range(0, len(texts), len(samples))]

    def _stream(self, prompt: Loaded, generation: Generation, constraint: Constraint | None) -> Iterator[str]:
        row = self.row(generation, constraint, stream=True)
        with self.quietly():
            (ready,) = self.encoded([prompt])
            started = start(self.model, [ready], self.memory, room=generation.max_new_tokens)
        steps = decoded(self.model, started, [row])
        while self._advance(steps):
            if piece := row.piece():
                yield piece
        used = started.cache.lengths[0] - len(ready)
        self.memory.prefixes.put((*ready.signature, *row.ids[:used]), started.cache)

    def _advance(self, steps: Iterator[Row]) -> bool:
        """Generate one token; the caller's settings are in force between the tokens of a stream."""
        with self.quietly():
            return next(steps, None) is not None

    def row(
        self,
        generation: Generation,
        constraint: Constraint | None,
        *,
        sample: int = 0,
        stream: bool = False,
    ) -> Row:
        """Return an answer that has not begun."""
        return Row(
            generation=generation, tokenizer=self.processor.tokenizer, stops=self._stops,
            dice=generation.dice(sample), constraint=constraint, stream=stream,
        )  # fmt: skip

    def encoded(self, prompts: Sequence[Loaded]) -> list[Ready]:
        """Return prompts with their visual tokens; each image is encoded once."""
        known: dict[Any, Tensor] = {}
        tiles: dict[Any, Tensor] = {}
        for key, visual, pixels in (entry for prompt in prompts for entry in prompt.media):
            if visual is not None:
                known[key] = visual
            elif pixels is not None:
                tiles.setdefault(key, pixels)
        missing = {key: pixels for key, pixels in tiles.items() if key not in known}
        for key, visual in zip(missing, self._see(list(missing.values())), strict=True):
            known[key] = visual
            self.memory.visual.put(key, visual)
        return [self._ready(prompt, known) for prompt in prompts]

    def _see(self, tiles: Sequence[Tensor]) -> list[Float[Tensor, "k m d"]]:
        """Return the visual tokens of the tiles of each image, a bounded number of tiles at a time."""
        if not tiles:
            return []
        every = torch.cat(list(tiles))
        parts = [self.model.encode(self._normalised(some)) for some in every.split(CHUNK)]
        return [part.clone() for part in torch.cat(parts).split([len(some) for some in tiles])]

    def _normalised(self, tiles: Tensor) -> Tensor:
        return self.preprocess.normalise(tiles.to(self.setting.device)).to(self.setting.dtype)

    def _ready(self, prompt: Loaded, known: dict[Any, Tensor]) -> Ready:
        ids = torch.tensor(prompt.ids)
        is_visual = self.model.placeholders(ids[None])[0]
        visual = [known[key] for key, _, _ in prompt.media]
        numbered = self.model.numbered(torch.cat(visual), [sum(map(len, visual))]).flatten(0, 1) if visual else None
        places = iter([(key, place) for key, _, _ in prompt.media for place in range(known[key].shape[:2].numel())])
        signature = tuple(
            next(places) if here else number for number, here in zip(prompt.ids, is_visual.tolist(), strict=True)
        )
        width, device = self.model.config.decoder.width, self.setting.device
        return Ready(
            ids=ids.to(device), is_visual=is_visual.to(device), signature=signature,
            visual=torch.zeros(0, width, device=device) if numbered is None else numbered,
        )  # fmt: skip


class _Quiet:
    """No gradients, and the model's own number type whatever the caller's autocast."""

    def __init__(self, device: str) -> None:
        self._contexts: list[Any] = [torch.no_grad(), torch.autocast(device, enabled=False)]

    def __enter__(self) -> None:
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *error: Any) -> None:
        for context in reversed(self._contexts):
            context.__exit__(*error)


def _parts(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]
