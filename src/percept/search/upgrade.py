"""Changing the model of an index without encoding it again first.

A map from the space of the new model to that of the old one is learned from texts, which both models embed, and from a sample of images,
whose old vectors the index has. From then on queries of the new model search old vectors through the map; `percept.search.again` replaces
old vectors one by one. Scores of the old space are put on the scale of the new one by images that both models have seen
(`percept.search.bridge`). Neither model is modified.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.report import notice, track
from percept.data.files import BadFile
from percept.infer.contracts import Embeds
from percept.models.clip import unit
from percept.nn.across import MapAcross
from percept.search.again import read_again
from percept.search.bridge import Bridge
from percept.search.contracts import ImageEncoder, Stamp, stamp_of
from percept.search.measured import Measured, Seen, measured
from percept.search.scan import rows_of, vectors_of
from percept.search.store import Store
from percept.world import long_caption, names_caption, sample_scene, short_caption

Group = tuple[Float[Tensor, "_n d"], Float[Tensor, "_n e"]]
"""Vectors of the new and of the old model, of the same texts or images."""
Learn = Callable[[Sequence[Group]], MapAcross]
"""Learns a map from the first to the second vectors, for example `percept.methods.compatibility.xbt.learned`."""
TEXTS, IMAGES = 4000, 400
"""Default numbers of texts and of images."""
LEAST = 16
"""Fewest images that both models have to see: half of them calibrate scores and are measured."""
HELD_TEXTS = 0.1
"""Share of the texts that are queries of the report and do not take part in learning."""
MOST_QUERIES = 500
AT_ONCE = 256
"""Texts that are embedded together."""


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """What an upgrade did."""

    texts: int
    """Texts from which the map was learned; 0 if the old model could not be loaded."""
    images: int
    """Images from which it was learned."""
    measured: Measured
    """On further images and texts."""
    unread: tuple[BadFile, ...]
    """Files of the sample that could not be read."""


def upgrade(
    store: Store,
    encoder: ImageEncoder,
    learn: Learn,
    *,
    old: Embeds | None,
    texts: Sequence[str],
    images: int = IMAGES,
    stamp: Stamp | None = None,
    folders: bool = False,
    seed: int = 0,
) -> Upgrade:
    """Make a different model the one of an index: it is searched with the new model at once, and nothing is encoded again but a sample.

    Args:
        store: the index.
        encoder: the new model.
        learn: learns the map.
        old: the model of the index, for its vectors of texts; the map is learned from images alone if None.
        texts: different texts such as queries; a tenth of them is used for the report.
        images: images and videos of the index that the new model encodes for the map, the calibration and the report.
        stamp: how to load the new model again; default: by its name.
        folders: the folder of a file is its label, and the report says how often the nearest images have the same.
        seed: of the sample.

    Raises:
        PerceptError: the new model is the present one, an earlier upgrade has not ended, or too few files can be read.
    """
    stamp = stamp or stamp_of(encoder)
    check_upgrade(store, stamp)
    if old is not None:
        store.check(old)  # pyright: ignore[reportArgumentType] - only its identity is compared
    unread: list[BadFile] = []
    seen = _sampled(store, encoder, images, unread, seed)
    learned, held = _halves(len(seen.new), seed)
    texts, queries = _divided(texts, seed)
    then = torch.zeros(0, store.stamp.dim) if old is None else embedded(old, [*texts, *queries])
    now = embedded(encoder, [*texts, *queries])
    groups = [(torch.from_numpy(seen.new[learned]), torch.from_numpy(seen.old[learned]))]
    if old is not None:
        groups.insert(0, (now[: len(texts)], then[: len(texts)]))
    bridge = Bridge(map=learn(groups), new=seen.new[held], old=seen.old[held])
    report = measured(
        seen.take(held), bridge, now[len(texts) :], then[len(texts) :] if len(then) else None, folders=folders
    )
    store.switch(stamp, bridge.data())
    return Upgrade(
        texts=len(texts) if old is not None else 0, images=len(learned), measured=report, unread=tuple(unread)
    )


def check_upgrade(store: Store, stamp: Stamp) -> None:
    """Refuse a model to which an index cannot be upgraded.

    Raises:
        PerceptError: it is the present one, an earlier upgrade has not ended, or the index is empty.
    """
    if store.stamp.agrees(stamp):
        raise PerceptError(f"the index {store.folder} belongs to {stamp.name} already. Give a different model.")
    store.finish()
    if store.old() is not None:
        raise PerceptError(
            f"the index {store.folder} is still being upgraded to {store.stamp.name}. Run percept index to end that first."
        )
    if not len(store):
        raise PerceptError(f"the index {store.folder} is empty. Index with the new model instead.")


def _halves(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to learn from and the rows to hold out, drawn at random."""
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


def _divided(texts: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    several = list(dict.fromkeys(text.strip() for text in texts if any(letter.isalnum() for letter in text)))
    if len(several) < LEAST:
        raise PerceptError(f"{len(several)} different texts are too few. Give at least {LEAST}, better thousands.")
    random.Random(seed).shuffle(several)
    held = min(MOST_QUERIES, max(4, round(HELD_TEXTS * len(several))))
    return several[held:], several[:held]


def embedded(model: Embeds, texts: Sequence[str]) -> Float[Tensor, "n d"]:
    """Return unit vectors of texts, computed in parts."""
    parts = [texts[first : first + AT_ONCE] for first in range(0, len(texts), AT_ONCE)]
    name = f"texts of {model.identity.name}"
    return torch.cat([unit(model.text(list(part)).cpu()) for part in track(parts, name, len(parts))])


def _sampled(store: Store, encoder: ImageEncoder, count: int, unread: list[BadFile], seed: int) -> Seen:
    """Return images, and spans of videos if there are too few images, as both models see them."""
    rng = np.random.default_rng(seed)
    ids: list[int] = []
    new: list[np.ndarray] = []
    for kind in ("image", "video"):
        contents = rng.permutation(store.contents(kind)).tolist()
        for first in range(0, len(contents), count):
            part = contents[first : first + count - len(ids)]
            if len(ids) >= count or first >= 4 * count:
                break
            _read(store, encoder, part, ids, new, unread)
    if len(ids) < LEAST:
        raise PerceptError(
            f"only {len(ids)} images of the index {store.folder} can be read, and {LEAST} are needed to compare the models. "
            "Make its files available, or index again with --index OTHER."
        )
    vectors = np.stack(new)
    order = np.argsort(ids)
    rows = rows_of(store.segments(), np.array(ids, np.int64))
    pieces = {piece.id: piece for piece in store.pieces(rows.ids)}
    kept = order[np.isin(np.array(ids)[order], rows.ids)]
    labels = [str(pieces[ids[place]].paths[0].parent) for place in kept.tolist()]
    return Seen(new=vectors[kept], old=vectors_of(store.segments(), rows), labels=np.array(labels))


def _read(
    store: Store,
    encoder: ImageEncoder,
    contents: list[int],
    ids: list[int],
    new: list[np.ndarray],
    unread: list[BadFile],
) -> None:
    """Encode contents by the new model, and add the pieces of the index that they are."""
    pieces = {(piece.hash, piece.start, piece.stop): piece.id for piece in store.pieces_of(contents)}
    for batch in read_again(store, encoder, contents, unread):
        for content in batch:
            for span, vector in zip(content.spans, content.vectors, strict=True):
                start, stop = span or (None, None)
                id_ = pieces.get((content.hash, start, stop))
                if id_ is not None:
                    ids.append(id_)
                    new.append(vector)


def usual_texts(store: Store, count: int = TEXTS, *, seed: int = 0) -> list[str]:
    """Return texts to learn a map from: captions of the world, and words of the names of files, at most half of all."""
    names = dict.fromkeys(
        words for path in islice(store.paths(), 20 * count) if (words := _words(path.parent.name, path.stem))
    )
    named = random.Random(seed).sample(list(names), min(count // 2, len(names)))
    rng, texts = random.Random(seed), dict.fromkeys(named)
    write = (names_caption, short_caption, long_caption)
    number = 0
    while len(texts) < count and number < 20 * count:
        texts[write[number % 3](sample_scene(number, split="train", style="mixed"), rng)] = None
        number += 1
    return list(texts)


def _words(*names: str) -> str:
    """Return the words in names of files and folders.

    >>> _words("Holiday-2024", "red_cup 03")
    'holiday red cup'
    """
    return " ".join(word.lower() for name in names for word in re.findall(r"[^\W\d_]{3,}", name))


def load_old(load: Callable[[], ImageEncoder]) -> ImageEncoder | None:
    """Load the old model; None, with a notice, if it cannot be loaded."""
    try:
        return load()
    except PerceptError as error:
        notice(f"the model of the index cannot be loaded, so the map is learned from images alone: {error}")
        return None
