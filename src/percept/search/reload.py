"""Loading the model of an index again, from what its stamp says, without fetching anything."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from percept.core.errors import PerceptError
from percept.search.contracts import Stamp, is_remote

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder


def load_stamped(stamp: Stamp) -> "Encoder":
    """Load the model that made an index, with its preprocessing.

    Raises:
        PerceptError: it is not on this machine any more.
    """
    from percept.infer.load import load

    with nothing_fetched(stamp):
        encoder = load(
            stamp.source,
            weights=stamp.weights,
            tokenizer=stamp.tokenizer,
            image_size=stamp.image_size,
            dtype=stamp.dtype,
        )
    return sized(encoder, stamp)


def sized(encoder: "Encoder", stamp: Stamp) -> "Encoder":
    """Return an encoder that resizes images as those of an index were."""
    now, then = encoder.preprocess, stamp.preprocess
    if (now.resize, now.tokens) == (then.resize, then.tokens):
        return encoder
    return encoder.resizing(then.resize, tokens=then.tokens)


@contextmanager
def nothing_fetched(stamp: Stamp | None) -> Iterator[None]:
    """Keep percept off the network while the model that an index names is loaded: the index may come from anybody.

    Raises:
        PerceptError: the model is not on this machine.
    """
    if stamp is None or not is_remote(stamp.source):
        yield
        return
    import huggingface_hub  # noqa: F401 - it reads the switch when it is imported, and must not keep it

    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    except PerceptError as error:
        if before is not None or "HF_HUB_OFFLINE" not in str(error):
            raise
        raise PerceptError(
            f"the index was made with {stamp.source}, which is not on this machine, and an index alone never makes "
            f"percept fetch a model. If you trust that address, add {stamp.options}"
        ) from None
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before
