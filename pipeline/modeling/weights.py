"""The weights of a model: the trained ones, copies of them, and checks that they are numbers and have moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from pipeline.base.errors import ModelError


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that gets a gradient, by name, in the module's order."""
    return {n: p for n, p in module.named_parameters() if p.requires_grad}


def snapshot(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Copy the parameters' values to the CPU."""
    return {n: p.detach().to("cpu", copy=True) for n, p in parameters.items()}


@torch.no_grad()
def restore(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    """Write the values of a :func:`snapshot` back."""
    for name, value in values.items():
        parameters[name].copy_(value)


def non_finite(parameters: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity, or None."""
    return next((name for name, p in parameters if not bool(torch.isfinite(p.detach()).all())), None)


def require_finite(model: nn.Module, where: str, mend: str) -> None:
    """Check all weights of ``model``, adapters included.

    Raises:
        ModelError: one is NaN or infinite.
    """
    name = non_finite(model.named_parameters())
    if name is not None:
        raise ModelError(where, f"the weights {name} hold NaN or infinity.", mend)


def norms(parameters: Iterable[Tensor]) -> list[float]:
    """The length of every tensor in double precision: a change of any of them shows that something was learnt."""
    return [torch.linalg.vector_norm(p.detach(), dtype=torch.float64).item() for p in parameters]


def require_moved(before: list[float], parameters: Iterable[Tensor], stage: str, steps: int) -> None:
    """Check that training has changed a weight.

    Args:
        before: :func:`norms` of the same parameters before training.
    Raises:
        ModelError: all are as they were.
    """
    if steps < 1 or norms(parameters) == before:
        raise ModelError(
            stage,
            f"nothing was learnt: {steps} steps have left every weight as it was.",
            f"Train longer, or lower {stage}.warmup_steps (the first step of a warm-up has a rate of 0).",
        )
