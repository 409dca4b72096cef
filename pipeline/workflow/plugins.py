"""The keys of what a config names: the task, the annotator, people's page. Each is imported when asked for."""

from __future__ import annotations

import importlib
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.plugins import load_plugin


def task_class(name: str, where: str) -> type[Any]:
    """The dataclass ``Task`` of a task, whose fields are its keys.

    Raises:
        ConfigError: no such task.
    """
    module = load_plugin("pipeline.tasks", name, where, "task")
    if not hasattr(module, "Task"):
        raise ConfigError(where, f'task "{name}" has no class Task.', "See CONTRIBUTING.md, Adding a task.")
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
    """The dataclass of the section ``label``. It stays with the page, which knows no experiments."""
    return importlib.import_module("pipeline.labelling.settings").LabelSection
