"""`percept data check`: summarise training data and list its faults."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from percept.cli.output import check_own_output, is_stdout, save_rows
from percept.cli.show import check_output, say, writing
from percept.core.errors import PerceptError

if TYPE_CHECKING:
    from percept.data.tokenizers import Tokenizer

TOO_MANY = 1
"""Exit code where there are more bad rows than allowed."""
FIELDS = {"reason": str, "rows": int, "share": float, "example": str}
"""Of a row of --out: why rows cannot be used, their number, share of the rows that were checked, and the key of one."""


def check(
    source: tyro.conf.Positional[tuple[str, ...]],
    out: Path | None = None,
    captions: tuple[str, ...] = (),
    image: str | None = None,
    video: str | None = None,
    root: Path | None = None,
    tokenizer: Path | None = None,
    context: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    workers: int = 0,
    max_bad: float = 1.0,
    log: Path | None = None,
) -> int:
    """Read every row once, decode its images, and report what cannot be used, sizes, caption lengths, classes and duplicates.

    The exit code is 1 if more rows are bad than --max-bad allows.

    Args:
        source: Files, folders or patterns that percept.data.open_source reads: images, .csv, .tsv, .jsonl, .json, .parquet, .arrow, .tar.
        out: File for the report, ending in .json, with a page with plots of the same name, ending in .html; or for a row per reason,
            ending in .csv, .jsonl or .parquet; - for these as json lines on standard output.
        captions: Field of the caption, or several of which one is drawn for each row. Default: the first usual one.
        image: Field of images, if it has an unusual name.
        video: Field of videos, if it has an unusual name.
        root: Folder from which paths in tables start. Default: that of the table.
        tokenizer: tokenizer.json, or CLIP's merges.txt, that counts the tokens of captions. Default: that of nano.
        context: Tokens that the model takes at most. Default: as the tokenizer says.
        sample: Number of rows to check, drawn at random. Default: all.
        seed: Of that draw.
        workers: Processes that read rows; 0 for this one alone.
        max_bad: Share of bad rows, from 0 to 1, above which the exit code is 1.
        log: Json lines file that gets key, reason and detail of every bad row.
    """
    from percept.core.io import write_json
    from percept.data.check import check_source
    from percept.data.check.page import write_page

    if not source:
        raise PerceptError(
            "nothing to check was given. Give files, folders or patterns such as 'shards/{000..127}.tar'."
        )
    if not 0 <= max_bad <= 1:
        raise PerceptError(f"--max-bad must be a share from 0 to 1, got {max_bad}.")
    whole = check_own_output(out, ".json", ".html")
    check_output(log, ".jsonl")
    if log is not None:
        log.unlink(missing_ok=True)
    found = check_source(
        list(source),
        captions=captions or None,
        image=image,
        video=video,
        root=root,
        tokenizer=_tokenizer(tokenizer, context),
        sample=sample,
        seed=seed,
        workers=workers,
        log=log,
    )
    if not is_stdout(out):
        _show(found.report)
    if not whole:
        save_rows(out, _rows(found.report), FIELDS, facts={"source": found.report["source"]})
    elif out is not None:
        with writing(out):
            write_json(out, found.report)
            write_page(out.with_suffix(".html"), found)
        say(f"wrote {out} and {out.with_suffix('.html')}")
    return TOO_MANY if found.share_bad > max_bad else 0


def _rows(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for reason, found in report["reasons"].items():
        share = found["count"] / max(1, report["checked"])
        yield {"reason": reason, "rows": found["count"], "share": share, "example": str(found["examples"][0]["key"])}


def _tokenizer(file: Path | None, context: int | None) -> "Tokenizer":
    from percept.data.clip_vocabulary import read_vocabulary
    from percept.data.tokenizers import Tokenizer
    from percept.weights.locate import PACKAGED

    if file is None:
        return Tokenizer.load(PACKAGED / "nano" / "tokenizer.json", context=context)
    if context is None and file.suffix in (".txt", ".gz"):
        raise PerceptError(f"{file} does not say how long a text may be. Give --context, the model's text length.")
    return Tokenizer.load(file) if context is None else read_vocabulary(file, context=context)


def _show(report: Mapping[str, Any]) -> None:
    """Print the report as tables."""
    from percept.core.report import table

    title = f"{report['source']}: {report['checked']:,} of {report['rows']:,} rows checked in {report['seconds']} s"
    bad = [(reason, found["count"], found["examples"][0]["key"]) for reason, found in report["reasons"].items()]
    table(
        title,
        ("cannot be used", "rows", "such as"),
        [*bad, ("all together", report["bad"], f"{report['share bad']:.2%}")],
    )
    columns = ("least", "5 %", "median", "95 %", "largest")
    measured = [
        (f"{section}: {name}", *(f"{values[column]:g}" for column in columns))
        for section in ("media", "videos", "captions", "conversations")
        for name, values in report.get(section, {}).items()
        if isinstance(values, dict) and "median" in values
    ]
    if measured:
        table("sizes and lengths", ("what", *columns), measured)
    facts = _facts(report)
    if facts:
        table("to look at", ("what", "rows"), facts)


def _facts(report: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Return what needs a decision: cut captions, duplicates, classes of unequal size."""
    captions, classes = report.get("captions", {}), report.get("classes", {})
    facts: list[tuple[str, object]] = []
    if "context" in captions:
        facts.append((f"captions longer than {captions['context']} tokens", captions["longer than the context"]))
    if "media" in report:
        facts.append(("blank images", report["media"]["blank"]))
    facts += [
        (f"{name}, after the first", found["rows after the first"])
        for name, found in report.get("duplicates", {}).items()
    ]
    facts += [(remark, found["count"]) for remark, found in report.get("conversations", {}).get("remarks", {}).items()]
    if classes:
        facts.append((f"largest of {classes['count']} classes / smallest", classes["largest / smallest"]))
    return facts


COMMANDS: dict[str, Callable[..., int]] = {"check": check}
