"""Our own layout of perception language models: weights under our names, config.json with "kind", preprocess.json, metrics.json."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from percept.core.config import from_source, to_dict
from percept.core.errors import PerceptError, unknown_name
from percept.core.io import read_json, read_object
from percept.data.transforms import Preprocess
from percept.models.language import DecoderConfig, VLMConfig
from percept.weights.files import INDEX, read_tensors
from percept.weights.layout import State
from percept.weights.layouts.percept import CONFIG, METRICS, PREPROCESS, WEIGHTS
from percept.weights.layouts.plm import Config, PlmLayout, Record
from percept.weights.naming import checked_name, plain_name

KINDS: dict[str, type[VLMConfig] | type[DecoderConfig]] = {kind.kind: kind for kind in (VLMConfig, DecoderConfig)}
COMPANIONS = (CONFIG, PREPROCESS, METRICS, "tokenizer.json", "chat.json")


class Percept(PlmLayout):
    """Our names, unchanged."""

    name = "percept"
    weights = WEIGHTS

    def claims(self, files: Collection[str], config: Mapping[str, Any]) -> bool:
        """True if config.json has a kind of model next to a model."""
        return "kind" in config and "model" in config

    def files(self, names: Collection[str], place: str) -> list[str]:
        """Return the weight file or its index, then the files that go with it.

        Raises:
            PerceptError: there are no weights.
        """
        stored = next((file for file in (WEIGHTS, WEIGHTS + INDEX) if file in names), None)
        if stored is None:
            raise PerceptError(f"{place} is not a complete model folder: it has no {WEIGHTS}. Copy it there too.")
        return [stored, *(file for file in COMPANIONS if file in names)]

    def read_record(self, folder: Path) -> Record:
        """Return what config.json, preprocess.json and metrics.json record.

        Raises:
            PerceptError: one of them is damaged or has an unknown field, or the kind is unknown.
        """
        facts, source = read_json(folder / CONFIG), folder / CONFIG
        if facts["kind"] not in KINDS:
            raise unknown_name("kind of model", str(facts["kind"]), KINDS)
        preprocess, provenance = folder / PREPROCESS, facts.get("provenance")
        return Record(
            config=from_source(KINDS[facts["kind"]], facts["model"], source),
            name=checked_name(facts["name"], str(source)) if "name" in facts else plain_name(folder.resolve().name),
            preprocess=from_source(Preprocess, read_json(preprocess), preprocess) if preprocess.is_file() else None,
            provenance=provenance if isinstance(provenance, dict) else {},
            metrics=read_object(folder / METRICS),
        )

    def read(self, folder: Path, weights: Sequence[str]) -> State:
        """Return the tensors of the weight file, or of all files of its index."""
        return read_tensors(folder / weights[0])

    def to_ours(self, state: State, config: Config) -> State:
        """Return the state as it is."""
        return dict(state)

    def to_theirs(self, state: State, config: Config) -> State:
        """Return the state as it is."""
        return dict(state)

    def write_record(self, record: Record) -> dict[str, Any]:
        """Return config.json and, where they exist, preprocess.json and metrics.json."""
        config = record.config
        facts = {
            "name": record.name,
            "kind": config.kind,
            "model": to_dict(config),
            "provenance": dict(record.provenance),
        }
        files: dict[str, Any] = {CONFIG: facts}
        if record.preprocess is not None:
            files[PREPROCESS] = to_dict(record.preprocess)
        return files | ({METRICS: dict(record.metrics)} if record.metrics else {})


LAYOUT = Percept()
