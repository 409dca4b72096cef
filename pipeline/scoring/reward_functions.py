"""Use a plain Python function as a scorer, called as TRL's GRPO calls its reward functions.

An error in such a function is the user's to fix, so it is reported in one line that names the function.
"""

from __future__ import annotations

import asyncio
import difflib
import importlib
import inspect
import numbers
import os
import pkgutil
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pipeline.base.errors import ConfigError, ModelError, PipelineError
from pipeline.scoring.scorer import Samples
from pipeline.workflow.reward_sources import check_function_name

_OFFERED = ("prompts", "completions", "prompt_ids", "completion_ids")
_MEND = "It has to return one finite number for each completion, empty ones too."


def load_function(text: str, where: str) -> Callable[..., Any]:
    """The function ``module:function``, importable from the working directory; of a class, an instance.

    Raises:
        ConfigError: the text is not such a name, or it cannot be imported or called.
    """
    title, function = f'function "{text}"', load_attribute(text, where)
    if inspect.isclass(function):
        try:
            function = function()
        except Exception as err:
            mend = "Its __init__ has to work without arguments."
            raise ConfigError(where, f"{title}: {_raised(err)}.", mend) from err
    if not callable(function):
        raise ConfigError(where, f"{title} is a {type(function).__name__}, which cannot be called.")
    return function


def load_attribute(text: str, where: str) -> Any:
    """What ``module:name`` names, importable from the working directory; a class as it is.

    Raises:
        ConfigError: the text is not such a name, or it cannot be imported.
    """
    check_function_name(text, where)
    name, _, attribute = text.partition(":")
    title = f'function "{text}"'
    return _attribute(_import(name, title, where), attribute, title, where)


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
            raise ModelError(self._where, f"{_raised(err)}.", _MEND) from err
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


def _import(name: str, title: str, where: str) -> ModuleType:
    importlib.invalidate_caches()
    with _working_directory():
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as err:
            missing = err.name or ""
            if name != missing and not name.startswith(missing + "."):  # an import of the module failed
                raise ConfigError(where, f"{title}: {_raised(err)}.", "Install it, or fix the import.") from err
            parent, _, last = missing.rpartition(".")
            paths = getattr(sys.modules[parent], "__path__", []) if parent in sys.modules else [os.getcwd()]
            near = _near(last, [m.name for m in pkgutil.iter_modules(paths)])
            mend = near or "It is looked for in the working directory and among the installed packages."
            raise ConfigError(where, f'{title}: no module "{missing}".', mend) from err
        except Exception as err:
            raise ConfigError(where, f"{title}: {_raised(err)}.", "The module has to be importable.") from err


def _attribute(module: ModuleType, name: str, title: str, where: str) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    callables = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
    mend = _near(name, callables) or f"It has: {', '.join(sorted(callables)[:8]) or 'no function'}"
    raise ConfigError(where, f'{title}: {module.__name__} has no "{name}".', mend)


@contextmanager
def _working_directory() -> Iterator[None]:
    # Python puts the script's directory first, which under a launcher need not be the user's.
    here = os.getcwd()
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def _near(word: str, names: list[str]) -> str:
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f'Did you mean "{near[0]}"?' if near else ""


def _raised(err: Exception) -> str:
    """``raised ZeroDivisionError: division by zero (my_rewards.py:3)``: the last line of the user's own code."""
    text = err.msg if isinstance(err, SyntaxError) else str(err)
    message = f"raised {type(err).__name__}" + (f": {' '.join(text.split())[:200]}" if text else "")
    libraries = tuple(sysconfig.get_paths()[k] for k in ("stdlib", "platstdlib", "purelib", "platlib"))
    frames = [(f.filename, f.lineno) for f in traceback.extract_tb(err.__traceback__)]
    if isinstance(err, SyntaxError) and err.filename:
        frames.append((err.filename, err.lineno))
    frames = [f for f in frames if f[0] != __file__ and not f[0].startswith("<")]
    own = [f for f in frames if not f[0].startswith(libraries)]
    if not frames:
        return message
    file, line = (own or frames)[-1]
    path = Path(file)
    return f"{message} ({path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{line})"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
