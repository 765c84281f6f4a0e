"""FSDP2 takes the first module that is called for the whole model; this names it before a part is called on its own."""

from typing import Any, cast

from torch import nn


def begin_sharded(task: nn.Module) -> None:
    """Make a sharded task the root of its shards, as its first forward pass would. A later call has no effect."""
    cast(Any, task)._get_fsdp_state()._lazy_init()
