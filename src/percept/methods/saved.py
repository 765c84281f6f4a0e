"""Trained methods as folders: the method's name, its configuration, its base model, and its own tensors only.

A method that can be saved trains something on a frozen base model (a prompt, an adapter). Besides what `percept.methods.INDEX`
asks of it, its class has
    base_parts: names of the child modules that come from the base model, such as ("clip",);
    from_base(config, model): builds it on an opened base model, with weights that do not matter;
    class_logits(image), if it classifies: logits [b, c] of preprocessed images;
    find(pixels, tokens), if it finds moments: spans of a text in the frames of a video, see `percept.infer.localizer`.
A method that classifies among classes with names has `names` and `template`, which are stored too, and in place of `from_base`
    from_encoder(config, encoder, names, template): builds it on an opened encoder, whose tokenizer reads the names.

Whatever else it needs besides its configuration and its base model, such as the token ids of class names, is a buffer of the
right shape, and stored with its other tensors.
"""

from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError, unknown_name
from percept.core.io import load_tensors, read_json, save_tensors, write_json
from percept.methods import INDEX
from percept.weights.fingerprint import joined_hash
from percept.weights.locate import lasting

CONFIG, WEIGHTS = "config.json", "method.safetensors"


def method_class(name: str) -> type[nn.Module]:
    """Return the class of a method.

    Raises:
        PerceptError: unknown name.
    """
    if name not in INDEX:
        raise unknown_name("method", name, INDEX)
    module, attribute = INDEX[name].split(":")
    return getattr(import_module(module), attribute)


def own_tensors(method: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a method that its base model does not provide.

    These are all parameters and buffers outside `base_parts`, and parameters inside that are trained, such as adapters.
    """
    prefixes = tuple(f"{part}." for part in cast(Any, method).base_parts)
    trained = {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    return {
        name: value for name, value in method.state_dict().items() if name in trained or not name.startswith(prefixes)
    }


def save_method(folder: Path | str, method: nn.Module, *, base: str, fingerprint: str | None = None) -> None:
    """Write a trained method.

    Args:
        folder: created if needed.
        method: its class is in `percept.methods.INDEX`.
        base: name, address or path of the base model, as `percept.load` takes it; a path is stored as an absolute one.
        fingerprint: `joined_hash` of the base model's weights; the model is opened to compute it if None.
    """
    folder = Path(folder)
    where = f"{type(method).__module__}:{type(method).__qualname__}"
    name = next((name for name, target in INDEX.items() if target == where), None)
    if name is None:
        raise PerceptError(f"{where} is not in the index of methods. Add it to percept.methods.INDEX.")
    config = cast(Any, method).config
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / WEIGHTS, own_tensors(method))
    weights = fingerprint or joined_hash(_open_base(base).weight_hashes)
    facts = {"method": name, "config": to_dict(config), "base": {"name": lasting(base), "fingerprint": weights}}
    if hasattr(method, "from_encoder"):
        facts |= {"classes": list(cast(Any, method).names), "template": cast(Any, method).template}
    write_json(folder / CONFIG, facts)


def open_method(
    folder: Path | str, *, device: str = "auto", dtype: str | torch.dtype | None = None, **options: Any
) -> nn.Module:
    """Open a saved method on its base model, in evaluation mode; its weights have the type of the base, as in training.

    Args:
        folder: what `save_method` wrote.
        device: as for `percept.load`.
        dtype: as for `percept.load`; the type of the base model.
        options: further options of `percept.load` for the base model.

    Raises:
        PerceptError: not such a folder, the base model cannot be opened or is a different one, or tensors do not fit.
    """
    return _opened(Path(folder), device=device, dtype=dtype, **options)[0]


def open_for_use(folder: Path | str, **options: Any) -> Any:
    """Open a saved method as `percept.load` returns it: a `Classifier`, a `Localizer`, or the method itself if it is neither.

    Args:
        folder: what `save_method` wrote.
        options: as for `open_method`.

    Raises:
        PerceptError: as `open_method`.
    """
    from percept.infer.classifier import Classifier
    from percept.infer.localizer import Localizer, Locates

    folder = Path(folder)
    method, encoder = _opened(folder, **options)
    if isinstance(method, Locates):
        return Localizer(method, encoder, name=folder.resolve().name)
    if not hasattr(method, "class_logits"):
        return method
    return Classifier(cast(Any, method), encoder, name=folder.resolve().name, tensors=own_tensors(method))


def _opened(folder: Path, **options: Any) -> tuple[nn.Module, Any]:
    """Return a method and the encoder of its base model."""
    header = read_json(folder / CONFIG)
    if not isinstance(header, dict) or not {"method", "config", "base"} <= header.keys():
        raise PerceptError(f"{folder} is not a saved method: {CONFIG} lacks method, config or base.")
    kind = cast(Any, method_class(header["method"]))
    config = from_dict(kind.Config, header["config"])
    base = header["base"]
    encoder = _open_base(base["name"], **options)
    if joined_hash(encoder.weight_hashes) != base["fingerprint"]:
        raise PerceptError(
            f"{folder} was trained on a base model with different weights than {base['name']} has now. "
            "Open it where its own base model is available."
        )
    method = _built(kind, config, encoder, header)
    _take(method, load_tensors(folder / WEIGHTS), folder / WEIGHTS)
    for parameter in method.parameters():
        if parameter.dim() > 0 and parameter.is_floating_point():  # scalars, such as scales, are never rounded
            parameter.data = parameter.data.to(encoder.setting.dtype)
    return method.to(encoder.setting.device).eval(), encoder


def _built(kind: Any, config: Any, encoder: Any, header: dict[str, Any]) -> nn.Module:
    """Return a method on its base model; one that has class names gets those it was stored with."""
    if not hasattr(kind, "from_encoder"):
        return kind.from_base(config, encoder.model)
    return kind.from_encoder(config, encoder, tuple(header["classes"]), header["template"])


def _open_base(name: str, **options: Any) -> Any:
    from percept.infer.load import load

    return load(name, **options)


def _take(method: nn.Module, stored: dict[str, Tensor], source: Path) -> None:
    """Copy stored tensors into a method, if names and shapes are exactly its own."""
    own = own_tensors(method)
    different = sorted(own.keys() ^ stored.keys())
    different += [name for name in own.keys() & stored.keys() if own[name].shape != stored[name].shape]
    if different:
        raise PerceptError(f"{source} does not fit this method: {', '.join(different[:4])} differ.")
    method.load_state_dict(stored, strict=False)
