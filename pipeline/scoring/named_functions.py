"""Import what a config names as ``module:name``: a function, or a class to call. Needs no torch."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import pkgutil
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.workflow.reward_sources import check_function_name


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
            raise ConfigError(where, f"{title}: {raised(err)}.", mend) from err
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


def _import(name: str, title: str, where: str) -> ModuleType:
    importlib.invalidate_caches()
    with _working_directory():
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as err:
            missing = err.name or ""
            if name != missing and not name.startswith(missing + "."):  # an import of the module failed
                raise ConfigError(where, f"{title}: {raised(err)}.", "Install it, or fix the import.") from err
            parent, _, last = missing.rpartition(".")
            paths = getattr(sys.modules[parent], "__path__", []) if parent in sys.modules else [os.getcwd()]
            near = _near(last, [m.name for m in pkgutil.iter_modules(paths)])
            mend = near or "It is looked for in the working directory and among the installed packages."
            raise ConfigError(where, f'{title}: no module "{missing}".', mend) from err
        except Exception as err:
            raise ConfigError(where, f"{title}: {raised(err)}.", "The module has to be importable.") from err


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


def raised(err: Exception) -> str:
    """``raised ZeroDivisionError: division by zero (my_rewards.py:3)``: the last line of the user's own code."""
    text = err.msg if isinstance(err, SyntaxError) else str(err)
    message = f"raised {type(err).__name__}" + (f": {' '.join(text.split())[:200]}" if text else "")
    here = Path(__file__).parent
    libraries = tuple(sysconfig.get_paths()[k] for k in ("stdlib", "platstdlib", "purelib", "platlib"))
    frames = [(f.filename, f.lineno) for f in traceback.extract_tb(err.__traceback__)]
    if isinstance(err, SyntaxError) and err.filename:
        frames.append((err.filename, err.lineno))
    frames = [f for f in frames if Path(f[0]).parent != here and not f[0].startswith("<")]
    own = [f for f in frames if not f[0].startswith(libraries)]
    if not frames:
        return message
    file, line = (own or frames)[-1]
    path = Path(file)
    return f"{message} ({path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{line})"
