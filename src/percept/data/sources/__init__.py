"""Sources: rows of files of every kind, in random order, as batches that are a pure function of seed and step."""

from percept.data.sources.open import open_rows, open_source
from percept.data.sources.sample import BadSample, Media, Rows, Sample
from percept.data.sources.source import RowSource, mix

__all__ = ["BadSample", "Media", "RowSource", "Rows", "Sample", "mix", "open_rows", "open_source"]
