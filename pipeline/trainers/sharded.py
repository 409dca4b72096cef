"""Bring what was trained on a base that is sharded over ranks (FSDP2) back into a model of one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from pipeline.base.process import main_process
from pipeline.modeling.weights import restore, trained_parameters

WRAPPERS = ("_checkpoint_wrapped_module.", "_orig_mod.")
"""What activation checkpointing and compilation put into the names of parameters."""


@torch.no_grad()
def gathered(model: nn.Module) -> dict[str, Tensor]:
    """The trained parameters by name, whole and on the CPU; the same call on all ranks, as each holds a part."""
    return {
        _plain(name): (p.full_tensor() if isinstance(p, DTensor) else p.detach()).cpu()
        for name, p in trained_parameters(model).items()
    }


def in_one_process(model: nn.Module, fresh: Callable[[], Any]) -> Any:
    """A trained model in one piece on the CPU of the main process; the other ranks keep their parts.

    Its frozen parameters are read again: what is gathered is as small as what was trained.

    Args:
        fresh: makes the model as it was before training.
    """
    weights = gathered(model)
    if not main_process():
        return model
    whole = fresh()
    restore(trained_parameters(whole), weights)
    return whole


def _plain(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name
