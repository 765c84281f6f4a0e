"""Our own layout: a folder with weights under our own names, configuration, preprocessing and tokenizer."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from percept.core.config import from_source, to_dict
from percept.core.errors import PerceptError
from percept.core.io import read_json, read_object
from percept.data.transforms import Preprocess
from percept.models.config import ClipConfig
from percept.weights.files import INDEX
from percept.weights.layout import Header, Layout, State
from percept.weights.naming import checked_name, plain_name

WEIGHTS, CONFIG, PREPROCESS, TOKENIZER = "model.safetensors", "config.json", "preprocess.json", "tokenizer.json"
METRICS = "metrics.json"


class Percept(Layout):
    """Our names, unchanged."""

    name = "percept"
    marks = ("vision.",)
    weight_files = (WEIGHTS,)
    config_files = (PREPROCESS, CONFIG)
    written_file = WEIGHTS
    takes_file = False
    records_itself = True

    def claims(self, files: Collection[str], config: Mapping[str, Any]) -> bool:
        """True if there is a preprocess.json, or config.json describes a model of percept."""
        return PREPROCESS in files or "model" in config

    def check_folder(self, folder: Path) -> None:
        """Check that nothing is missing.

        Raises:
            PerceptError: a file is missing, or config.json does not describe a model.
        """
        weights = WEIGHTS + INDEX if (folder / (WEIGHTS + INDEX)).is_file() else WEIGHTS
        for file in (CONFIG, weights, PREPROCESS):
            if not (folder / file).is_file():
                there = os.path.lexists(folder / file)
                reason = f"its {file} is not a regular file" if there else f"it has no {file}"
                if file == weights and any(folder.glob("*.onnx")):
                    reason = "it has graphs but no export.json; export the model again"
                raise PerceptError(f"{folder} is not a complete model folder: {reason}")
        if "model" not in read_object(folder / CONFIG):
            raise PerceptError(f"{folder / CONFIG} has no entry 'model'; it was not written by percept")

    def to_ours(self, state: State) -> State:
        """Return the state as it is."""
        return dict(state)

    def to_theirs(self, state: State) -> State:
        """Return the state as it is."""
        return dict(state)

    def read_header(self, file: Path) -> Header:
        """Return what config.json, preprocess.json and metrics.json next to a weight file record.

        Raises:
            PerceptError: one of them is damaged or has an unknown field, or the name cannot be that of a file.
        """
        folder = file.parent
        facts = read_object(folder / CONFIG)
        file = folder / PREPROCESS
        preprocess = from_source(Preprocess, read_json(file), file) if file.is_file() else None
        if "model" not in facts:
            return Header(preprocess=preprocess)
        named = plain_name(folder.resolve().name)
        tokenizer = facts.get("tokenizer")
        return Header(
            name=checked_name(facts["name"], str(folder / CONFIG)) if "name" in facts else named,
            config=from_source(ClipConfig, facts["model"], folder / CONFIG),
            preprocess=preprocess,
            tokenizer_hash=tokenizer if isinstance(tokenizer, str) else None,
            provenance=_object(facts.get("provenance")),
            metrics=read_object(folder / METRICS),
        )

    def write_header(self, header: Header) -> dict[str, Any]:
        """Return config.json, preprocess.json and, if there are metrics, metrics.json."""
        facts = {"name": header.name, "model": to_dict(header.config), "provenance": dict(header.provenance)}
        if header.tokenizer_hash is not None:
            facts["tokenizer"] = header.tokenizer_hash
        files = {CONFIG: facts, PREPROCESS: to_dict(header.preprocess)}
        return {**files, METRICS: dict(header.metrics)} if header.metrics else files


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


LAYOUT = Percept()
