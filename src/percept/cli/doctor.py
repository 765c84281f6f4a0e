"""`percept doctor`: what this machine can do, what is missing, and how to get it."""

from percept.cli import diagnosis
from percept.core.errors import PerceptError
from percept.core.report import out, table


def doctor(seconds: float = 0.5) -> int:
    """Measure this machine, list the installed libraries, and print each problem with its remedy.

    Args:
        seconds: Duration of the measurement of each matrix-product peak.
    """
    if not 0 < seconds <= 60:
        raise PerceptError(f"--seconds must be above 0 and at most 60, got {seconds}.")
    from percept.core.machine import pick_device

    device = pick_device()
    parts = {
        "Machine": [*diagnosis.software(), *diagnosis.devices(device), *diagnosis.threads(), *diagnosis.products()],
        "Matrix-product peak": [*diagnosis.peaks(device, seconds)],
        "Files and network": [*diagnosis.video(), *diagnosis.hub(), *diagnosis.caches()],
        "Models in the package": [*diagnosis.packaged()],
        "Optional libraries": [*diagnosis.libraries()],
    }
    for title, findings in parts.items():
        table(title, ("what", "value"), [(finding.what, finding.value) for finding in findings])
    problems = [finding for findings in parts.values() for finding in findings if finding.problem]
    if problems:
        table("Problems", ("problem", "remedy"), [(finding.problem, finding.remedy) for finding in problems])
    else:
        out.print("Problems: none found")
    return 0


COMMAND = doctor
