"""Plugins are modules found by name; there is no registry and no decorator."""

from __future__ import annotations

import importlib
from types import ModuleType

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
