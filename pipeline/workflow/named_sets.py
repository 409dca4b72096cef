"""``reward.test_sets``: sets of pairs under names, as the config has them. Reading them is done elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pipeline.base.errors import ConfigError
from pipeline.formats.read_options import JudgedSet
from pipeline.sources.row_sources import check_source
from pipeline.workflow.experiment import Experiment
from pipeline.workflow.typed_keys import parse_options

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
# Each set becomes a config of the scores, beside these; "data" is where the default one lies.
_TAKEN = ("default", "unpaired", "data")


@dataclass(frozen=True)
class PairSet(JudgedSet):
    """Where the pairs are and how to read them: :class:`pipeline.formats.read_options.JudgedSet`, and

    Args:
        slice: their column whose values make slices; of RewardBench it is ``subset``.
    """

    slice: str | None = None


def parse_sets(value: Mapping[Any, Any], where: str, key: str = "reward.test_sets") -> dict[str, PairSet]:
    """The sets of a config by name: ``{name: dataset}`` or ``{name: {dataset: ..., format: ...}}``.

    Raises:
        ConfigError: an unknown key, a value of a wrong type, a name that is no plain word.
    """
    found: dict[str, PairSet] = {}
    for name, given in value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _TAKEN:
            mend = "Use letters, digits, _ and -; not default, unpaired or data."
            raise ConfigError(where, f"{key}: {name!r} is no name for a set.", mend)
        options = {"dataset": given} if isinstance(given, str) else cast("dict[str, Any]", given)
        if not isinstance(given, str | dict) or not options.get("dataset"):
            mend = f"Write {key}: {{{name}: pairs.jsonl}}, or {{{name}: {{dataset: pairs.jsonl, format: trl}}}}."
            raise ConfigError(where, f"{key}.{name} names no dataset.", mend)
        found[name] = parse_options(PairSet, options, where, prefix=f"{key}.{name}.")
    return found


def check_sets(config: Experiment, look: bool) -> None:
    """Refuse sets that could not be read or written down, before anything is trained.

    Args:
        look: also open those that are on this machine, up to their first row.
    Raises:
        ConfigError: see :func:`parse_sets`.
        DataError: a set is not there, or its first row is of no known format.
    """
    where = str(config.path)
    for name, options in parse_sets(config.reward.test_sets, where).items():
        check_source(options.dataset, f"{where}: reward.test_sets.{name}")
        if look and Path(options.dataset).expanduser().exists():
            options.rows(f"{where}: reward.test_sets.{name}")
