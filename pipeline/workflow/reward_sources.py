"""Parse ``ppo.reward``: the sources of scores and their weights. Nothing is imported or loaded.

reward: adapter                              this experiment's reward adapter (the default)
reward: my_module:my_function                a Python function
reward: task                                 the task's own ``rewards``, such as what a simulation gives
reward: other-reward@v000002                 a version, a directory or a Hub id
reward: [adapter, {function: my_module:my_function, weight: 0.1}]
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pipeline.base.errors import ConfigError

Kind = Literal["adapter", "task", "function", "model"]
Combine = Literal["sum", "mean", "min", "mean_minus_std"]

_OPTIONS: dict[str, tuple[str, ...]] = {
    "adapter": ("weight",),
    "task": ("weight",),
    "function": ("weight",),
    "model": ("weight", "label", "revision"),
}
_EXAMPLE = "Write adapter, task, module:function, or a model's directory, version or Hub id."


@dataclass(frozen=True)
class RewardSource:
    """One entry.

    Attributes:
        value: ``own`` for the adapter, ``task`` for the task's rewards, else ``module:function``, or a directory,
            version or Hub id.
        weight: None counts as 1.
        label: of a classifier, the label whose logit is the score.
        revision: of a Hub id.
        key: of the entry in the config, for messages.
    """

    kind: Kind
    value: str
    weight: float | None = None
    label: str | None = None
    revision: str | None = None
    key: str = field(default="ppo.reward", compare=False)


def parse_sources(value: object, where: str, key: str = "ppo.reward") -> list[RewardSource]:
    """Parse the value of ``ppo.reward``: None (the own adapter), a text, a mapping, or a list of these.

    Raises:
        ConfigError: an unknown key, a value of a wrong type, an empty list, the same source twice.
    """
    if value is None:
        return [RewardSource("adapter", "own", key=key)]
    if not isinstance(value, list):
        return [_parse(value, where, key)]
    entries = cast("list[Any]", value)
    if not entries:
        raise ConfigError(where, f"{key} is an empty list.", "Remove it to use the experiment's own adapter.")
    sources = [_parse(entry, where, f"{key}[{i}]") for i, entry in enumerate(entries)]
    seen: set[tuple[str | None, ...]] = set()
    for source in sources:
        same = (source.kind, source.value, source.label, source.revision)
        if same in seen:
            mend = "Give it once, with a weight."
            raise ConfigError(where, f'{source.key}: "{source.value}" is there twice.', mend)
        seen.add(same)
    return sources


def check_function_name(text: str, where: str) -> None:
    """Check that a text has the form ``module:function``.

    Raises:
        ConfigError: it has not.
    """
    name, colon, attribute = text.partition(":")
    if name.endswith(".py") or "/" in name:
        module = ".".join(Path(name.removesuffix(".py")).parts)
        mend = f"Write it as a module: {module}:{attribute or 'function'}"
        raise ConfigError(where, f'function "{text}" names a file.', mend)
    if not colon or not all(p.isidentifier() for p in [*name.split("."), attribute]):
        raise ConfigError(where, f'function "{text}" is not module:function.', "For example: my_rewards:length")


def uses_adapter(sources: Sequence[RewardSource]) -> bool:
    """Whether the experiment's own reward adapter is one of the sources."""
    return any(s.kind == "adapter" for s in sources)


def check_combine(
    combine: str | None, weights: Sequence[float | None], std_coef: float, where: str, key: str = "ppo.reward"
) -> Combine:
    """How scores are combined: ``sum`` by default. ``weights``: one for each source, None where not given.

    Raises:
        ConfigError: it is unknown, takes no such weights, or needs more sources.
    """
    ways = get_args(Combine)
    if combine is not None and combine not in ways:
        raise ConfigError(where, f'{key}_combine "{combine}" is not known.', _hint(str(combine), ways))
    chosen = cast("Combine", combine or "sum")
    if (_number(std_coef, where, f"{key}_std_coef") or 0.0) < 0:
        raise ConfigError(where, f"{key}_std_coef {std_coef} should be 0 or more.")
    if chosen in ("min", "mean_minus_std"):
        if len(weights) < 2:
            what = f"{key}_combine: {chosen} compares scorers, and there is {len(weights)}."
            raise ConfigError(where, what, "Add another.")
        # A weight would change a scorer's scale, on which the minimum and the spread depend.
        if (weight := next((w for w in weights if w is not None), None)) is not None:
            mend = "Remove the weights, or use sum or mean."
            raise ConfigError(where, f"{key}_combine: {chosen} takes no weights, and {weight:g} is given.", mend)
        return chosen
    effective = [1.0 if w is None else w for w in weights]
    if chosen == "mean" and min(effective) < 0:
        mend = "Use sum for a penalty."
        raise ConfigError(where, f"{key}_combine: mean has no use for a weight of {min(effective):g}.", mend)
    if not any(effective):
        mend = "Raise one of them."
        raise ConfigError(where, f"{key}: every one has weight 0, so there is nothing to learn.", mend)
    return chosen


def _parse(entry: object, where: str, key: str) -> RewardSource:
    if isinstance(entry, str):
        return _from_text(entry, where, key)
    if not isinstance(entry, dict):
        raise ConfigError(where, f"{key} = {entry!r} is neither a text nor a mapping.", _EXAMPLE)
    keys = cast("dict[Any, Any]", entry)
    kinds = [k for k in _OPTIONS if k in keys]
    if len(kinds) != 1:
        _refuse_unknown(keys, [*_OPTIONS, "weight", "label", "revision"], where, key)
        what = f"names {' and '.join(kinds)}" if kinds else "names no source"
        raise ConfigError(where, f"{key} {what}.", "Give one of: adapter, task, function, model.")
    kind = cast("Kind", kinds[0])
    _refuse_unknown(keys, [kind, *_OPTIONS[kind]], where, key)
    value = _text(keys[kind], where, f"{key}.{kind}")
    if value is None or (kind in ("adapter", "task") and value != "own"):
        mend = (
            f"Write {{{kind}: own}}, or {{model: ...}} for another one."
            if kind in ("adapter", "task")
            else _EXAMPLE
        )
        raise ConfigError(where, f"{key}.{kind} = {keys[kind]!r} is not known.", mend)
    if kind == "function":
        check_function_name(value, f"{where}: {key}")
    return RewardSource(
        kind,
        "task" if kind == "task" else value,
        _number(keys.get("weight"), where, f"{key}.weight"),
        _text(keys.get("label"), where, f"{key}.label"),
        _text(keys.get("revision"), where, f"{key}.revision"),
        key,
    )


def _from_text(text: str, where: str, key: str) -> RewardSource:
    if not text.strip():
        raise ConfigError(where, f"{key} is empty.", _EXAMPLE)
    if text == "adapter":
        return RewardSource("adapter", "own", key=key)
    if text == "task":
        return RewardSource("task", "task", key=key)
    # No Hub id or reference of a version has a colon; a directory with one can be given as {model: ...}.
    if ":" not in text:
        return RewardSource("model", text, key=key)
    check_function_name(text, f"{where}: {key}")
    return RewardSource("function", text, key=key)


def _refuse_unknown(keys: dict[Any, Any], names: Sequence[str], where: str, key: str) -> None:
    for name in keys:
        if name not in names:
            raise ConfigError(where, f'{key}: unknown key "{name}".', _hint(str(name), names))


def _text(value: object, where: str, key: str) -> str | None:
    # YAML reads a revision such as 1234567 or 12e4567 as a number, and a label such as yes as true.
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise ConfigError(where, f"{key} = {value!r} should be a text.", "Write it in quotes.")
    return value


def _number(value: Any, where: str, key: str) -> float | None:
    if value is None:
        return None
    try:
        # YAML reads 1e-3 as a text.
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(where, f"{key} = {value!r} should be a number.", "For example: 0.5")
    return number


def _hint(word: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f'Did you mean "{near[0]}"?' if near else f"Known: {', '.join(names)}"
