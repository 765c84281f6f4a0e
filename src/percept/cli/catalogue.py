"""`percept list`: models with their sizes and capabilities, and recipes."""

from typing import TYPE_CHECKING

from percept.cli.show import say
from percept.core.report import table

if TYPE_CHECKING:
    from percept.models.clip import CLIP
    from percept.models.zoo import Entry

COLUMNS = ("model", "size", "image", "vector", "text", "weights")

LEGEND = (
    "size: number of parameters; image: side and patch in pixels; vector: its length, or tokens for a model without one; "
    "text: longest text in tokens; weights: packaged with percept, in the cache, or fetched from the hub (facebook/NAME) "
    "on first use"
)


def list_all() -> None:
    """List the models that `percept.load` knows and the recipes that `percept train` runs."""
    from percept.models import zoo
    from percept.recipes import RECIPES

    table("Models", COLUMNS, [_row(name, entry) for name, entry in zoo.ZOO.items()])
    say(LEGEND)
    table("Recipes", ("recipe", "where"), RECIPES.items())


def _row(name: str, entry: "Entry") -> tuple[str, ...]:
    import torch

    from percept.core.errors import PerceptError
    from percept.infer.load import open_packaged
    from percept.models.clip import CLIP

    if entry.config is not None:
        with torch.device("meta"):
            return _describe(name, CLIP(entry.config), _place(name, entry.repository or ""))
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


def _place(name: str, repository: str) -> str:
    from huggingface_hub import try_to_load_from_cache

    cached = isinstance(try_to_load_from_cache(repository, f"{name}.pt"), str)
    return "cache" if cached else "hub"


COMMAND = list_all
