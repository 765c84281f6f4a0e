"""`percept list`: models with their sizes and capabilities, and recipes."""

from pathlib import Path
from typing import TYPE_CHECKING

from percept.cli.output import check_rows_output, is_stdout, save_rows
from percept.cli.show import say
from percept.core.report import table

if TYPE_CHECKING:
    from percept.models.clip import CLIP
    from percept.models.language import VLMConfig
    from percept.models.zoo import AssistantEntry, Entry

COLUMNS = ("model", "size", "image", "vector", "text", "weights")

LEGEND = (
    "size: number of parameters; image: side and patch in pixels; vector: its length, or tokens for a model without one; "
    "text: longest text in tokens; weights: packaged with percept, in the cache, or fetched from the hub (facebook/NAME) "
    "on first use"
)

ASSISTANT_COLUMNS = ("model", "size", "tile", "tokens", "context", "licence", "weights")
ASSISTANT_LEGEND = (
    "tile: side in pixels of a tile or frame, and its tokens; context: most tokens of images, question and answer together; "
    "open them with percept.assistant"
)


FIELDS = {
    "kind": str, "name": str, "size": str, "image": str, "vector": str, "text": str, "tile": str, "tokens": str, "context": str,
    "licence": str, "weights": str, "where": str,
}  # fmt: skip
"""Of a row of --out: kind is model, assistant or recipe; the others are the columns of the tables, null where a kind lacks them."""


def list_all(out: Path | None = None) -> None:
    """List the models that `percept.load` and `percept.assistant` know and the recipes that `percept train` runs.

    Args:
        out: File for the rows, ending in .csv, .json, .jsonl or .parquet; - for json lines on standard output.
    """
    from percept.models import zoo
    from percept.recipes import RECIPES

    check_rows_output(out)
    models = [_row(name, entry) for name, entry in zoo.ZOO.items()]
    assistants = [_assistant_row(name, entry) for name, entry in zoo.ASSISTANTS.items()]
    if not is_stdout(out):
        table("Models", COLUMNS, models)
        say(LEGEND)
        table("Assistants", ASSISTANT_COLUMNS, assistants)
        say(ASSISTANT_LEGEND)
        table("Recipes", ("recipe", "where"), RECIPES.items())
    rows = [{"kind": "model", "name": row[0], **dict(zip(COLUMNS[1:], row[1:], strict=True))} for row in models]
    rows += [
        {"kind": "assistant", "name": row[0], **dict(zip(ASSISTANT_COLUMNS[1:], row[1:], strict=True))}
        for row in assistants
    ]
    rows += [{"kind": "recipe", "name": name, "where": where} for name, where in RECIPES.items()]
    save_rows(out, rows, FIELDS)


def _assistant_row(name: str, entry: "AssistantEntry") -> tuple[str, ...]:
    if entry.config is not None:
        licence = "research only" if entry.licence else "open"
        return _describe_assistant(name, entry.config, licence, _place(entry.repository or "", "config.json"))
    from percept.core.errors import PerceptError
    from percept.models.language import VLMConfig
    from percept.weights.assistant import locate_assistant, read_assistant

    try:
        config = read_assistant(locate_assistant(name)).record.config
    except PerceptError:
        return (name, *["?"] * (len(ASSISTANT_COLUMNS) - 2), "missing")
    assert isinstance(config, VLMConfig)
    return _describe_assistant(name, config, "open", "packaged")


def _describe_assistant(name: str, config: "VLMConfig", licence: str, place: str) -> tuple[str, ...]:
    from percept.weights.layouts.plm import build_empty

    return (
        name,
        short(sum(parameter.numel() for parameter in build_empty(config, name).parameters())),
        f"{config.vision.image_size} px",
        str(config.tile_tokens),
        str(config.decoder.context),
        licence,
        place,
    )


def _row(name: str, entry: "Entry") -> tuple[str, ...]:
    import torch

    from percept.core.errors import PerceptError
    from percept.infer.load import open_packaged
    from percept.models.clip import CLIP

    if entry.config is not None:
        with torch.device("meta"):
            return _describe(name, CLIP(entry.config), _place(entry.repository or "", f"{name}.pt"))
    try:
        return _describe(name, open_packaged(name).model, "packaged")
    except PerceptError:
        return (name, *["?"] * (len(COLUMNS) - 2), "missing")


def _describe(name: str, model: "CLIP", place: str) -> tuple[str, ...]:
    vision, text = model.config.vision, model.config.text
    return (
        name,
        short(sum(parameter.numel() for parameter in model.parameters())),
        f"{vision.image_size}/{vision.patch_size} px",
        "tokens" if vision.pool == "none" else str(vision.output_dim or vision.width),
        "no" if text is None else str(text.context),
        place,
    )


def short(number: int) -> str:
    """Return a number of parameters in millions or billions.

    >>> short(6_140_544), short(2_419_266_561)
    ('6.1 M', '2.42 G')
    """
    return f"{number / 1e9:.2f} G" if number >= 1e9 else f"{number / 1e6:.1f} M"


def _place(repository: str, file: str) -> str:
    from huggingface_hub import try_to_load_from_cache

    cached = isinstance(try_to_load_from_cache(repository, file), str)
    return "cache" if cached else "hub"


COMMAND = list_all
