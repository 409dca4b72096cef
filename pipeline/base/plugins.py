"""Import what a config names: tasks, annotators, the labelling page's keys. Plugins are modules found by name."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from pipeline.base.errors import ConfigError


def load_plugin(package: str, name: str, where: str, key: str) -> ModuleType:
    """Import ``package.name``, or the dotted path ``name`` for a plugin outside this repository."""
    target = name if "." in name else f"{package}.{name}"
    try:
        return importlib.import_module(target)
    except ModuleNotFoundError as err:
        if err.name is not None and (target == err.name or target.startswith(err.name + ".")):
            raise ConfigError(where, f'{key} "{name}" is not known.', f"No module {target}.") from err
        raise


def task_class(name: str, where: str) -> type[Any]:
    """The dataclass ``Task`` of a task, whose fields are its keys.

    Raises:
        ConfigError: no such task.
    """
    module = load_plugin("pipeline.tasks", name, where, "task")
    if not hasattr(module, "Task"):
        raise ConfigError(where, f'task "{name}" has no class Task.', "See docs/plugins.md.")
    return module.Task


def annotator_module(name: str, where: str) -> Any:
    """The module of an annotator, with its dataclass ``Options`` and its function ``build``.

    Raises:
        ConfigError: no such annotator.
    """
    module = load_plugin("pipeline.annotators", name, where, "annotator")
    if not (hasattr(module, "Options") and hasattr(module, "build")):
        raise ConfigError(where, f'annotator "{name}" has no Options and build().')
    return module


def label_section() -> type[Any]:
    """The dataclass of the section ``label``, in the labelling package."""
    return importlib.import_module("pipeline.labelling.settings").LabelSection
