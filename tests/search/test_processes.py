"""Real processes: killed at any moment, two at once, following a folder; and indexes of an older format."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.search.build import Report
from percept.search.contracts import stamp_of
from percept.search.index import Index
from percept.search.store import FILE, Root, Store
from percept.search.store.tables import stamp_json
from percept.search.watch import watch
from tests.search.fakes import ColourEncoder, picture

REPOSITORY = Path(__file__).parents[2]

PROGRAM = """
import sys
import percept.search.build as building
from percept.search.index import Index
from tests.search.fakes import ColourEncoder
building.BATCH = 4
with Index.open_or_create(sys.argv[1], ColourEncoder()) as index:
    print("ready", flush=True)
    report = index.add(sys.argv[2])
    {more}
    print(report.added, report.reused, flush=True)
"""
COMPACTS = "index.remove([sys.argv[2] + '/drop']); index.compact(); report = index.add(sys.argv[2])"


def start(index: Path, folder: Path, more: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(REPOSITORY)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM.format(more=more), str(index), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=REPOSITORY)


def pictures(folder: Path, count: int, *, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for number in range(count):
        place = folder / ("drop" if number % 4 == 0 else "keep")
        picture(place / f"{number}.png", tuple(rng.integers(0, 256, 3).tolist()))
    return folder


def state(index: Path) -> dict[str, bytes]:
    """Return file name → bytes of its vector; every piece must have exactly one vector."""
    found: dict[str, bytes] = {}
    with Store(index) as store:
        assert store.status().damaged == 0
        ids = [int(id_) for part, _ in store.vectors() for id_ in part]
        assert len(ids) == len(set(ids)) == store.status().pieces
        for part, vectors in store.vectors():
            for piece, vector in zip(store.pieces(part), vectors, strict=True):
                found |= {path.name: vector.tobytes() for path in piece.paths}
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("killed") / "photos", 160)


@pytest.fixture(scope="module")
def clean(folder: Path) -> dict[str, bytes]:
    with Index.create(folder.parent / "clean", ColourEncoder()) as index:
        index.add(folder)
    return state(folder.parent / "clean")


def kill_after(process: subprocess.Popen[str], seconds: float) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", COMPACTS])
def test_killed_at_any_moment_nothing_is_lost_or_doubled(
    more: str, folder: Path, clean: dict[str, bytes], tmp_path: Path
) -> None:
    rng, sizes = random.Random(0), []
    for _ in range(8):
        kill_after(start(tmp_path / "index", folder, more), rng.uniform(0.0, 0.5))
        part = state(tmp_path / "index")
        assert all(clean[name] == vector for name, vector in part.items())
        sizes.append(len(part))
    with Index(tmp_path / "index", ColourEncoder()) as index:
        report = index.add(folder)
        index.compact()
        index.store.repair()
        names = {path.name for path in (tmp_path / "index" / "segments").iterdir()}
        assert names == {file.name for each in index.store.segments() for file in (each.vector_file, each.id_file)}
    assert report.added + report.unchanged + report.reused == 160
    assert state(tmp_path / "index") == clean
    if not more:
        assert sizes == sorted(sizes)  # what was written stays


def test_killed_while_indexing_and_resumed(folder: Path, clean: dict[str, bytes], tmp_path: Path) -> None:
    process = start(tmp_path / "index", folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with Store(tmp_path / "index") as store:
        while len(store) < 20 and process.poll() is None:
            time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    part = state(tmp_path / "index")
    assert len(part) >= 20
    with Index(tmp_path / "index", ColourEncoder()) as index:
        assert index.add(folder).unchanged == len(part)
    assert state(tmp_path / "index") == clean


def test_two_processes_fill_one_index(folder: Path, clean: dict[str, bytes], tmp_path: Path) -> None:
    processes = [start(tmp_path / "index", folder, more) for more in ("", "index.compact()")]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    counts = [[int(word) for word in output.splitlines()[-1].split()] for output in outputs]
    assert all(sum(count) <= 160 for count in counts)
    assert state(tmp_path / "index") == clean


class Stopped(Exception):
    """Ends a watch."""


def test_watch_follows_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = pictures(tmp_path / "photos", 4)
    (photos / "raw.cr2").touch()
    encoder, reports, looks = ColourEncoder(), [], []

    def wait(_: float) -> None:
        looks.append(len(index))
        if len(looks) == 1:
            picture(photos / "new.png", "green")
        if len(looks) == 2:
            (photos / "half.png").write_bytes((photos / "new.png").read_bytes()[:40])
        if len(looks) == 3:  # still being written
            (photos / "half.png").write_bytes((photos / "new.png").read_bytes())
            picture(photos / "half.png", "blue")
        if len(looks) == 6:
            (photos / "new.png").unlink()
            (photos / "bad.png").write_bytes(b"x")
        if len(looks) == 12:
            raise Stopped

    with Index.create(tmp_path / "index", encoder) as index:
        index.add(photos)
        with pytest.raises(Stopped):
            watch(index.store, encoder, [Root(path=photos)], reports.append, wait=wait)
        assert len(index) == 5
        assert sorted(path.name for path in index.store.paths())[-1] == "half.png"
    assert [(report.added, len(report.removed), len(report.bad)) for report in reports] == [
        (1, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1),
    ]  # fmt: skip
    assert encoder.encoded == 4 + 2
    assert capsys.readouterr().err.count("not read here: 1 .cr2") == 2  # by add, and once by watch


def test_watch_builds_an_outdated_approximate_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import percept.search.watch as following

    encoder, built, looks = ColourEncoder(), [], []
    monkeypatch.setattr(following, "refresh_approximate", lambda store: built.append(len(store)))

    def wait(_: float) -> None:
        looks.append(len(built))
        if len(looks) == 1:
            picture(tmp_path / "photos" / "new.png", "green")
        if len(looks) == 4:
            raise Stopped

    with Index.create(tmp_path / "index", encoder) as index:
        index.add(pictures(tmp_path / "photos", 3))
        with pytest.raises(Stopped):
            watch(index.store, encoder, [Root(path=tmp_path / "photos")], lambda _: None, wait=wait)
    assert (built, looks) == ([4], [0, 0, 1, 1])  # after the files, not at every look


def test_ctrl_c_ends_a_watch_cleanly(tmp_path: Path) -> None:
    program = (
        "import sys; import percept.infer.load; from tests.search.fakes import ColourEncoder; "
        "percept.infer.load.load = lambda name, **_: ColourEncoder(name=name); from percept.cli import main; "
        "sys.exit(main(['index', sys.argv[1], '--index', sys.argv[2], '--watch']))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(REPOSITORY)])}
    command = [sys.executable, "-c", program, str(pictures(tmp_path / "photos", 4)), str(tmp_path / "index")]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background begins with SIGINT ignored
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, cwd=REPOSITORY, preexec_fn=heard
    ) as process:
        assert process.stderr is not None
        while "following the folders" not in (line := process.stderr.readline()):
            assert line, "it ended early"
        process.send_signal(signal.SIGINT)
        shown = process.communicate(timeout=120)[1]
    assert process.returncode == 0
    assert "stopped following; 4 files in the index" in shown
    assert "Traceback" not in shown


OLD_TABLES = """
PRAGMA application_id = 0x50455243;
PRAGMA user_version = 2;
CREATE TABLE stamp (json TEXT NOT NULL);
CREATE TABLE content (id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, width INTEGER NOT NULL, height INTEGER NOT NULL,
    vector BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE file (path BLOB PRIMARY KEY, hash TEXT NOT NULL REFERENCES content (hash), bytes INTEGER NOT NULL,
    modified INTEGER NOT NULL, added TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX file_by_hash ON file (hash);
"""


def old_index(tmp_path: Path, folder: Path) -> Path:
    """Write an index of format 2 with the vectors that a current one has."""
    with Index.create(tmp_path / "new", ColourEncoder()) as index:
        index.add(folder)
        rows = {
            path: (piece, vector.tobytes())
            for ids, vectors in index.store.vectors()
            for piece, vector in zip(index.store.pieces(ids), vectors, strict=True)
            for path in piece.paths
        }
    (tmp_path / "old").mkdir()
    connection = sqlite3.connect(tmp_path / "old" / FILE)
    connection.executescript(OLD_TABLES)
    connection.execute("INSERT INTO stamp VALUES (?)", (stamp_json(stamp_of(ColourEncoder())),))
    for path, (piece, vector) in rows.items():
        check = zlib.crc32(vector, zlib.crc32(f"{piece.hash} {piece.width} {piece.height}".encode()))
        content = (piece.hash, piece.width, piece.height, vector, check)
        connection.execute("INSERT OR IGNORE INTO content VALUES (NULL, ?, ?, ?, ?, ?)", content)
        status = path.stat()
        row = (os.fsencode(path), piece.hash, status.st_size, status.st_mtime_ns, "2025-01-01T00:00:00+00:00")
        connection.execute("INSERT INTO file VALUES (?, ?, ?, ?, ?)", row)
    connection.commit()
    connection.close()
    return tmp_path / "old"


def test_an_index_of_format_2_is_carried_over_without_encoding(tmp_path: Path, capsys) -> None:
    photos = pictures(tmp_path / "photos", 12)
    (photos / "keep" / "copy.png").write_bytes((photos / "keep" / "1.png").read_bytes())
    old = old_index(tmp_path, photos)
    with Index(old, encoder := ColourEncoder()) as index:
        assert len(index) == 13
        report = index.add(photos)
        assert (report.unchanged, encoder.encoded) == (13, 0)
    assert "nothing is encoded again" in " ".join(capsys.readouterr().err.split())
    assert state(old) == state(tmp_path / "new")
    assert {path.name for path in old.iterdir()} == {FILE, "segments"}


def test_damaged_rows_of_format_2_are_encoded_again(tmp_path: Path) -> None:
    old = old_index(tmp_path, pictures(tmp_path / "photos", 8))
    with sqlite3.connect(old / FILE) as connection:
        connection.execute("UPDATE content SET width = width + 1 WHERE id IN (2, 5)")
    connection.close()
    with Index(old, ColourEncoder()) as index:
        assert len(index) == 6
        assert index.add([tmp_path / "photos"]).repaired == 2
    assert state(old) == state(tmp_path / "new")


def test_the_old_file_is_kept_until_the_new_one_is_complete(tmp_path: Path, monkeypatch) -> None:
    old = old_index(tmp_path, pictures(tmp_path / "photos", 8))
    before = (old / FILE).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("percept.search.store.segments.write_rows", full)
        with pytest.raises(PerceptError, match="No space left on device"):
            Index(old)
    assert (old / FILE).read_bytes() == before
    with Index(old) as index:
        assert len(index) == 8
    assert state(old) == state(tmp_path / "new")


def test_other_formats_are_refused(tmp_path: Path) -> None:
    old = old_index(tmp_path, pictures(tmp_path / "photos", 4))
    for version in (1, 4):
        sqlite3.connect(old / FILE).execute(f"PRAGMA user_version = {version}").connection.close()
        with pytest.raises(PerceptError, match=f"has format {version}, and this percept reads format 3"):
            Index(old)


def test_two_openers_migrate_once(tmp_path: Path) -> None:
    old = old_index(tmp_path, pictures(tmp_path / "photos", 8))
    results: list[object] = []

    def open_it() -> None:
        try:
            with Index(old) as index:
                results.append(len(index))
        except PerceptError as error:
            results.append("by another process" in str(error))

    threads = [threading.Thread(target=open_it) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) <= {8, True}
    assert len(state(old)) == 8


def test_reports_are_typed(tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", ColourEncoder()) as index:
        assert isinstance(index.add(pictures(tmp_path / "photos", 1)), Report)
        assert to_dict(index.status())["files"] == 1
