import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from percept.core.errors import PerceptError
from percept.data.source import Source, prefetched
from percept.data.sources import RowSource, Sample, mix
from tests.data.sources.made import NumberRows, Numbers, collate_numbers, number_and_seed

BAD = frozenset([3, 4, 5, 17])


def source(count: int = 20, *, batch: int = 6, bad: frozenset[int] = BAD, **options: object) -> RowSource:
    rows = NumberRows(count, bad)
    return RowSource(rows, number_and_seed, collate_numbers, batch=batch, max_bad=0.5, **options)  # type: ignore[arg-type]


def drawn(one: RowSource, step: int, rank: int = 0, world_size: int = 1) -> list[tuple[int, int]]:
    batch = one.batch(step, rank=rank, world_size=world_size)
    assert isinstance(batch, Numbers)
    return list(zip(batch.value.tolist(), batch.seed.tolist(), strict=True))


def test_it_is_a_source() -> None:
    assert isinstance(source(), Source)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_batches_are_the_same_for_any_number_of_workers(workers: int) -> None:
    plain = [drawn(source(), step) for step in range(12)]
    with source(workers=workers) as parallel:
        assert [drawn(parallel, step) for step in range(12)] == plain
        assert [drawn(parallel, step) for step in (7, 2, 2, 11)] == [plain[step] for step in (7, 2, 2, 11)]
        assert parallel.bad.counts["made bad"] == 4


@pytest.mark.slow
def test_more_workers_than_rows() -> None:
    plain = [drawn(source(2, batch=3, bad=frozenset()), step) for step in range(4)]
    with source(2, batch=3, bad=frozenset(), workers=3) as parallel:
        assert [drawn(parallel, step) for step in range(4)] == plain


@pytest.mark.parametrize("world_size", [2, 3])
def test_shares_of_ranks_make_the_same_global_batch(world_size: int) -> None:
    for step in range(6):
        shares = [drawn(source(), step, rank, world_size) for rank in range(world_size)]
        assert [each for share in shares for each in share] == drawn(source(), step)


def test_any_order_of_steps_and_any_start_gives_the_same_batches() -> None:
    one = source()
    plain = [drawn(one, step) for step in range(8)]
    assert [drawn(source(), step) for step in reversed(range(8))] == plain[::-1]
    with prefetched(source(), 5, 8) as batches:
        resumed = [batch.value.tolist() for batch in batches if isinstance(batch, Numbers)]
    assert resumed == [[value for value, _ in batch] for batch in plain[5:]]


def test_seeds_differ_between_epochs_and_samples_and_depend_on_the_seed() -> None:
    one = source(4, batch=4, bad=frozenset())
    first, second = dict(drawn(one, 0)), dict(drawn(one, 1))
    assert set(first) == set(second) == {0, 1, 2, 3}
    assert len({*first.values(), *second.values()}) == 8
    assert drawn(source(4, batch=4, bad=frozenset(), seed=1), 0) != drawn(one, 0)


def test_keys_need_no_reading() -> None:
    one = source(bad=frozenset(range(20)))
    keys = one.keys(3)
    assert sorted(one.keys(0) + one.keys(1) + one.keys(2) + keys[:2]) == sorted(f"row {n}" for n in range(20))
    assert one.keys(3, rank=0, world_size=2) + one.keys(3, rank=1, world_size=2) == keys
    assert source(bad=frozenset()).keys(2) == [f"row {value}" for value, _ in drawn(source(bad=frozenset()), 2)]


def test_a_bad_sample_is_replaced_by_that_of_the_same_slot_in_a_later_step() -> None:
    one, clean = source(), source(bad=frozenset())
    for step in range(4):
        for slot, (value, _) in enumerate(drawn(one, step)):
            later = (drawn(clean, step + more)[slot][0] for more in range(10))
            assert value == next(each for each in later if each not in BAD)


def test_bad_rows_are_counted_once_and_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = source(log=tmp_path / "bad.jsonl")
    for step in range(20):
        one.batch(step)
    assert one.bad.counts == {"made bad": 4}
    logged = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert sorted(each["key"] for each in logged) == ["row 17", "row 3", "row 4", "row 5"]
    assert {each["reason"] for each in logged} == {"made bad"}
    shown = capsys.readouterr().err
    assert shown.count("left out row") == 3
    assert "further ones are counted only" in shown


def test_too_many_bad_rows_stop_the_run_with_a_summary() -> None:
    few = RowSource(NumberRows(40, BAD), number_and_seed, collate_numbers, batch=8, max_bad=3)
    with pytest.raises(PerceptError, match=r"4 of \d+ rows read are bad: 4 made bad; max_bad=3"):
        read(few)
    share = RowSource(NumberRows(40, BAD), number_and_seed, collate_numbers, batch=8, max_bad=0.05)
    with pytest.raises(PerceptError, match=r"max_bad=0\.05 allows fewer"):
        read(share)
    enough = RowSource(NumberRows(40, BAD), number_and_seed, collate_numbers, batch=8, max_bad=0.1)
    read(enough)


def test_a_summary_is_shown_at_10_bad_rows(capsys: pytest.CaptureFixture[str]) -> None:
    read(RowSource(NumberRows(40, frozenset(range(15))), number_and_seed, collate_numbers, batch=8))
    assert "10 of" in capsys.readouterr().err


def read(one: RowSource) -> None:
    for step in range(10):
        one.batch(step)


def test_a_source_of_bad_rows_only_ends() -> None:
    only = RowSource(NumberRows(3, frozenset(range(3))), number_and_seed, collate_numbers, batch=2, max_bad=1.0)
    with pytest.raises(
        PerceptError, match=r"^3 of 3 rows are bad, the last one because: made bad \(row [0-2]: .*Check the source"
    ):
        only.batch(0)
    many = RowSource(NumberRows(500, frozenset(range(500))), number_and_seed, collate_numbers, batch=2, max_bad=1.0)
    with pytest.raises(PerceptError, match=r"^100 samples in a row cannot be used"):
        many.batch(0)


def test_steps_below_0_are_refused() -> None:
    for call in (source().batch, source().keys):
        with pytest.raises(PerceptError, match="steps are numbered from 0, got -1"):
            call(-1)


def test_an_error_that_is_no_bad_sample_names_the_row() -> None:
    one = RowSource(NumberRows(3), _broken, collate_numbers, batch=2)
    with pytest.raises(ZeroDivisionError) as caught:
        one.batch(0)
    assert any("while reading row" in note for note in caught.value.__notes__)
    with (
        RowSource(NumberRows(3), _broken, collate_numbers, batch=2, workers=1) as two,
        pytest.raises(ZeroDivisionError),
    ):
        two.batch(0)


def _broken(sample: Sample, seed: int) -> float:
    return 1 / 0


def _leaves(sample: Sample, seed: int) -> float:
    os._exit(3)


def test_a_worker_that_ends_is_reported() -> None:
    with (
        RowSource(NumberRows(3), _leaves, collate_numbers, batch=2, workers=1) as one,
        pytest.raises(PerceptError, match="a worker process ended"),
    ):
        one.batch(0)


def test_functions_that_cannot_be_copied_are_refused() -> None:
    one = RowSource(NumberRows(3), lambda sample, seed: 0, collate_numbers, batch=2, workers=1)
    with pytest.raises(PerceptError, match="cannot be copied to worker processes"):
        one.batch(0)


def test_options_are_checked() -> None:
    with pytest.raises(PerceptError, match="batch must be at least 1"):
        source(batch=0)
    with pytest.raises(PerceptError, match="max_bad must be a share"):
        RowSource(NumberRows(3), number_and_seed, collate_numbers, batch=2, max_bad=1.5)
    with pytest.raises(PerceptError, match="holds no rows"):
        RowSource(NumberRows(0), number_and_seed, collate_numbers, batch=2)
    with pytest.raises(PerceptError, match="has none for rank 0 of 7"):
        source(batch=6).batch(0, rank=0, world_size=7)


def test_steps_count_epochs_or_samples() -> None:
    assert source(20, batch=6).steps() == 4
    assert source(20, batch=6).steps(epochs=3) == 10
    assert source(20, batch=6).steps(samples=13) == 3


def mixture(units: str = "samples", **options: object) -> RowSource:
    one = RowSource(NumberRows(30, name="small"), number_and_seed, collate_numbers, batch=1)
    two = RowSource(NumberRows(1000, BAD, name="large"), number_and_seed, collate_numbers, batch=1)
    return mix([one, two], [1, 3], batch=20, units=units, seed=4, **options)  # type: ignore[arg-type]


def test_a_mixture_has_the_shares_asked_for_in_every_batch_of_a_block() -> None:
    for step in range(5):
        keys = mixture().keys(step)
        assert sum(key.startswith("0:small:") for key in keys) == 5
    small = [key for step in range(6) for key in mixture().keys(step) if key.startswith("0:")]
    assert sorted(small) == sorted(f"0:small:row {number}" for number in range(30))


def test_a_mixture_by_epochs_reads_rows_equally_often() -> None:
    keys = [key for step in range(500) for key in mixture("epochs").keys(step)]
    assert sum(key.startswith("0:") for key in keys) == 99  # of 10,000; 30 / (30 + 3 * 1000) of them


def test_a_mixture_is_the_same_for_any_number_of_ranks() -> None:
    plain = drawn(mixture(), 2)
    assert [drawn(mixture(), 2, rank, 2) for rank in range(2)] == [plain[:10], plain[10:]]


@pytest.mark.slow
def test_a_mixture_is_the_same_for_any_number_of_workers() -> None:
    plain = [drawn(mixture(), step) for step in range(4)]
    with mixture(workers=2) as parallel:
        assert [drawn(parallel, step) for step in range(4)] == plain


def test_mixtures_nest() -> None:
    inner = mix([source(10, bad=frozenset()), source(10, bad=frozenset())], [1, 1], batch=4)
    outer = mix([inner, source(10, bad=frozenset())], [1, 1], batch=20)
    parts = [key.split(":")[0] + key.split(":")[1] for key in outer.keys(0)]
    assert sorted((parts.count(part) for part in set(parts)), reverse=True) == [10, 5, 5]


def test_mixtures_are_checked() -> None:
    with pytest.raises(PerceptError, match="2 sources do not go with 1 weights"):
        mix([source(), source()], [1], batch=4)
    with pytest.raises(PerceptError, match="unknown unit"):
        mix([source()], [1], batch=4, units="steps")


PROGRAM = """
import sys
from tests.data.sources.made import NumberRows, collate_numbers, number_and_seed
from percept.data.sources import RowSource

if __name__ == "__main__":
    source = RowSource(NumberRows(50), number_and_seed, collate_numbers, batch=8, workers=2)
    step = int(sys.argv[1])
    print([p.pid for p in source.batch(step) and source._pool._executor._processes.values()], flush=True)
    while True:
        print(step, source.batch(step).value.tolist(), flush=True)
        step += 1
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_after_a_kill_batches_go_on_and_no_worker_is_left(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(PROGRAM)
    root = Path(__file__).parents[3]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "src"), os.environ.get("PYTHONPATH", "")]),
    }
    plain = RowSource(NumberRows(50), number_and_seed, collate_numbers, batch=8)
    with subprocess.Popen(
        [sys.executable, str(script), "4"], stdout=subprocess.PIPE, text=True, env=environment
    ) as run:
        assert run.stdout is not None
        workers = json.loads(run.stdout.readline())
        lines = [run.stdout.readline() for _ in range(4)]
        run.kill()
    assert lines == [f"{step} {[value for value, _ in drawn(plain, step)]}\n" for step in range(4, 8)]
    deadline = time.monotonic() + 20
    while any(map(_runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_runs, workers))


def _runs(process: int) -> bool:
    try:
        return b"\nState:\tZ" not in Path(f"/proc/{process}/status").read_bytes()
    except OSError:
        return False


def test_torch_tensors_may_be_items() -> None:
    with RowSource(NumberRows(6), _as_tensor, _stacked, batch=4, workers=1) as one:
        assert one.batch(0).tensors()["value"].shape == (4,)


def _as_tensor(sample: Sample, seed: int) -> torch.Tensor:
    return torch.tensor(sample.record["number"])


def _stacked(items: list[torch.Tensor]) -> Numbers:
    return Numbers(value=torch.stack(items), seed=torch.stack(items))
