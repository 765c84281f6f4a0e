"""The tiny model as an export, made once: pictures of any size, with int8 graphs beside the plain ones."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.export.exports import export
from tests.infer import tiny


@dataclass(frozen=True)
class Written:
    model: Path
    folder: Path
    printed: str


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Written:
    place = tmp_path_factory.mktemp("exports")
    model = tiny.folder(place / "model")
    printed = export(model, place / "export", "--size", "dynamic", "--int8")
    return Written(model, place / "export", printed)
