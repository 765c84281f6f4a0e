"""The prompts of a batch up to their first new tokens: image tokens are run once, and passes are bounded in size.

Prompts of similar length run together, padded on the right. A prompt that begins like an earlier one, or like another of its
batch, continues from a copy of the keys and values.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from percept.infer.memory import Memory, Signature
from percept.models.vlm import VLM
from percept.nn.cache import KVCache

PASS_TOKENS = 2_048
"""Most tokens that go through the decoder together, padding included."""
PADDING = 1.25
"""Most tokens of a padded batch as a multiple of the real ones."""
Base = tuple[KVCache, int, int]
"""Keys and values to continue from: cache, row, tokens."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ready:
    """A prompt whose images have been encoded."""

    ids: Int[Tensor, " n"]
    visual: Float[Tensor, "m d"]
    """Visual tokens, in the places of the image tokens."""
    is_visual: Bool[Tensor, " n"]
    signature: Signature

    def __len__(self) -> int:
        return len(self.signature)

    @cached_property
    def end_of_images(self) -> int:
        """Number of tokens up to the last visual one."""
        places = self.is_visual.nonzero()
        return int(places[-1]) + 1 if len(places) else 0

    @property
    def images(self) -> Signature:
        """Signature of the part up to the last visual token."""
        return self.signature[: self.end_of_images]

    def head(self, count: int) -> "Ready":
        """Return the first `count` tokens."""
        return replace(
            self, ids=self.ids[:count], is_visual=self.is_visual[:count], signature=self.signature[:count],
            visual=self.visual[: int(self.is_visual[:count].sum())],
        )  # fmt: skip

    def embeddings(self, model: VLM, start: int, stop: int) -> Float[Tensor, "n d"]:
        """Return the embeddings of the tokens from `start` to `stop`."""
        here, before = self.is_visual[start:stop], int(self.is_visual[:start].sum())
        embedded = model.decoder.embed(self.ids[None, start:stop])[0]
        some = self.visual[before : before + int(here.sum())]
        return embedded.masked_scatter(here[:, None], some.to(embedded.dtype)) if len(some) else embedded


@dataclass(frozen=True, kw_only=True, eq=False)
class Started:
    """A batch of prompts that have been run."""

    cache: KVCache
    logits: Float[Tensor, "b v"]
    """Of the first new token of each row."""


def start(model: VLM, prompts: Sequence[Ready], memory: Memory, *, room: int) -> Started:
    """Run prompts, and return their cache with room for `room` more tokens per row."""
    distinct = list({prompt.signature: prompt for prompt in prompts}.values())
    bases = _bases(model, distinct, memory)
    capacity = max(map(len, prompts)) + room
    groups = alike([len(prompt) - base[2] for prompt, base in zip(distinct, bases, strict=True)])
    runs = [_run(model, [distinct[row] for row in group], [bases[row] for row in group], capacity) for group in groups]
    places = {
        distinct[row].signature: (run, place)
        for run, group in zip(runs, groups, strict=True)
        for place, row in enumerate(group)
    }
    for prompt, base in zip(distinct, bases, strict=True):
        _remember(prompt, base, places[prompt.signature], memory)
    if len(runs) == 1 and [prompt.signature for prompt in prompts] == list(places):
        return runs[0]
    rows = [places[prompt.signature] for prompt in prompts]
    lengths = map(len, prompts)
    cache = KVCache.joined(
        [(run.cache, row, count) for (run, row), count in zip(rows, lengths, strict=True)], capacity=capacity
    )
    return Started(cache=cache, logits=torch.stack([run.logits[row] for run, row in rows]))


def _bases(model: VLM, prompts: Sequence[Ready], memory: Memory) -> list[Base]:
    """Return what each prompt continues from; images that several prompts share are run first."""
    blank = model.decoder.new_cache(1, 1), 0, 0
    counts = Counter(prompt.images for prompt in prompts if prompt.end_of_images)
    shared: dict[Signature, Base] = {}
    bases = []
    for prompt in prompts:
        base = memory.longest(prompt.signature) or blank
        if counts[prompt.images] > 1 and base[2] < prompt.end_of_images:
            if prompt.images not in shared:
                head = prompt.head(prompt.end_of_images)
                cache = _run(model, [head], [base], len(head)).cache
                memory.prefixes.put(head.signature, cache)
                shared[prompt.images] = cache, 0, len(head)
            base = shared[prompt.images]
        bases.append((*base[:2], min(base[2], len(prompt) - 1)))  # the last token has to be run for its logits
    return bases


def _remember(prompt: Ready, base: Base, place: tuple[Started, int], memory: Memory) -> None:
    """Keep the keys and values up to the last image, unless they were there already."""
    run, row = place
    if prompt.end_of_images > base[2]:
        head = KVCache.joined([(run.cache, row, prompt.end_of_images)], capacity=prompt.end_of_images)
        memory.prefixes.put(prompt.images, head)


def alike(lengths: Sequence[int]) -> list[list[int]]:
    """Return groups of rows that waste little when they are padded to the longest of a group.

    >>> alike([100, 3, 90, 4])
    [[1, 3], [2, 0]]
    """
    groups: list[list[int]] = []
    total = 0
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        total += lengths[row]
        if not groups or lengths[row] * (len(groups[-1]) + 1) > PADDING * total:
            groups.append([])
            total = lengths[row]
        groups[-1].append(row)
    return groups


def _run(model: VLM, prompts: Sequence[Ready], bases: Sequence[Base], capacity: int) -> Started:
    """Run prompts of similar length from their bases on, in parts of bounded size."""
    cache = KVCache.joined(bases, capacity=max(capacity, max(base[2] for base in bases)))
    ends = [len(prompt) - base[2] for prompt, base in zip(prompts, bases, strict=True)]
    width = max(1, PASS_TOKENS // len(prompts))
    last: dict[int, Tensor] = {}
    for begin in range(0, max(ends), width):
        parts = [
            prompt.embeddings(model, base[2] + min(begin, end), base[2] + min(begin + width, end))
            for prompt, base, end in zip(prompts, bases, ends, strict=True)
        ]
        padded = pad_sequence(parts, batch_first=True)
        out = model.decoder(embeddings=padded, cache=cache, counts=[len(part) for part in parts]).tokens
        last |= {row: out[row, end - 1 - begin] for row, end in enumerate(ends) if begin < end <= begin + width}
    return Started(cache=cache, logits=model.decoder.logits(torch.stack([last[row] for row in range(len(prompts))])))
