import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.sources import made

PROGRAM = """
import sys
import numpy as np
from percept.data import open_source
from percept.data.transforms import Preprocess

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

source = open_source(sys.argv[1], batch=500, preprocess=Preprocess(size=8))
sizes = []
for step in range(source.steps()):
    source.batch(step)
    sizes.append(resident())
print(len(source), max(sizes[:20]), max(sizes))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the size of the process from /proc")
@pytest.mark.parametrize("kind", ["shards", "json lines"])
def test_memory_stays_flat_over_100_000_samples(kind: str, tmp_path: Path) -> None:
    if kind == "shards":
        for number in range(100):
            samples = {f"{number}-{row}": made.members(row % 8) for row in range(1000)}
            made.shard(tmp_path / f"{number:03d}.tar", samples)
        where = str(tmp_path / "{000..099}.tar")
    else:
        rows = [{"image": f"images/{row % 8}.png", "caption": f"caption {row}"} for row in range(100_000)]
        where = str(made.json_lines(tmp_path / "rows.jsonl", rows))
    done = subprocess.run([sys.executable, "-c", PROGRAM, where], capture_output=True, text=True, check=True)
    count, first, largest = map(int, done.stdout.split())
    assert count == 100_000
    assert largest - first < 16 << 20  # the maps of index files are part of the process, and are read as it goes on
