"""The command `percept`: a literal table of verbs that imports nothing until one is chosen."""

import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper

from percept.core import VERSION
from percept.core.errors import PerceptError, unknown_name

VERBS: dict[str, tuple[str, str]] = {
    "classify": ("percept.cli.classify", "rank labels for images and videos, and sort files by label"),
    "teach": ("percept.cli.teach", "learn labels from folders of classes"),
    "adapt": ("percept.cli.adapt", "adapt an encoder to folders of classes by published few-shot methods"),
    "dupes": ("percept.cli.dupes", "find near duplicates, and move the copies away"),
    "explain": ("percept.cli.explain", "draw what in an image speaks for which label"),
    "undo": ("percept.cli.undo", "put files back that classify or dupes placed"),
    "ask": ("percept.cli.ask", "ask a question about images and videos"),
    "caption": ("percept.cli.caption", "describe images and videos in words"),
    "chat": ("percept.cli.chat", "talk about images in the terminal"),
    "encode": ("percept.cli.encode", "write the vectors of images and videos to a file"),
    "features": ("percept.cli.features", "show the features of images, patch by patch, at any layer"),
    "segment": ("percept.cli.segment", "label the pixels of an image by texts, or find its objects"),
    "heatmap": ("percept.cli.heatmap", "show where in an image a text fits"),
    "track": ("percept.cli.track", "follow objects through a video from a mask of its first frame"),
    "match": ("percept.cli.match", "find the same points in two images"),
    "depth": ("percept.cli.depth", "estimate depth with a trained head"),
    "index": ("percept.cli.index", "make a folder of images searchable"),
    "search": ("percept.cli.search", "find images by text, by image, or by both"),
    "eval": ("percept.cli.evaluate", "measure a model by one evaluation, several, or all"),
    "report": ("percept.cli.report", "measure models by the whole suite, as one page with plots, side by side"),
    "conformal": ("percept.cli.conformal", "answer in sets with guaranteed coverage, or abstain, from any logits"),
    "layers": ("percept.cli.layers", "find the layer of an encoder that is best for a task"),
    "compare": ("percept.cli.compare", "compare two runs of eval, sample by sample"),
    "train": ("percept.cli.train", "train a model by a recipe"),
    "ablate": ("percept.cli.ablate", "compare variants of a training run over several seeds"),
    "curate": ("percept.cli.curate", "filter, deduplicate and balance images with captions"),
    "data": ("percept.cli.data", "check training data: bad rows, sizes, caption lengths, duplicates, classes"),
    "world": ("percept.cli.world", "write or show images of the labelled world"),
    "convert": ("percept.cli.convert", "write weights in another layout: official, timm, open_clip, percept"),
    "export": ("percept.cli.export", "write a model as ONNX graphs that run without torch; int8 too"),
    "receipt": ("percept.cli.receipt", "prove that two models, types or exports compute the same"),
    "cache": ("percept.cli.cache", "show what is kept on this machine, and remove it"),
    "serve": (
        "percept.cli.serve",
        "search an index in the browser, or answer questions over HTTP",
    ),
    "list": ("percept.cli.catalogue", "list models and recipes"),
    "doctor": ("percept.cli.doctor", "show what this machine can do and what is missing"),
}
"""Verb: (module, one line). A module defines COMMAND, a function; COMMANDS, functions by sub-verb; or ARGUMENTS, a
function of the raw arguments. No module is called `list` or `eval`: importing it would hide the builtin in this file."""

USER_ERROR, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code: 0 done, 2 a mistake of the user, 130 interrupted."""
    _show_any_letters()
    arguments = list(sys.argv[1:] if argv is None else argv)
    program = " ".join(["percept", *arguments[:1]])
    try:
        code = _answer(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a closed pipe or a full disk can still be handled
        return code
    except PerceptError as error:
        _complain(f"{program}: {error}")
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `percept --help | head`: the reader has stopped
        _discard_output()
        return 0
    except OSError as error:
        _complain(f"{program}: {_explained(error)}")
        _discard_output()
        return USER_ERROR


def _answer(arguments: list[str]) -> int:
    """Print the help or the version, or run a verb."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"percept {VERSION}")
        return 0
    try:
        return _run(arguments[0], arguments[1:])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USER_ERROR if stop.code else 0


def _show_any_letters() -> None:
    """Print ? for letters that the encoding of standard output lacks, such as 猫 in a pipe on Windows."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _discard_output() -> None:
    """Send what cannot be written to standard output nowhere, so that Python does not try again when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str) -> None:
    from percept.core.report import printable_lines  # imported here: a plain --help does not need rich

    print(printable_lines(message), file=sys.stderr)


def _explained(error: OSError) -> str:
    """Name the file and the reason; of a file that was being replaced, its own name, not that of the temporary file."""
    name = error.filename2 or error.filename
    if not isinstance(name, str | bytes):
        return f"the system refused: {error.strerror or error}"
    folder, file = os.path.split(os.fsdecode(name))
    file = re.sub(r"^\.(.+)\.\d+\.part$", r"\1", file)
    return f"{os.path.join(folder, file)} cannot be read or written: {error.strerror or error}"


def usage() -> str:
    """Return what `percept --help` prints."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {line}" for verb, (_, line) in VERBS.items()]
    return "\n".join(
        [
            "usage: percept VERB ...",
            "",
            "Perception encoders and language models: label, ask, embed, search, measure, train.",
            "",
            *lines,
            "",
            "percept VERB --help lists the options of a verb; percept --version prints the version.",
            "A first try:  percept classify IMAGES/ --labels cat,dog",
        ]
    )


def _run(verb: str, arguments: list[str]) -> int:
    if verb not in VERBS:
        raise unknown_name("verb", verb, VERBS)
    module = import_module(VERBS[verb][0])
    program = f"percept {verb}"
    if hasattr(module, "ARGUMENTS"):
        return module.ARGUMENTS(arguments) or 0
    import tyro

    if hasattr(module, "COMMANDS"):
        result = tyro.extras.subcommand_cli_from_dict(module.COMMANDS, prog=program, args=arguments)
    else:
        result = tyro.cli(module.COMMAND, prog=program, args=arguments)
    return result or 0
