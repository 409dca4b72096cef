"""Load a base once for several adaptations of it, one after another or in forked processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import nn

from pipeline.modeling.loading import load_causal_lm
from pipeline.modeling.types import CausalLM

_KEPT: ContextVar[dict[Any, CausalLM] | None] = ContextVar("kept bases", default=None)


@contextmanager
def one_base() -> Iterator[None]:
    """Within it :func:`load_base` loads a base once, and gives it again, without adapters, to whoever asks next.

    For stages that adapt one base one after another: only one of them uses it at a time.
    """
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def load_base(source: str, revision: str | None, dtype: torch.dtype) -> CausalLM:
    """The base, bit for bit; see :func:`one_base`. Raises as :func:`load_causal_lm`."""
    kept, key = _KEPT.get(), (source, revision, dtype)
    if kept is None:
        return load_causal_lm(source, revision, dtype)
    if key not in kept:
        kept[key] = load_causal_lm(source, revision, dtype)
    return without_adapters(kept[key])


def keep_for_forks(source: str, revision: str | None, dtypes: Iterable[torch.dtype]) -> None:
    """Load the base within :func:`one_base`, so that processes forked from now on share it with each other.

    On one thread: torch's others would be missing in a forked process, which would wait for them for ever.

    Raises:
        ModelError: see :func:`load_causal_lm`.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for dtype in dtypes:
            load_base(source, revision, dtype)
    finally:
        torch.set_num_threads(threads)


def without_adapters(model: CausalLM) -> CausalLM:
    """The model without the adapters that PEFT has put into it; the layers below them are as they were."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = {n: m for n, m in cast("nn.Module", model).named_modules() if isinstance(m, BaseTunerLayer)}
    for name, layer in layers.items():
        cast("nn.Module", model).set_submodule(name, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        delattr(model, "peft_config")
    return cast("CausalLM", cast("nn.Module", model).requires_grad_(True).eval())
