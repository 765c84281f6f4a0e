"""The opener: from a location to a model with its preprocessing and tokenizer.

Header and tensors are read (mapped into memory), renamed, resized if requested, compared with an empty model, cast and
assigned. Nothing is computed before the shapes have been compared, and nothing is loaded if they differ.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from percept.core.errors import PerceptError
from percept.core.io import reasons
from percept.core.report import notice
from percept.data.clip_vocabulary import find_vocabulary, read_vocabulary
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.weights import hub
from percept.weights.cast import cast, stored_type
from percept.weights.facts import read_facts
from percept.weights.files import again, read_tensors
from percept.weights.fingerprint import CLIP_VOCABULARY, hash_tensors, image_identity, text_identity, tokenizer_hash
from percept.weights.fit import check_fit
from percept.weights.layout import Header, Layout, State
from percept.weights.layouts import generic_stems, recognise
from percept.weights.layouts.percept import LAYOUT as OWN
from percept.weights.locate import Location, fetched, locate
from percept.weights.naming import plain_name
from percept.weights.released import find_released, fitting_name
from percept.weights.resize import sized_config, sized_state

MAX_SIZE = 64
"""Times the model's own image size above which the size in a preprocessing is refused."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A model that was opened."""

    name: str
    model: CLIP
    preprocess: Preprocess
    tokenizer: Tokenizer | None
    tokenizer_hash: str | None
    """`fingerprint.tokenizer_hash` of its tokenizer, also if the tokenizer itself is not available."""
    layout: str
    """Name of the layout in which the weights are stored."""
    hash_weights: Callable[[], Mapping[str, str]] = dict
    """Reads and hashes the weights as stored; see `weight_hashes`."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How the model was trained: command, seed, samples seen, seconds."""
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def weight_hashes(self) -> Mapping[str, str]:
        """{our name: hash} of every tensor as stored; computed when first used.

        Raises:
            PerceptError: the file has changed since the model was opened.
        """
        return self.hash_weights()

    @property
    def image_identity(self) -> str:
        """Hash of what decides image vectors, equal in all layouts; reads all weights when first used."""
        return image_identity(self.weight_hashes, self.model.config, self.preprocess)

    @property
    def text_identity(self) -> str:
        """Hash of what decides text vectors; reads all weights when first used."""
        return text_identity(self.weight_hashes, self.model.config, self.tokenizer_hash)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights under our names, still in their file, and what is recorded about their model."""

    name: str
    config: ClipConfig
    state: State
    layout: str
    file: Path
    preprocess: Preprocess
    header: Header
    spelled: Callable[[State], State]
    """Gives some of our tensors the names and shapes that they have in the file, for messages."""
    hash_weights: Callable[[], Mapping[str, str]]
    """Hashes the weights as stored."""

    def stored_type(self) -> torch.dtype:
        """Return the number type of the weights; for several the one that holds all of them, with a notice."""
        return stored_type(self.state, source=str(self.file))


def open_model(
    name: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    image_size: int | None = None,
) -> Opened:
    """Open a model, every tensor in the number type in which it is stored; `percept.load` describes the arguments.

    Raises:
        PerceptError: unknown name (the nearest is suggested), or weights that do not fit or cannot be fetched.
    """
    location = locate(name, weights, revision=revision)
    return build(*read_model(location, image_size=image_size), dtype=None)


def open_packaged(name: str) -> Opened:
    """Open a model that ships inside the package.

    Raises:
        PerceptError: this installation lacks its files.
    """
    return open_model(name)


def read_model(location: Location, *, image_size: int | None = None) -> tuple[Weights, Tokenizer | None]:
    """Return the weights at a location, fetched from the hub if necessary, and the tokenizer that belongs to them.

    Raises:
        PerceptError: see `open_model`.
    """
    online = location.kind == "hub"
    if online:
        location = fetched(location)
    if location.path is None or location.kind not in ("file", "folder"):
        content = {"export": "exported graphs", "method": "a trained method"}[location.kind]
        raise PerceptError(f"{location.source} holds {content}, not a model's weights; give the model it was made from")
    like = OWN.read_header(location.like) if location.like is not None else Header(config=location.config)
    weights = read_weights(
        location.path, config=like.config, name=location.name, preprocess=like.preprocess, image_size=image_size
    )
    places = [location.path.parent, *([] if location.like is None else [location.like.parent])]
    return weights, _tokenizer(places, weights.config, online=online)


def read_weights(
    file: Path,
    *,
    config: ClipConfig | None = None,
    name: str | None = None,
    preprocess: Preprocess | None = None,
    image_size: int | None = None,
) -> Weights:
    """Read a weight file in any known layout.

    Args:
        file: weight file or index.
        config: of the model that the weights are for; if None, as recorded, or of the released model with their shapes.
        name: of that model; if None, as recorded, or found with the configuration.
        preprocess: of that model, unless the file records its own.
        image_size: side in pixels to whose grid the positions are resized; as stored if None.

    Raises:
        PerceptError: there are no weights, the layout is unknown, or no configuration is known to fit.
    """
    stored = read_tensors(file)
    layout = recognise(stored, source=str(file))
    keys = set(stored)
    header = _header(file, layout)

    def spelled(some: State) -> State:
        return layout.spelled(some, keys)

    with reasons(file):
        state = layout.to_ours(stored)
    recorded, config = header.name, config or header.config
    if config is None:
        named = (_stem(file), file.parent.name)
        recorded, config = find_released(
            state, layout.name, file, spelled, named=named, any_size=image_size is not None
        )
    config = sized_config(_adapted(config, state, file), image_size)
    _check_layers(config, state, file)

    def ours(state: State) -> State:
        kept = _without_text(state) if config.text is None else state
        return kept if image_size is None else sized_state(config, kept)

    give = again(file, stored)
    chosen = header.preprocess or preprocess or Preprocess(size=config.vision.image_size)
    changes = dict(header.preprocess_changes) | ({} if image_size is None else {"size": image_size})
    return Weights(
        name=name or recorded or _stem(file), config=config, state=ours(state), layout=layout.name, file=file,
        preprocess=_bounded(replace(chosen, **changes), config, file), header=header, spelled=spelled,
        hash_weights=lambda: hash_tensors(ours(layout.to_ours(give()))),
    )  # fmt: skip


def build(weights: Weights, tokenizer: Tokenizer | None, *, dtype: torch.dtype | None) -> Opened:
    """Make the model, its weights in a number type, or each as stored if None; the weights are used up.

    Raises:
        PerceptError: listing what is missing, unexpected or of a different shape, or the logit scale is not a number.
    """
    source = str(weights.file)
    model = empty_model(weights.config, source)
    check_fit(model, weights.state, source=source, spelled=weights.spelled, hint=lambda: _hint(weights.state))
    scale = weights.state.get("log_scale")
    if scale is not None and not scale.isfinite().all():
        raise PerceptError(
            f"the logit scale in {source} is {float(scale)}; the file is damaged, fetch or write it again"
        )
    model.load_state_dict(cast(weights.state, dtype), assign=True)
    header = weights.header
    return Opened(
        name=weights.name, model=model.eval(), preprocess=weights.preprocess, tokenizer=tokenizer,
        tokenizer_hash=tokenizer_hash(tokenizer, weights.config.text, header.tokenizer_hash), layout=weights.layout,
        hash_weights=weights.hash_weights, provenance=header.provenance, metrics=header.metrics,
    )  # fmt: skip


def empty_model(config: ClipConfig, source: str) -> CLIP:
    """Return a model without values.

    Raises:
        PerceptError: there is no such model, because a size is beyond what a tensor can have.
    """
    try:
        with torch.device("meta"):
            return CLIP(config)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PerceptError(f"a model of the configuration for {source} cannot be built: {reason}") from None


def _check_layers(config: ClipConfig, state: State, file: Path) -> None:
    """Refuse a configuration with more blocks than the file has tensors.

    Raises:
        PerceptError: a tower has more blocks than tensors.
    """
    for name, tower in (("vision", config.vision), ("text", config.text)):
        count = sum(key.startswith(f"{name}.") for key in state)
        if tower is not None and tower.layers > max(count, 1):
            raise PerceptError(
                f"{file} does not fit its configuration: {tower.layers} {name} layers, but {count} tensors of that tower"
            )


def _header(file: Path, layout: Layout) -> Header:
    """Return what the weight file and the configuration files next to it record; the weight file comes first."""
    with reasons(file):
        facts, header = read_facts(file), layout.read_header(file)
    return replace(header, **{key: value for key, value in vars(facts).items() if value})


def _adapted(config: ClipConfig, state: State, file: Path) -> ClipConfig:
    """Return a configuration without text if the file has none, and with the bias that timm adds if the file has one."""
    if config.text is not None and not any(key.startswith("text.") for key in state):
        notice(f"{file} holds a vision tower only, so this model cannot read texts")
        config = replace(config, text=None)
    if "vision.projection_bias" in state and config.vision.output_dim is not None:
        config = replace(config, vision=replace(config.vision, output_bias=True))
    return config


def _without_text(state: State) -> State:
    return {key: value for key, value in state.items() if not key.startswith("text.") and key != "log_scale"}


def _bounded(preprocess: Preprocess, config: ClipConfig, file: Path) -> Preprocess:
    most = MAX_SIZE * config.vision.image_size
    if max(preprocess.shape) > most:
        raise PerceptError(
            f"the preprocessing of {file} asks for images of {max(preprocess.shape)} pixels; this model takes at most {most}"
        )
    return preprocess


def _hint(state: State) -> str:
    name = fitting_name(state)
    return "" if name is None else f"It has the shapes of {name}: give that name, or the file alone."


def _stem(file: Path) -> str:
    stem = file.name.partition(".")[0] if file.name.endswith(".json") else file.stem
    return plain_name(file.resolve().parent.name if stem in generic_stems() else stem)


def _tokenizer(places: list[Path], config: ClipConfig, *, online: bool) -> Tokenizer | None:
    """Return the tokenizer in the first folder that has one, or CLIP's for a model of its vocabulary."""
    if config.text is None:
        return None
    for place in places:
        file = place / "tokenizer.json"
        if file.is_file():
            return read_vocabulary(file, context=config.text.context)
        if os.path.lexists(file):
            raise PerceptError(f"{file} is not a regular file; remove it, or put a tokenizer there")
    if config.text.vocabulary != CLIP_VOCABULARY:
        return None
    file = find_vocabulary(places[0]) or hub.fetch_vocabulary(online=online)
    return None if file is None else read_vocabulary(file, context=config.text.context)
