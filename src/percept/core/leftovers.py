"""What killed processes leave: temporary files and folders named `.NAME.PROCESS.part`."""

import os
import shutil
from pathlib import Path


def remove_leftovers(folder: Path | str, name: str = "*") -> None:
    """Remove the temporary files of `replacing`, and folders named like them, that killed processes left in a folder.

    Args:
        folder: where to look.
        name: pattern of the names that were to be written.
    """
    for path in Path(folder).glob(f".{name}.part"):
        process = path.name.split(".")[-2]
        if process.isdigit() and not _is_running(int(process)):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to another user
        return True
    return True
