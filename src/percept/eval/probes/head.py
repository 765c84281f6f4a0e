"""Trained heads: saved as a folder of json and safetensors, opened again, and applied to images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from percept.core.errors import PerceptError, unknown_name
from percept.core.io import load_tensors, read_object, save_tensors, write_json
from percept.eval.probes.stream import each_layer, frame_of, patches, pooled, squashing
from percept.infer.encoder import Encoder
from percept.weights.locate import PACKAGED

FACTS, TENSORS = "head.json", "head.safetensors"
KINDS = ("linear", "dpt", "fcos")


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """A head trained on one layer of an encoder."""

    task: str
    """classes, masks, depth or boxes."""
    kind: str
    """linear, dpt or fcos."""
    layer: int
    """Block whose output it takes, counted from 0."""
    width: int
    """Channels that it takes."""
    classes: tuple[str, ...] = ()
    """Names, in the order of its outputs; empty for depth."""
    unit: str = ""
    """Unit of depth: m for metres, empty for shares from 0 to 1."""
    module: nn.Module
    encoder: str = ""
    """Identity of the image vectors of the encoder that it was trained on."""
    facts: dict[str, Any] = field(default_factory=dict)
    """How it was trained: data, samples, scores."""

    def check(self, encoder: Encoder) -> Encoder:
        """Return the encoder with images squashed to its size, as in training.

        Raises:
            PerceptError: its tokens have a different width, or it has too few blocks.
        """
        config = encoder.model.config.vision
        pooled_width = self.width // (1 + config.prefix) if self.task == "classes" else self.width
        if config.width != pooled_width:
            raise PerceptError(
                f"this head was trained on tokens of {pooled_width} channels, but {encoder.name} has {config.width}. "
                "Use the encoder that it was trained on."
            )
        if config.layers <= self.layer:
            raise PerceptError(
                f"this head takes layer {self.layer}, but {encoder.name} has layers 0 to {config.layers - 1}. "
                "Use the encoder that it was trained on, or one cut after that layer."
            )
        return squashing(encoder)

    def maps(self, encoder: Encoder, images: Any) -> Float[Tensor, "n c y x"]:
        """Return class logits (masks) or depth, one channel, at the size of the model's input.

        Args:
            encoder: the encoder that the head was trained on, whole or cut after its layer.
            images: one image or several, as for `Encoder.image`.

        Raises:
            PerceptError: the head is for a different task, or does not fit the encoder.
        """
        self._need("masks", "depth")
        size = frame_of(self.check(encoder)).size
        maps = [upsampled(self.module(features[None]), size)[0] for features in self._features(encoder, images)]
        return torch.stack(maps)

    def boxes(self, encoder: Encoder, images: Any) -> "list[Any]":
        """Return the detections of each image: `fcos.Detections`, boxes xyxy in [0, 1], labels and scores.

        Raises:
            PerceptError: as `maps`.
        """
        from percept.eval.probes.fcos import FCOS

        self._need("boxes")
        assert isinstance(self.module, FCOS)
        return [self.module.detect(features[None])[0] for features in self._features(encoder, images)]

    def classes_of(self, encoder: Encoder, images: Any) -> Float[Tensor, "n c"]:
        """Return class logits.

        Raises:
            PerceptError: as `maps`.
        """
        self._need("classes")
        return torch.stack([self.module(features) for features in self._features(encoder, images)])

    def _need(self, *tasks: str) -> None:
        if self.task not in tasks:
            raise PerceptError(
                f"this head was trained for {self.task}, not for {' or '.join(tasks)}. Train one for it."
            )

    def _features(self, encoder: Encoder, images: Any) -> Iterator[Tensor]:
        reduce = pooled if self.task == "classes" else patches
        for row in each_layer(self.check(encoder), _several(images), [self.layer], reduce):
            with torch.no_grad():
                yield row[self.layer]


def _several(images: Any) -> Any:
    from percept.infer.images import as_iterable

    return as_iterable(images)


def upsampled(maps: Float[Tensor, "b c y x"], size: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """Resize maps bilinearly; the corners of the image, not the centres of the corner pixels, stay in place."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def save_head(folder: Path | str, head: Head) -> None:
    """Write a head as `head.json` and `head.safetensors`; other files of the folder stay.

    Raises:
        PerceptError: a file cannot be written.
    """
    facts = {
        "task": head.task, "kind": head.kind, "layer": head.layer, "width": head.width, "classes": list(head.classes),
        "unit": head.unit, "encoder": head.encoder, "facts": head.facts,
    }  # fmt: skip
    save_tensors(Path(folder) / TENSORS, {name: value.cpu() for name, value in head.module.state_dict().items()})
    write_json(Path(folder) / FACTS, facts)


def open_head(folder: Path | str) -> Head:
    """Open what `save_head` wrote.

    Raises:
        PerceptError: there is no head, it is damaged, or of an unknown kind.
    """
    folder = Path(folder)
    if not (folder / FACTS).is_file() and (folder / "head" / FACTS).is_file():
        folder = folder / "head"
    if not (folder / FACTS).is_file():
        raise PerceptError(
            f"{folder} holds no head ({FACTS}). Train one with percept layers DATA --task TASK --save HEAD, where TASK is depth, masks, boxes or classes."
        )
    facts, tensors = read_object(folder / FACTS), load_tensors(folder / TENSORS)
    missing = [name for name in ("task", "kind", "layer", "width", "classes") if name not in facts]
    if missing:
        raise PerceptError(f"{folder / FACTS} lacks {', '.join(missing)}. Write the head again with percept layers.")
    module = _module(facts["task"], facts["kind"], facts["width"], max(1, len(facts["classes"])))
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise PerceptError(f"{folder / TENSORS} does not fit {FACTS}: {' '.join(str(error).split())[:200]}.") from None
    return Head(
        task=facts["task"], kind=facts["kind"], layer=facts["layer"], width=facts["width"],
        classes=tuple(facts["classes"]), unit=facts.get("unit", ""), encoder=facts.get("encoder", ""),
        facts=facts.get("facts", {}), module=module.eval().requires_grad_(False),
    )  # fmt: skip


def packaged_head(encoder: Encoder, task: str) -> Head | None:
    """Return the head that ships with nano; None for other tasks, and for encoders that are not nano as packaged, with its preprocessing."""
    folder = PACKAGED / "nano" / f"{task}_head"
    if not (folder / FACTS).is_file():
        return None
    head = open_head(folder)
    if encoder.model.config.vision.width != head.width:  # hashing a large model takes seconds
        return None
    return head if encoder.identity.image == head.encoder else None


def _module(task: str, kind: str, width: int, outputs: int) -> nn.Module:
    from percept.eval.probes.dense import DepthLinear
    from percept.eval.probes.dpt import LightDPT
    from percept.eval.probes.fcos import FCOS
    from percept.eval.probes.linear import Linear

    if kind == "linear":
        return DepthLinear(width) if task == "depth" else Linear(width, outputs)
    if kind == "dpt":
        return LightDPT(width)
    if kind == "fcos":
        return FCOS(width, outputs)
    raise unknown_name("kind of head", kind, KINDS)


def stacked(features: Sequence[Tensor], device: str) -> Tensor:
    """Return features of several images as one tensor on a device."""
    return torch.stack(list(features)).to(device)
