"""What a first-time user meets before anything is loaded: the import, the help, and what neither may drag in."""

import subprocess
import sys

import pytest

import percept
from percept.cli import VERBS

HEAVY = ("torch", "numpy", "PIL", "rich", "tyro", "tokenizers", "huggingface_hub")


def modules_after(code: str) -> set[str]:
    """Run code in a fresh interpreter and return the heavy modules it left loaded."""
    program = f"{code}\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_import_loads_nothing_heavy():
    assert modules_after("import percept; percept.__version__; percept.PerceptError; dir(percept)") == set()


def test_help_loads_nothing_heavy():
    assert modules_after("from percept.cli import main; main(['--help']); main([]); main(['--version'])") == set()


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_loads_no_torch(verb):
    code = f"from percept.cli import main; assert main([{verb!r}, '--help']) == 0"
    assert not {"torch", "huggingface_hub", "tokenizers"} & modules_after(code)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="load"):
        percept.lod  # noqa: B018
    assert {"load", "Encoder"} <= set(dir(percept))


@pytest.mark.parametrize(
    "command", [["-m", "percept"], ["-c", "import sys; from percept.cli import main; sys.exit(main())"]]
)
def test_a_mistake_ends_with_two_and_without_a_traceback(command, tmp_path):
    done = subprocess.run(
        [sys.executable, *command, "classify", str(tmp_path / "nowhere"), "--labels", "cat,dog"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
