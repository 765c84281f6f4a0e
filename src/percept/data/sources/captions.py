"""Which text of a sample is its caption: a fixed field, a random one of several, or a weighted choice."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.sources.sample import BadSample, Sample

CaptionFields: TypeAlias = str | Sequence[str] | Mapping[str, float] | Mapping[str, int] | None

USUAL = (
    *("caption", "captions", "text", "txt", "human_caption", "sentence", "sentences", "description"),
    *("alt", "alt_text", "alttext", "title", "label"),
)
"""Fields that are taken for the caption where none is named; the first one that a row has, whatever its case."""


@dataclass(frozen=True)
class CaptionChoice:
    """Chooses the caption of a sample.

    >>> sample = Sample(key="1", captions={"short": ("a cup",), "long": ("a red cup on a table",)})
    >>> CaptionChoice("long").of(sample, seed=0)
    'a red cup on a table'
    """

    fields: CaptionFields = None
    """A field; several, of which one is drawn at random; several with weights; or None for the usual names. Of the fields
    named, those that a sample lacks are not drawn."""

    def __post_init__(self) -> None:
        if isinstance(self.fields, Mapping) and not all(weight > 0 for weight in self.fields.values()):
            raise PerceptError(
                f"weights of captions must be above 0, got {dict(self.fields)}. Leave out fields not wanted."
            )
        if self.fields is not None and not self.fields:
            raise PerceptError(
                "no caption field is named. Name at least one, or leave out captions for the usual names."
            )

    def of(self, sample: Sample, seed: int) -> str:
        """Return the caption for a seed.

        Raises:
            BadSample: the sample has no such text, an empty one, or something that is not text.
        """
        present = self._present(sample)
        field, texts = next(iter(present)), sample.captions[next(iter(present))]
        text = texts[0]
        if len(present) > 1 or len(texts) > 1:
            rng = random.Random(derive(seed, "caption"))
            field = rng.choices(list(present), list(present.values()))[0]
            text = rng.choice(sample.captions[field])
        if not text.strip():
            raise BadSample("empty caption", sample.key, f"field {field!r}")
        return text

    def _present(self, sample: Sample) -> dict[str, float]:
        """Return the candidates that the sample has, with weights."""
        if self.fields is None:
            lower = {name.lower(): name for name in reversed(list(sample.captions))}
            usual = next((lower[name] for name in USUAL if name in lower), None)
            present = {usual: 1.0} if usual is not None else {}
        else:
            present = {name: weight for name, weight in self._weights().items() if sample.captions.get(name)}
        if not present:
            raise self._missing(sample)
        return present

    def _weights(self) -> dict[str, float]:
        if isinstance(self.fields, Mapping):
            return {name: float(weight) for name, weight in self.fields.items()}
        return dict.fromkeys([self.fields] if isinstance(self.fields, str) else self.fields or (), 1.0)

    def _missing(self, sample: Sample) -> BadSample:
        wanted = self._weights() or dict.fromkeys(USUAL, 1.0)
        for name, value in sample.record.items():
            if value is not None and (name in wanted or (self.fields is None and name.lower() in wanted)):
                return BadSample("wrong type", sample.key, f"field {name!r} holds {type(value).__name__}, not text")
        found = ", ".join(sample.captions) or "none"
        return BadSample("no caption", sample.key, f"looked for {', '.join(wanted)}; fields with text: {found}")
