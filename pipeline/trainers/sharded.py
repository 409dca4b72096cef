"""Models that are sharded over ranks (FSDP2): their checkpoints, and what was trained as a model of one process.

What is gathered is only what is trained, so of LoRA it is small. Every rank takes part in gathering, in the same
order, and the main process alone keeps and writes what comes of it. Nothing of it depends on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers.trainer import SCHEDULER_NAME

from pipeline.base.errors import StoreError
from pipeline.base.process import main_process
from pipeline.modeling.weights import restore, trained_parameters

TENSORS = "gathered.safetensors"
"""Of a sharded model's checkpoint: trained parameters, and the optimiser's moments of each."""
WRAPPERS = ("_checkpoint_wrapped_module.", "_orig_mod.")
"""What activation checkpointing and compilation put into the names of parameters."""


@torch.no_grad()
def gathered(model: nn.Module) -> dict[str, Tensor]:
    """The trained parameters by name, whole and on the CPU; the same call on all ranks, as each holds a part.

    Returns:
        In the main process; in the others nothing.
    """
    return _kept((name, p.detach()) for name, p in _trained(model).items())


@torch.no_grad()
def save(directory: Path, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler) -> None:
    """Write a checkpoint's tensors and the schedule; the same call on all ranks."""
    parameters = _trained(model)
    state = {
        f"optimizer/{key}/{name}": value
        for name, p in parameters.items()
        for key, value in sorted(optimizer.state.get(p, {}).items())
    }
    tensors = _kept({**{f"parameters/{name}": p.detach() for name, p in parameters.items()}, **state}.items())
    if main_process():
        save_file(tensors, directory / TENSORS)
        torch.save(scheduler.state_dict(), directory / SCHEDULER_NAME)


def load_parameters(directory: Path, model: nn.Module) -> None:
    """Restore the trained parameters, of which each rank takes its part.

    Raises:
        StoreError: the checkpoint is of a run without sharding, or of other parameters.
    """
    parameters, saved = _trained(model), _saved(directory, "parameters/")
    if {n: p.shape for n, p in parameters.items()} != {n: v.shape for n, v in saved.items()}:
        raise StoreError(str(directory), "holds other parameters than this model trains.")
    with torch.no_grad():
        for name, value in saved.items():
            parameters[name].copy_(_as_part_of(parameters[name], value))


def load_optimizer(directory: Path, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler) -> None:
    """Restore the optimiser's moments, the schedule, and the learning rates, which are the optimiser's."""
    parameters = _trained(model)
    for name, value in _saved(directory, "optimizer/").items():
        key, _, parameter = name.partition("/")
        target = parameters[parameter]
        # AdamW's count of steps is a number on the CPU.
        optimizer.state[target][key] = value if value.dim() == 0 else _as_part_of(target, value)
    scheduler.load_state_dict(torch.load(directory / SCHEDULER_NAME, weights_only=True))
    for group, rate in zip(optimizer.param_groups, scheduler.get_last_lr(), strict=True):
        group["lr"] = rate


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


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {_plain(name): p for name, p in trained_parameters(model).items()}


def _kept(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Gather tensors, each on all ranks, one at a time; keep them in the main process."""
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors:
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if main_process():
            kept[name] = whole.to("cpu", copy=True).contiguous()
    return kept


def _saved(directory: Path, kind: str) -> dict[str, Tensor]:
    file = directory / TENSORS
    if not file.is_file():
        raise StoreError(str(directory), "was written by a run without sharding.")
    with safe_open(file, "pt") as tensors:  # the other kind is not read
        names: list[str] = [name for name in tensors.keys() if name.startswith(kind)]  # noqa: SIM118 - no dict
        return {name.removeprefix(kind): tensors.get_tensor(name) for name in names}


def _as_part_of(parameter: Tensor, value: Tensor) -> Tensor:
    """``value`` where ``parameter`` lies: of a sharded one this rank's part, without a word to the others."""
    value = value.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _plain(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name
