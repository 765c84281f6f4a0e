"""`percept index upgrade`: change the model of an index, which can be searched at once and is encoded again bit by bit."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from percept.cli.index import DEFAULT, load_for, show_again
from percept.cli.options import LOAD, Load, LoadOptions, ModelOptions
from percept.cli.show import bad_files, count, say
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder
    from percept.search.contracts import Stamp
    from percept.search.measured import Measured
    from percept.search.store import Store

ROWS = {
    "texts": "text queries, as after encoding everything again",
    "images": "image queries, as after encoding everything again",
    "folders": "image queries, in the same folder",
}
WAYS = {"before": "before", "bridged": "through the map", "half": "half encoded again", "after": "all encoded again"}


def upgrade(
    to: str,
    texts: str | None = None,
    images: int = 400,
    folders: bool = False,
    limit: int | None = None,
    index: Path = DEFAULT,
    load: Load = LOAD,
) -> int:
    """Change the model of an index. It is searched with the new model at once; its files are encoded again bit by bit.

    A map from the new model's vectors to those of the old model is learned from texts and from a sample of images. Queries search
    old vectors through it until they are replaced, which begins at once, can be interrupted at any time, and continues
    with `percept index`. Both kinds of scores are put on one scale. The new model itself is not changed.

    Args:
        to: The new model: name, folder, weight file or hf://OWNER/NAME.
        texts: @FILE with texts like the queries, one per line (@- reads standard input). Default: captions of the generated world
            and the words in the names of the files.
        images: Images that are encoded for the map, for the scale of scores, and for the report.
        folders: Report also how often the nearest images are in the same folder; for folders that are classes.
        limit: Most images and videos that are encoded again now; 0 for none. Default: all.
        index: Folder of the index.
    """
    from percept.search.again import encode_again
    from percept.search.store import Store

    if images < 16:
        raise PerceptError(f"--images must be at least 16, got {images}. The default is 400.")
    if limit is not None and limit < 0:
        raise PerceptError(f"--limit must be at least 0, got {limit}. Leave it out to encode everything again.")
    with Store(index) as store:
        given = None if texts is None else split_texts(texts)
        try:
            encoder, stamp = load_for(None, new_model(to, load))
            if store.stamp.agrees(stamp) and store.old() is not None:
                say(f"{index} is being upgraded to {stamp.name} already; that is continued")
            else:
                _switch(store, encoder, stamp, texts=given, images=images, folders=folders)
            if limit != 0:
                show_again(encode_again(store, encoder, limit=limit), store)
        except KeyboardInterrupt:
            say(_stopped(store))
            raise
    return 0


def _stopped(store: "Store") -> str:
    """Return the state of an index whose upgrade was interrupted."""
    if store.old() is None:
        return f"stopped; {store.folder} belongs to {store.stamp.name}, and no upgrade is under way"
    return (
        f"stopped; {store.folder} is searched with {store.stamp.name}, and {store.remaining():,} images and videos are still "
        "searched through the map; percept index continues from there"
    )


def split_texts(given: str) -> list[str]:
    """Return the lines of a file given as @FILE.

    Raises:
        PerceptError: it is not given as @FILE, or cannot be read.
    """
    from percept.cli.show import split_labels

    if not given.startswith("@"):
        raise PerceptError(f"--texts takes @FILE with one text per line, got {given!r}.")
    return split_labels(given)


def new_model(to: str, load: LoadOptions) -> ModelOptions:
    """Return the options that load the new model."""
    return ModelOptions(model=to, **{field.name: getattr(load, field.name) for field in fields(LoadOptions)})


def _switch(
    store: "Store", encoder: "Encoder", stamp: "Stamp", *, texts: list[str] | None, images: int, folders: bool
) -> None:
    from percept.methods.compatibility.xbt import learned
    from percept.search.upgrade import check_upgrade, load_old, upgrade, usual_texts

    before = store.stamp
    check_upgrade(store, stamp)  # before another model is loaded
    old = load_old(lambda: _former(before))
    result = upgrade(
        store, encoder, learned, old=old, texts=usual_texts(store) if texts is None else texts, images=images, stamp=stamp,
        folders=folders,
    )  # fmt: skip
    new, former = (f"{each.name}{f' ({each.image[:8]})' * (stamp.name == before.name)}" for each in (stamp, before))
    say(f"{store.folder} is searched with {new} from now on; the map from {former} was learned from "
        f"{count(result.texts, 'text')} and {count(result.images, 'image')}")  # fmt: skip
    _show(result.measured)
    bad_files(result.unread)


def _former(stamp: "Stamp") -> "Encoder":
    """Load the model of an index.

    Raises:
        PerceptError: it cannot be loaded, or its name stands for different weights now.
    """
    from percept.search.contracts import stamp_of
    from percept.search.reload import load_stamped

    encoder = load_stamped(stamp)
    if not stamp.agrees(stamp_of(encoder)):
        raise PerceptError(f"{stamp.source} has different weights now.")
    return encoder


def _show(measured: "Measured") -> None:
    rows = [(ROWS[kind], *(share(values.get(way)) for way in WAYS)) for kind, values in measured.recall.items()]
    title = f"Share of the best {measured.top} that is found, among {measured.images} images"
    table(title, ("queries", *WAYS.values()), rows)


def share(value: float | None) -> str:
    """Return a share in percent; a dash for what was not measured."""
    return "–" if value is None else f"{value:.1%}"
