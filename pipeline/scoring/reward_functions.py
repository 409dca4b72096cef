"""Use a plain Python function as a scorer, called as TRL's GRPO calls its reward functions.

An error in such a function is the user's to fix, so it is reported in one line that names the function.
"""

from __future__ import annotations

import asyncio
import inspect
import numbers
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from pipeline.base.errors import ConfigError, ModelError, PipelineError
from pipeline.scoring.named_functions import raised
from pipeline.scoring.scorer import Samples

_OFFERED = ("prompts", "completions", "prompt_ids", "completion_ids")
_MEND = "It has to return one finite number for each completion, empty ones too."


class FunctionScorer:
    """Calls ``function(prompts=, completions=, prompt_ids=, completion_ids=)`` with the arguments that it takes.

    ``prompts`` are as the user gave them, texts or conversations; ``completions`` are texts. An ``async`` function
    is awaited.
    """

    def __init__(self, function: Callable[..., Any], name: str, where: str = "reward") -> None:
        """Raises ConfigError if it takes no ``completions``, or needs an argument that is not offered."""
        self.function, self.name = function, name
        self._takes = _accepted(function, name, where)

    def __call__(self, samples: Samples) -> Tensor:
        """(B,) scores.

        Raises:
            ModelError: the function raised, or did not return B finite numbers.
        """
        if not len(samples):
            return torch.zeros(0)
        offered = {
            "prompts": samples.as_given,
            "completions": list(samples.completions),
            "prompt_ids": [list(ids) for ids in samples.prompt_ids],
            "completion_ids": [list(ids) for ids in samples.completion_ids],
        }
        try:
            result = self.function(**{k: v for k, v in offered.items() if k in self._takes})
            result = asyncio.run(result) if inspect.iscoroutine(result) else result
            result = list(result) if isinstance(result, Iterator) else result  # a generator runs only here
        except PipelineError:  # of the task's own rewards, which say what is wrong and how to mend it
            raise
        except Exception as err:
            raise ModelError(self._where, f"{raised(err)}.", _MEND) from err
        return self._checked(result, samples)

    @property
    def _where(self) -> str:
        return f"reward function {self.name}"

    def _checked(self, result: Any, samples: Samples) -> Tensor:
        n = len(samples)
        values = result.detach().cpu() if isinstance(result, Tensor) else result
        values = values.tolist() if hasattr(values, "tolist") else values  # arrays, tensors, pandas' columns
        if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable):
            raise ModelError(self._where, f"returned {_short(result)}, not {n} numbers.", _MEND)
        values = list(values)
        if len(values) != n:
            raise ModelError(self._where, f"returned {len(values)} numbers for {n} completions.", _MEND)
        # A list may hold tensors or NumPy's numbers of one element.
        values = [v.item() if hasattr(v, "item") and getattr(v, "ndim", None) == 0 else v for v in values]
        for i, value in enumerate(values):
            if not (isinstance(value, numbers.Real) and abs(value) <= torch.finfo(torch.float32).max):
                text = _short(samples.completions[i])
                raise ModelError(self._where, f"returned {_short(value)} for completion {i} ({text}).", _MEND)
        return torch.tensor([float(v) for v in values], dtype=torch.float32)


def _accepted(function: Callable[..., Any], name: str, where: str) -> frozenset[str]:
    """Which of the offered arguments the function takes by name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have no signature
        return frozenset(("prompts", "completions"))
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    everything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    takes = frozenset(_OFFERED) if everything else frozenset(p.name for p in by_name) & frozenset(_OFFERED)
    title = f'function "{name}"'
    required = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in _OFFERED
    ]
    if required:
        mend = f"It is given {', '.join(_OFFERED)}; anything else needs a default."
        raise ConfigError(where, f'{title} needs an argument "{required[0]}".', mend)
    if "completions" not in takes:
        raise ConfigError(where, f"{title} takes no completions.", "Define it as f(completions, **kwargs).")
    return takes


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
