"""The tiny model as an export, made once for all workers: pictures of any size, with int8 graphs beside the plain ones."""

import fcntl
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
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if hasattr(request.config, "workerinput") else base) / "exports"
    place.mkdir(exist_ok=True)
    model, folder, report = place / "model", place / "export", place / "printed.txt"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first worker makes it, others wait
        if not report.exists():
            printed = export(tiny.folder(model), folder, "--size", "dynamic", "--int8")
            report.write_text(printed, encoding="utf-8")
        return Written(model, folder, report.read_text(encoding="utf-8"))
