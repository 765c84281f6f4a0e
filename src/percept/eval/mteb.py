"""Our encoders as models of mteb, the massive text embedding benchmark, which also has tasks for images.

`register` makes a model known by name, so that `mteb.get_model` and mteb's command find it; `MtebEncoder` wraps an encoder that is open
already. mteb is not a dependency of this package; benchmarks/mteb_local has a script that makes an environment for it.

Checked with mteb 2.26.24.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.infer.contracts import Embeds

OWNER = "percept"
KINDS = ("image", "text")


class MtebEncoder:
    """An encoder in mteb's `EncoderProtocol`."""

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        *,
        model: str | Embeds | None = None,
        device: str | None = None,
        **options: Any,
    ) -> None:
        """Open a model, or wrap one.

        Args:
            model_name: as registered, or anything `percept.load` takes.
            revision: refused if it is not that of the model, so that results of different weights are not mixed.
            model: an open encoder, or what to open in place of `model_name`.
            device: as `percept.load`.
            options: of `percept.load`; those that mteb adds for other libraries are not accepted.

        Raises:
            PerceptError: the model cannot be opened, has no text tower, or has another revision.
        """
        self.encoder = _opened(model if model is not None else model_name.removeprefix(f"{OWNER}/"), device, options)
        found = revision_of(self.encoder)
        if revision not in (None, found):
            raise PerceptError(f"{model_name} has revision {found}, not {revision}. Register the model again.")
        self.mteb_model_meta = metadata(self.encoder, model_name)

    def encode(self, inputs: Iterable[Mapping[str, Any]], *, prompt_type: Any = None, **_: Any) -> Float[Tensor, "n d"]:
        """Return unit vectors of batches with the columns image, text, or both; both are added, as mteb's own CLIP models do.

        Args:
            inputs: batches; only one is held at a time.
            prompt_type: query or document; no effect, our models have no prompts.

        Raises:
            PerceptError: a batch with neither column.
        """
        vectors = [self._vectors(batch) for batch in inputs]
        return torch.cat(vectors) if vectors else torch.zeros(0, self.encoder.identity.dim)

    def _vectors(self, batch: Mapping[str, Any]) -> Float[Tensor, "b d"]:
        present = [kind for kind in KINDS if kind in batch]
        if not present:
            raise PerceptError(
                f"the task has {', '.join(batch)}, but the model takes image and text. Choose another task."
            )
        embed = {"image": self.encoder.image, "text": self.encoder.text}
        return F.normalize(torch.stack([embed[kind](list(batch[kind])).float() for kind in present]).sum(0), dim=-1)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Float[Tensor, "n m"]:
        """Return the cosines of all pairs."""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Float[Tensor, " n"]:
        """Return the cosines of corresponding pairs."""
        return torch.linalg.vecdot(_unit(embeddings1), _unit(embeddings2))


def register(model: str, **options: Any) -> str:
    """Make a model known to mteb and return its name there, such as percept/nano.

    The revision is the identity of the vectors, so that mteb's cache never gives results of other weights.

    Args:
        model: anything `percept.load` takes.
        options: of `percept.load`, as plain values.

    Raises:
        PerceptError: mteb is not installed, or the model cannot be opened or has no text tower.
    """
    registry = _mteb_models().model_implementations.MODEL_REGISTRY
    encoder = _opened(model, None, options)
    name = f"{OWNER}/{encoder.identity.name}"
    registry[name] = metadata(encoder, name).model_copy(
        update={"loader": MtebEncoder, "loader_kwargs": {"model": model, **options}}
    )
    return name


def revision_of(encoder: Embeds) -> str:
    """Return the identity of the image and text vectors."""
    return f"{encoder.identity.image[:16]}-{(encoder.identity.text or '')[:16]}"


def metadata(encoder: Any, name: str) -> Any:
    """Return mteb's description of a model.

    Raises:
        PerceptError: mteb is not installed.
    """
    tower: Any = getattr(encoder, "model", None)
    tensors: list[Tensor] = [] if tower is None else list(tower.parameters())
    text: Any = None if tower is None else tower.config.text
    known: dict[str, Any] = {
        "name": name if "/" in name else f"{OWNER}/{name}",
        "revision": revision_of(encoder),
        "modalities": list(KINDS),
        "embed_dim": encoder.identity.dim,
        "framework": ["PyTorch"],
        "languages": ["eng-Latn"],
        "n_parameters": sum(tensor.numel() for tensor in tensors) or None,
        "memory_usage_mb": sum(tensor.nbytes for tensor in tensors) / 2**20 or None,
        "max_tokens": None if text is None else text.context,
        "use_instructions": False,
    }
    models = _mteb_models()
    known["similarity_fn_name"] = models.model_meta.ScoringFunction.COSINE
    return models.ModelMeta.create_empty(known)


def _opened(model: "str | Embeds", device: str | None, options: Mapping[str, Any]) -> Any:
    if not isinstance(model, str):
        return model
    from percept.infer.load import load

    encoder = load(model, **{**options, **({} if device is None else {"device": device})})
    if encoder.identity.text is None:
        raise PerceptError(
            f"{model} has no text tower, which mteb's tasks for images need. Use a model such as 'nano'."
        )
    return encoder


def _unit(vectors: Any) -> Float[Tensor, "n d"]:
    return F.normalize(torch.atleast_2d(torch.as_tensor(vectors)).float(), dim=-1)


def _mteb_models() -> Any:
    try:
        import mteb.models  # pyright: ignore[reportMissingImports]
        import mteb.models.model_implementations  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise PerceptError(
            "mteb is not installed. Make an environment for it, for example with benchmarks/mteb_local/environment.sh."
        ) from None
    return mteb.models
