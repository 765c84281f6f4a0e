"""`percept doctor`: what this machine can do, what is missing, and how to get it."""

from pathlib import Path

from percept.cli import diagnosis
from percept.cli.output import check_rows_output, is_stdout, save_rows
from percept.core.errors import PerceptError
from percept.core.report import out as printed
from percept.core.report import table

FIELDS = {"part": str, "what": str, "value": str, "problem": str, "remedy": str}
"""Of a row of --out: problem and remedy are null where there is none."""


def doctor(seconds: float = 0.5, out: Path | None = None) -> int:
    """Measure this machine, list the installed libraries, and print each problem with its remedy.

    Args:
        seconds: Duration of the measurement of each matrix-product peak.
        out: File for the findings, ending in .csv, .json, .jsonl or .parquet; - for json lines on standard output.
    """
    if not 0 < seconds <= 60:
        raise PerceptError(f"--seconds must be above 0 and at most 60, got {seconds}.")
    check_rows_output(out)
    from percept.core.machine import pick_device

    device = pick_device()
    parts = {
        "Machine": [*diagnosis.software(), *diagnosis.devices(device), *diagnosis.threads(), *diagnosis.products()],
        "Matrix-product peak": [*diagnosis.peaks(device, seconds)],
        "Files and network": [*diagnosis.video(), *diagnosis.hub(), *diagnosis.caches()],
        "Models in the package": [*diagnosis.packaged()],
        "Optional libraries": [*diagnosis.libraries()],
    }
    rows = [
        {"part": part, "what": each.what, "value": each.value, "problem": each.problem or None, "remedy": each.remedy or None}
        for part, findings in parts.items()
        for each in findings
    ]  # fmt: skip
    if not is_stdout(out):
        _show(parts)
    save_rows(out, rows, FIELDS)
    return 0


def _show(parts: dict[str, list[diagnosis.Finding]]) -> None:
    for title, findings in parts.items():
        table(title, ("what", "value"), [(finding.what, finding.value) for finding in findings])
    problems = [finding for findings in parts.values() for finding in findings if finding.problem]
    if problems:
        table("Problems", ("problem", "remedy"), [(finding.problem, finding.remedy) for finding in problems])
    else:
        printed.print("Problems: none found")


COMMAND = doctor
