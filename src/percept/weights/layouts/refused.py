"""Layouts that are recognised in order to say why they are not read."""

from collections.abc import Collection, Mapping
from typing import Any

from percept.weights.layout import Layout


class Transformers(Layout):
    """The layouts of the transformers library."""

    name = "transformers"
    marks = ("vision_model.", "text_model.", "timm_model.", "vision_tower.", "model.vision_tower.")
    refusal = (
        "{source} is in transformers' layout, which is not read here; take the published file (NAME.pt), or the timm or "
        "open_clip version of the model"
    )

    def claims(self, files: Collection[str], config: Mapping[str, Any]) -> bool:
        """True if config.json has an entry that transformers writes."""
        return "model_type" in config or "transformers_version" in config


class Checkpoint(Layout):
    """A checkpoint that `percept train` resumes from."""

    name = "checkpoint"
    marks = ("master.",)
    refusal = (
        "{source} is the checkpoint of an unfinished training run; repeat its percept train command to finish it, then "
        "open the folder that it writes"
    )


TRANSFORMERS, CHECKPOINT = Transformers(), Checkpoint()
