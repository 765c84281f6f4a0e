"""`percept curate`: remove and repair rows of images with captions, step by step."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import tyro

from percept.cli.options import DEFAULT_MODEL, MODEL, ModelOptions
from percept.cli.show import count, say, split_labels
from percept.core.errors import PerceptError
from percept.core.report import notice

if TYPE_CHECKING:
    from percept.data.curate.step import Step, Tools

DEFAULT_STEPS = "texts,near-texts,balance"

Paths: TypeAlias = tyro.conf.Positional[Path]


def curate(
    source: Paths,
    out: Path,
    steps: str = DEFAULT_STEPS,
    config: Path | None = None,
    words: tuple[Path, ...] = (),
    key: str | None = None,
    text: str | None = None,
    image: str | None = None,
    format: Literal["parquet", "jsonl"] = "parquet",
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    labels: str | None = None,
    model: Annotated[ModelOptions, tyro.conf.arg(name="")] = MODEL,
) -> int:
    """Curate rows of images with captions: filter texts, remove duplicates, score, balance, reduce.

    An interrupted run continues with the same command. Equal input gives equal bytes. OUT gets rows-00000.parquet and so on,
    report.json, report.html and curation.json; if no row remains, the exit code is 2. The steps are texts, image-sizes, exact-images, exact-texts, near-images,
    near-texts, score, balance, tldr, realsyn, label-visualness and visualness; docs/curation.md describes them and lists all settings
    and defaults: score, tldr and visualness, for example, remove the half that scores lower unless a threshold or top is given.

    Args:
        source: File or folder of .jsonl, .csv, .tsv, .parquet, .arrow or .tar with captions and, if images are used, images; or a
            folder of images with .txt or .json files of the same names.
        out: Folder of the result, new or empty, or that of an interrupted run.
        steps: Steps in order, separated by commas.
        config: Json file of settings: step name to an object of its settings.
        words: Word lists of the step balance, one entry on a line. Default: counted in the captions.
        key: Column with a unique name of each row. Default: key, id, ... or the row's number.
        text: Column with a caption or a list of captions. Default: caption, text, ...
        image: Column with the path or bytes of the image. Default: image, path, ...
        format: Format of the rows.
        engine: local: processes on this machine; ray: Ray Data, where all workers share the folder OUT.
        workers: Number of processes. Default: one per core.
        labels: Names of things for the step realsyn, cat,dog or @FILE: what an image shows is named among them.
        model: The encoder of the steps score, realsyn, tldr and visualness, and of near-images with a cosine.
    """
    from percept.core.io import read_json
    from percept.data.curate.pipeline import Curation
    from percept.data.curate.step import make_steps
    from percept.data.curate.tables import Columns

    settings: Any = {} if config is None else read_json(config)
    names = [name.strip() for name in steps.split(",") if name.strip()]
    settings = _with_words(settings, names, words)
    chosen = make_steps(names, settings, config or "the settings")
    curation = Curation(
        source=source,
        out=out,
        steps=chosen,
        columns=Columns(key=key, text=text, image=image),
        format=format,
        tools=_tools(chosen, model, labels),
        engine=engine,
        workers=workers,
    )
    report = curation.run()
    _show(report, out)
    if report["rows kept"]:
        return 0
    last = report["steps"][-1]["step"]
    raise PerceptError(
        f"no row remains: step {last} removed the last ones. Read {out / 'report.html'}, then change the steps or "
        "their settings with --config and give a new folder."
    )


def _show(report: "Mapping[str, Any]", out: Path) -> None:
    from percept.core.report import table

    rows = [("read", report["rows in the source"], report["rows read"])]
    rows += [(one["step"], one["rows before"], one["rows after"]) for one in report["steps"]]
    table(f"{count(report['rows kept'], 'row')} in {out}", ("step", "rows before", "rows after"), rows)
    say(f"report: {out / 'report.html'}")


def _with_words(settings: Any, names: list[str], words: tuple[Path, ...]) -> Any:
    """Add the word lists to the settings of the step balance."""
    if not words:
        return settings
    if "balance" not in names:
        raise PerceptError(
            "--words are for the step balance, which is not among the steps. Add it, or leave out --words."
        )
    balance = settings.get("balance", {}) if isinstance(settings, Mapping) else {}
    return {**settings, "balance": {**balance, "words": list(map(str, words))}}


def _tools(steps: "Mapping[str, Step]", model: ModelOptions, labels: str | None) -> "Tools":
    """Open the encoder if a step needs it."""
    from percept.data.curate.step import Tools

    needed = {need for step in steps.values() for need in step.needs}
    if not needed:
        return Tools()
    encoder = model.open()
    if "visualness" in steps and model.weights is None and not Path(model.model or DEFAULT_MODEL).exists():
        notice(
            f"the step visualness needs an encoder tuned for it, and {model.model or DEFAULT_MODEL} is a general one: its choice "
            "of captions can be close to chance. docs/curation.md describes the tuning."
        )
    say(f"{encoder} measures images and texts")
    names = split_labels(labels) if labels is not None else []
    identity = encoder.identity
    return Tools(
        name=f"{model.model or DEFAULT_MODEL} {identity.image} {identity.text} {','.join(names)}".strip(),
        dim=encoder.dim,
        images=encoder.image,
        texts=encoder.text,
        fuse=_tagger(encoder, names) if names else None,
    )


def _tagger(encoder: Any, names: list[str]) -> Any:
    from percept.data.curate.realsyn import Tagger

    return Tagger(encoder.image, encoder.text, names)


COMMAND = curate
