"""Save and load the state of a PPO run between two updates: tensors in safetensors, the rest in JSON, no pickle.

Prompts, noise and minibatches are functions of (seed, update) and are not saved.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.base.errors import ModelError
from pipeline.functional.moments import RunningMoments
from pipeline.modeling.weights import restore, snapshot
from pipeline.trainers.ppo.held_out import OveroptimisationMonitor
from pipeline.trainers.shared_checkpointing import readable

TENSORS, NUMBERS = "state.safetensors", "state.json"


@dataclass(frozen=True)
class RunState:
    """The state that is not tensors.

    Attributes:
        scheduler: of the learning rate.
        stopped: the reason why the run ended early.
        within, went_back: see :class:`pipeline.trainers.ppo.best_policy.BestPolicies`.
        ranks: :func:`random_state` of every rank.
        begun_with: the ranks at the beginning of the run, which decide the size of a batch.
    """

    global_step: int
    episode: int
    log_history: list[dict[str, Any]]
    scheduler: dict[str, Any]
    kl_coef: float
    moments: RunningMoments
    monitor: OveroptimisationMonitor
    stopped: str | None
    within: list[float] | None
    went_back: int | None
    ranks: list[dict[str, Any]]
    begun_with: int

    def to_json(self) -> str:
        fields = {("watch" if k == "monitor" else k): v for k, v in vars(self).items()}
        return json.dumps(fields, default=dataclasses.asdict)

    @classmethod
    def from_json(cls, text: str) -> RunState:
        """Undo :meth:`to_json`; ``within``, ``went_back`` and ``begun_with`` may be missing."""
        fields = {"within": None, "went_back": None, **json.loads(text)}
        fields.setdefault("begun_with", len(fields["ranks"]))
        monitor = OveroptimisationMonitor.from_json(fields.pop("watch"))
        return cls(**{**fields, "moments": RunningMoments(**fields["moments"]), "monitor": monitor})


def save(
    directory: Path,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    copies: Mapping[str, Mapping[str, Tensor]],
    state: RunState,
) -> None:
    """Write the state; ``copies`` are further values of the parameters, by the name of the copy."""
    tensors = {f"parameters/{n}": v for n, v in snapshot(parameters).items()}
    names = {id(p): n for n, p in parameters.items()}
    for parameter, moments in optimizer.state.items():
        for key, value in moments.items():
            tensors[f"optimizer/{key}/{names[id(parameter)]}"] = value.detach().to("cpu", copy=True)
    for label, values in copies.items():
        tensors |= {f"copies/{label}/{n}": v for n, v in values.items()}
    save_file(tensors, directory / TENSORS)
    (directory / NUMBERS).write_text(state.to_json(), encoding="utf-8")


def load_state(directory: Path) -> RunState:
    """Read the state that is not tensors.

    Raises:
        StoreError: the file is damaged.
    """
    with readable(directory):
        return RunState.from_json((directory / NUMBERS).read_text(encoding="utf-8"))


def load_tensors(
    directory: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, dict[str, Tensor]]:
    """Restore parameters and optimiser.

    Returns:
        The copies.
    Raises:
        ModelError: the state is of another model.
        StoreError: the file is damaged.
    """
    with readable(directory):
        return _load_tensors(directory, parameters, optimizer)


def _load_tensors(
    directory: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, dict[str, Tensor]]:
    tensors = load_file(directory / TENSORS)
    copies: dict[str, dict[str, Tensor]] = {}
    saved = {k.removeprefix("parameters/"): v for k, v in tensors.items() if k.startswith("parameters/")}
    if {n: v.shape for n, v in saved.items()} != {n: p.shape for n, p in parameters.items()}:
        mend = "Start over: add --fresh."
        raise ModelError(str(directory), "holds other parameters than this model trains.", mend)
    restore(parameters, saved)
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


def random_state() -> dict[str, list[Any]]:
    """The state of Python's, NumPy's and torch's generators, from which a user's scorer may draw."""
    version, internal, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state().tolist(),
    }


def set_random_state(state: dict[str, list[Any]]) -> None:
    """Undo :func:`random_state`."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
