"""Doctor: every subject with and without its problem, and the remedy beside it."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from percept.cli import diagnosis, main
from percept.cli.diagnosis import Finding
from percept.core import machine
from percept.core.errors import PerceptError
from percept.core.machine import cpu_quota
from percept.infer import load
from percept.weights import hub

CPU = torch.device("cpu")


def one(findings: Iterable[Finding], what: str) -> Finding:
    (single,) = [finding for finding in findings if finding.what == what]
    assert bool(single.problem) <= bool(single.remedy)
    return single


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which nothing is wrong, whatever this one is like."""
    monkeypatch.setattr(hub, "hub_reachable", lambda seconds: True)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda folder: SimpleNamespace(free=100e9))
    monkeypatch.setattr(machine, "usable_cores", torch.get_num_threads)
    monkeypatch.setattr(machine, "matmul_peak", lambda device, dtype, seconds: 1e9)
    monkeypatch.setattr(diagnosis.os, "getloadavg", lambda: (0.3, 0.3, 0.3))
    monkeypatch.setattr(diagnosis, "OPTIONAL", {"torch": ("none", "everything")})


@pytest.mark.usefixtures("sound")
def test_a_sound_machine_has_no_problems(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--seconds", "0.01"]) == 0
    printed = capsys.readouterr().out
    assert "Problems: none found" in printed
    for part in (
        "number type",
        "torch threads",
        "FFmpeg",
        "answers",
        "generated images",
        "C++ compiler",
        "opens, image identity",
    ):
        assert part in printed


@pytest.mark.usefixtures("sound")
def test_each_problem_stands_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(hub, "hub_reachable", lambda seconds: False)
    monkeypatch.setattr(diagnosis, "OPTIONAL", {"no-such-library": ("data", "nothing")})
    assert main(["doctor", "--seconds", "0.01"]) == 0
    problems = capsys.readouterr().out.split("Problems")[1]
    for part in (
        "does not answer within 2 seconds",
        "HTTPS_PROXY",
        "no-such-library is missing",
        "percept-models[data]",
    ):
        assert part in problems


@pytest.mark.parametrize(
    ("used", "cores", "problem", "remedy"),
    [
        (4, 4, "", ""),
        (1, 4, "1 of 4 cores", "unset OMP_NUM_THREADS"),
        (16, 1.5, "16 threads for 1.5 cores", "OMP_NUM_THREADS=1"),
        (1, 0.5, "", ""),
    ],
)
def test_threads_fit_the_cores(
    monkeypatch: pytest.MonkeyPatch, used: int, cores: float, problem: str, remedy: str
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: used)
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    found = one(diagnosis.threads(), "torch threads")
    assert problem in found.problem
    assert bool(found.problem) == bool(problem)
    assert remedy in found.remedy


@pytest.mark.parametrize(("load", "busy"), [(0.5, False), (2.2, False), (5.0, True)])
def test_a_busy_machine_is_told(monkeypatch: pytest.MonkeyPatch, load: float, busy: bool) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    monkeypatch.setattr(diagnosis.os, "getloadavg", lambda: (load, 0, 0))
    assert bool(one(diagnosis.threads(), "load").problem) == busy


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_container_is_read(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path) == quota


def test_cores_are_no_more_than_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_quota", lambda: 0.25)
    assert machine.usable_cores() == 0.25
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    assert machine.usable_cores() >= 1
    assert machine.total_memory() > 1e8


def test_video_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    found = one(diagnosis.video(), "video decoder")
    assert "PyAV" in found.value
    assert "libavcodec" in found.value
    assert not found.problem
    monkeypatch.setitem(sys.modules, "av", None)
    found = one(diagnosis.video(), "video decoder")
    assert found.problem == "video files cannot be read"
    assert "percept-models[video]" in found.remedy


def test_a_video_decoder_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("libavcodec.so.62: cannot open shared object file")

    monkeypatch.setattr(diagnosis, "import_module", broken)
    assert "libavcodec.so.62" in one(diagnosis.video(), "video decoder").problem


def test_the_hub_is_not_asked_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hub_reachable", lambda seconds: pytest.fail("asked"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = one(diagnosis.hub(), "hub")
    assert "HF_HUB_OFFLINE" in found.value
    assert not found.problem


def test_the_hub_cannot_keep_doctor_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(diagnosis, "HUB_SECONDS", 0.05)
    monkeypatch.setattr(hub, "_connects", lambda seconds: time.sleep(60) or True)
    start = time.perf_counter()
    assert one(diagnosis.hub(), "hub").problem
    assert time.perf_counter() - start < 30


def test_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path))
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "pictures.bin").write_bytes(bytes(20_000_000))
    assert "0.02 GB used" in one(diagnosis.caches(), "generated images").value
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e9))
    full = one(diagnosis.caches(), "generated images")
    assert "only 1.0 GB are free" in full.problem
    assert "PERCEPT_CACHE" in full.remedy
    monkeypatch.setattr(diagnosis.os, "access", lambda folder, mode: False)
    closed = one(diagnosis.caches(), "weights cache")
    assert "cannot be written to" in closed.problem
    assert "HF_HOME" in closed.remedy


def test_devices_and_the_reason_of_the_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(machine, "fast_dtype", lambda device: (torch.bfloat16, "it is a test"))
    monkeypatch.setattr(diagnosis.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    found = list(diagnosis.devices(CPU))
    assert one(found, "number type").value == "bfloat16: it is a test"
    assert "cannot use it" in one(found, "GPU").problem
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"card {number}")
    assert one(diagnosis.devices(CPU), "GPU") == Finding("GPU", "card 0, card 1")


def test_a_type_that_is_slower_than_thought_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "fast_dtype", lambda device: (torch.bfloat16, "it should be"))
    monkeypatch.setattr(machine, "matmul_peak", lambda device, dtype, seconds: 1e9 * dtype.itemsize)
    found = list(diagnosis.peaks(CPU, 0.1))
    assert "used by default" in one(found, "bfloat16").value
    assert "other type was faster" in one(found, "bfloat16").problem
    assert not one(found, "float32").problem


def test_products_and_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("percept.fast.linear.direct", lambda dtype: dtype == torch.float32)
    monkeypatch.setattr(diagnosis.shutil, "which", lambda name: None)
    found = list(diagnosis.products())
    assert one(found, "products on the CPU").value == "oneDNN directly, weights packed: float32"
    assert one(found, "C++ compiler").value.startswith("none")


def test_a_packaged_model_that_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> None:
        raise PerceptError("its files are not there")

    monkeypatch.setattr(load, "open_packaged", gone)
    assert one(diagnosis.packaged(), "nano").problem == "its files are not there"
    assert one(diagnosis.packaged(), "plm-nano") == Finding("plm-nano", "opens, context of 2,048 tokens")
