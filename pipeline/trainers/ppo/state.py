"""All that a PPO run is at the end of an update, as files: tensors in safetensors, the rest in JSON, no pickle.

What was sampled needs no place here: prompts, noise and minibatches are functions of (seed, update) alone.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.base.errors import ModelError

TENSORS, NUMBERS = "state.safetensors", "state.json"


def trained_parameters(module: Any) -> dict[str, torch.nn.Parameter]:
    """Every parameter that gets a gradient, by name, in the module's order."""
    return {n: p for n, p in module.named_parameters() if p.requires_grad}


def copy_of(parameters: dict[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    """Their values now, on the CPU."""
    return {n: p.detach().to("cpu", copy=True) for n, p in parameters.items()}


@torch.no_grad()
def put_back(parameters: dict[str, torch.nn.Parameter], values: dict[str, Tensor]) -> None:
    """Give parameters the values that :func:`copy_of` took."""
    for name, value in values.items():
        parameters[name].copy_(value)


def save(
    directory: Path,
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    copies: dict[str, dict[str, Tensor]],
    figures: dict[str, Any],
    ranks: list[dict[str, Any]],
) -> None:
    """Write the state.

    Args:
        copies: further sets of the parameters' values, by a name, such as the best so far.
        figures: anything JSON can hold.
        ranks: :func:`random_state` of every rank.
    """
    tensors = {f"parameters/{n}": v for n, v in copy_of(parameters).items()}
    names = {id(p): n for n, p in parameters.items()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"optimizer/{key}/{names[id(parameter)]}"] = value.detach().to("cpu", copy=True)
    for label, values in copies.items():
        tensors |= {f"copies/{label}/{n}": v for n, v in values.items()}
    save_file(tensors, directory / TENSORS)
    (directory / NUMBERS).write_text(json.dumps({**figures, "ranks": ranks}), encoding="utf-8")


def load(
    directory: Path, parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, dict[str, Tensor]]:
    """Put parameters and optimiser back.

    Returns:
        The copies that were saved.
    Raises:
        ModelError: the state is of another model.
    """
    tensors = load_file(directory / TENSORS)
    copies: dict[str, dict[str, Tensor]] = {}
    saved = {k.removeprefix("parameters/"): v for k, v in tensors.items() if k.startswith("parameters/")}
    if {n: v.shape for n, v in saved.items()} != {n: p.shape for n, p in parameters.items()}:
        raise ModelError(str(directory), "holds other parameters than this model trains.", "Start anew: FRESH=1")
    put_back(parameters, saved)
    for name, value in tensors.items():
        kind, _, rest = name.partition("/")
        label, _, parameter = rest.partition("/")
        if kind == "copies":
            copies.setdefault(label, {})[parameter] = value
        elif kind == "optimizer":
            target = parameters[parameter]
            # AdamW keeps its step count on the CPU; moments live beside their parameter.
            optimizer.state[target][label] = value if value.dim() == 0 else value.to(target.device)
    return copies


def numbers(directory: Path) -> dict[str, Any]:
    """The numbers that :func:`save` was given, and ``ranks``."""
    return json.loads((directory / NUMBERS).read_text(encoding="utf-8"))


def random_state() -> dict[str, Any]:
    """Python's, NumPy's and torch's generators, as a scorer of the user's may draw from them."""
    version, internal, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state().tolist(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Undo :func:`random_state`."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
