"""Parse ``reward.test_sets``, named sets of pairs. :mod:`pipeline.scoring.pair_sets` reads their rows."""

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
from pipeline.workflow.key_checks.unknown_and_mistyped import parse_options

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
# Each set becomes a config of ``scores``, beside these; "data" is the directory of the default config.
_TAKEN = ("default", "unpaired", "data")


@dataclass(frozen=True)
class PairSet(JudgedSet):
    """Where the pairs are and how to read them.

    Args:
        slice: the column whose values make slices; of RewardBench it is ``subset``.
    """

    slice: str | None = None


def parse_sets(value: Mapping[Any, Any], where: str, key: str = "reward.test_sets") -> dict[str, PairSet]:
    """The sets of a config by name: ``{name: dataset}`` or ``{name: {dataset: ..., format: ...}}``.

    Raises:
        ConfigError: an unknown key, a value of a wrong type, a name that is not a plain word.
    """
    sets: dict[str, PairSet] = {}
    for name, entry in value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _TAKEN:
            mend = "Use letters, digits, _ and -; not default, unpaired or data."
            raise ConfigError(where, f"{key}: {name!r} is no name for a set.", mend)
        options = {"dataset": entry} if isinstance(entry, str) else cast("dict[str, Any]", entry)
        if not isinstance(entry, str | dict) or not options.get("dataset"):
            mend = f"Write {key}: {{{name}: pairs.jsonl}}, or {{{name}: {{dataset: pairs.jsonl, format: trl}}}}."
            raise ConfigError(where, f"{key}.{name} names no dataset.", mend)
        sets[name] = parse_options(PairSet, options, where, prefix=f"{key}.{name}.")
    return sets


def check_sets(config: Experiment, look: bool) -> None:
    """Check the sets before anything is trained.

    Args:
        look: also read the first row of sets that are on this machine.
    Raises:
        ConfigError: see :func:`parse_sets`.
        DataError: a set does not exist, or the format of its first row is unknown.
    """
    where = str(config.path)
    for name, options in parse_sets(config.reward.test_sets, where).items():
        check_source(options.dataset, f"{where}: reward.test_sets.{name}")
        if look and Path(options.dataset).expanduser().exists():
            options.rows(f"{where}: reward.test_sets.{name}")
