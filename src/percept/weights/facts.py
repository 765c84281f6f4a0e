"""What a weight file that we wrote records about its model: in its header (safetensors) or in NAME.pt.json next to it."""

import json
from pathlib import Path
from typing import Any

from percept.core.config import from_source, to_dict
from percept.core.io import content_hash, load_metadata, read_json, write_json
from percept.core.report import notice
from percept.data.transforms import Preprocess
from percept.models.config import ClipConfig
from percept.weights.files import INDEX, PICKLED, is_safetensors, write_tensors
from percept.weights.layout import Header, State
from percept.weights.naming import checked_name

FACTS = "percept"
"""The key under which the record stands."""
END = 1 << 20
"""Bytes at either end of a pickled file that identify it; the last ones hold a checksum of every tensor."""


def facts_file(file: Path) -> Path:
    """Return where the record of a pickled file is."""
    return file.with_name(f"{file.name}.json")


def read_facts(file: Path) -> Header:
    """Return what a weight file of ours records; an empty header for other files.

    Raises:
        PerceptError: the record has an unknown field, or a name that cannot be that of a file.
    """
    facts = _facts(file)
    if not facts:
        return Header()
    tokenizer = facts.get("tokenizer")
    return Header(
        name=checked_name(facts["name"], str(file)) if "name" in facts else None,
        config=from_source(ClipConfig, facts["model"], file),
        preprocess=from_source(Preprocess, facts["preprocess"], file) if "preprocess" in facts else None,
        tokenizer_hash=tokenizer if isinstance(tokenizer, str) else None,
    )


def write_with_facts(file: Path, state: State, header: Header) -> None:
    """Write a weight file that records which model it holds."""
    facts = {"name": header.name, "model": to_dict(header.config), "preprocess": to_dict(header.preprocess)}
    if header.tokenizer_hash is not None:
        facts["tokenizer"] = header.tokenizer_hash
    write_tensors(file, state, {FACTS: json.dumps(facts)})
    if file.suffix in PICKLED:  # which holds nothing but tensors
        write_json(facts_file(file), {FACTS: {**facts, "file": _identity(file)}})


def _identity(file: Path) -> dict[str, Any]:
    """Return what tells a pickled file from one that replaced it: its length, and a hash of both ends."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        ends = opened.read(END)
        opened.seek(max(0, size - END))
        ends += opened.read(END)
    return {"bytes": size, "ends": content_hash(ends)}


def _facts(file: Path) -> dict[str, Any]:
    record = facts_file(file)
    try:
        if file.name.endswith(INDEX):
            return {}
        if is_safetensors(file):
            facts = json.loads(load_metadata(file).get(FACTS, "{}"))
        else:
            facts = read_json(record)[FACTS] if record.is_file() else {}
    except Exception:  # json of another program, or no json at all
        return {}
    if not (isinstance(facts, dict) and isinstance(facts.get("model"), dict)):
        return {}
    if "file" in facts and facts["file"] != _identity(file):
        notice(f"{record} was written for a different {file.name} and is ignored; remove it, or restore that file")
        return {}
    return facts
