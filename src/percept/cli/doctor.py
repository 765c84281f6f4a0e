"""`percept doctor`: what this machine can do, what is missing, and how to get it."""

from percept.cli import diagnosis
from percept.core.errors import PerceptError
from percept.core.report import out, table


def doctor(seconds: float = 0.5) -> int:
    """Measure this machine, list what is installed, and give each problem found with its remedy.

    Args:
        seconds: How long to measure each matrix-product peak.
    """
    if not 0 < seconds <= 60:
        raise PerceptError(f"--seconds {seconds} measures nothing; use more than 0 and at most 60")
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
        table(title, ("what", "found"), [(one.what, one.found) for one in findings])
    problems = [one for findings in parts.values() for one in findings if one.problem]
    if problems:
        table("Problems", ("problem", "remedy"), [(one.problem, one.remedy) for one in problems])
    else:
        out.print("Problems: none found")
    return 0


COMMAND = doctor
