"""Read an experiment's config: a YAML with shared keys and a section per stage, and overrides of it.

Every stage checks the whole config, so that a mistake in ``evaluate`` is found before ``sft`` runs.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.cli import as_called
from pipeline.base.errors import ConfigError, PipelineError
from pipeline.base.files import expand_home
from pipeline.base.json_values import JsonObject
from pipeline.base.plugins import annotator_module, label_section, task_class
from pipeline.sources.gguf_names import PACKAGE, parse_package
from pipeline.workflow.experiment import NOT_STAGES, SECTIONS, Experiment, SharedKeys
from pipeline.workflow.graph import check_inputs, reward_sources
from pipeline.workflow.judges import parse_judges
from pipeline.workflow.key_checks.bounds import check_numbers
from pipeline.workflow.key_checks.idle_keys import check_idle
from pipeline.workflow.key_checks.idle_together import check_together, without_taken_back
from pipeline.workflow.key_checks.secret_values import refuse_secrets
from pipeline.workflow.key_checks.unknown_and_mistyped import build, check_types, parse_options, short, unknown_key
from pipeline.workflow.reward_sources import check_combine, parse_sources
from pipeline.workflow.samplers import parse_sampler
from pipeline.workflow.sections.governance import GovernanceSection
from pipeline.workflow.sections.loop import StopOptions
from pipeline.workflow.sections.training import saving_defaults
from pipeline.workflow.yaml_text import parse_yaml, read_yaml

MAX_NAME = 100
"""Characters of an experiment's name, which is part of file names; file systems allow 255."""


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read ``path``, apply ``key=value`` overrides (values are YAML), and check every key of every section.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown or has no effect, a value has the wrong
            type, is out of bounds or a secret, or keys contradict each other. Where the file alone would do, it
            names the command line.
    """
    path, overrides = Path(path), list(overrides)
    try:
        return _load(path, overrides)
    except ConfigError as err:
        if not overrides or err.where != str(path) or not _loads(path):
            raise
        raise ConfigError("command line", err.what, err.mend) from err


def _loads(path: Path) -> bool:
    """Whether a config is right without overrides."""
    try:
        _load(path, [])
    except PipelineError:
        return False
    return True


def _load(path: Path, overrides: Sequence[str]) -> Experiment:
    raw = _read_config(path)
    _refuse_lost(overrides)
    for override in overrides:
        _apply_override(raw, override)
    where = str(path)
    refuse_secrets(raw, where)
    raw = without_taken_back(expanded(raw, where))
    check_numbers(raw, where)
    check_idle(raw, where)
    shared, sections = _split(raw, where)
    shared = _shared(shared, where)
    inputs = {name: _inputs(sections.get(name, {}), where, f"{name}.") for name in SECTIONS}
    written = {
        name: {k: v for k, v in keys.items() if k != "inputs" or name in NOT_STAGES}
        for name, keys in sections.items()
    }
    chosen = _chosen(written, where)
    with_inputs = {name: {**keys, "inputs": inputs.get(name)} for name, keys in chosen.items()}
    check_together({**shared, **with_inputs}, where)
    experiment = Experiment(
        path=path,
        written=written,
        chosen=chosen,
        named_inputs=inputs,
        **shared,
        **{name: _section(name, chosen[name], where) for name in SECTIONS},
        governance=build(GovernanceSection, chosen["governance"], where, "governance."),
    )
    _check_parts(experiment)
    return experiment


def load_governance(path: str | None, overrides: Sequence[str]) -> GovernanceSection:
    """The section ``governance`` of a config; without a file, of overrides alone.

    Raises:
        ConfigError: see :func:`load_config`.
    """
    if path is not None:
        return load_config(path, overrides).governance
    raw: dict[str, Any] = {}
    for override in overrides:
        _apply_override(raw, override)
    where = "command line"
    if other := next((key for key in raw if key != "governance"), None):
        raise ConfigError(where, f"{other} is no key of governance.", "Other keys need --config.")
    return parse_options(GovernanceSection, raw.get("governance") or {}, where, "governance.")


def _split(raw: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The shared keys of a config, and its sections."""
    names = [f.name for f in dataclasses.fields(SharedKeys)]
    shared: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}
    for key, value in raw.items():
        if key in SECTIONS or key in NOT_STAGES:
            if not isinstance(value, dict | None):
                raise ConfigError(where, f'"{key}" is a section and holds keys, not {short(value)}.')
            sections[key] = typing.cast("dict[str, Any]", value) or {}
        elif key in names:
            shared[key] = value
        else:
            raise unknown_key(where, key, [*names, *SECTIONS, *NOT_STAGES])
    return shared, sections


def _shared(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check the shared keys."""
    for key in ("name", "task"):
        if key not in values:
            raise ConfigError(where, f'"{key}" is missing.', f"Add a line  {key}: ...  at the top.")
    checked = check_types(SharedKeys, values, where)
    if not _is_plain_name(checked["name"]):
        mend = f"Use letters, digits, . _ and -, up to {MAX_NAME}, beginning with a letter, a digit or _."
        raise ConfigError(where, f"name {checked['name'][:200]!r} becomes a directory name.", mend)
    _check_gguf(checked, where)
    if "$" in checked.get("data_dir", "") or not checked.get("data_dir", "data").strip():
        mend = "Write the path itself, or ~/ for your home."
        what = f"data_dir {checked['data_dir']!r} is not a path; variables are not expanded."
        raise ConfigError(where, what, mend)
    return checked


def _check_gguf(shared: Mapping[str, Any], where: str) -> None:
    """Check the form of a package that base_model names, and of base_sha256."""
    source, sha256 = shared.get("base_model") or "", shared.get("base_sha256")
    if source.startswith(PACKAGE):
        parse_package(source)
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ConfigError(
            where, f"base_sha256 {short(sha256)} is no sha256.", "It has 64 hexadecimal digits, small."
        )


@dataclasses.dataclass
class _Inputs:
    inputs: dict[str, str]


def _inputs(section: Mapping[str, Any], where: str, prefix: str) -> dict[str, str]:
    return check_types(_Inputs, {"inputs": section.get("inputs") or {}}, where, prefix)["inputs"]


def _chosen(written: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, dict[str, Any]]:
    """The written keys of every section, their values converted to their types."""
    chosen = {name: check_types(cls, written.get(name, {}), where, f"{name}.") for name, cls in SECTIONS.items()}
    chosen["governance"] = check_types(GovernanceSection, written.get("governance", {}), where, "governance.")
    if "label" in written:
        chosen["label"] = check_types(label_section(), written["label"], where, "label.")
        build(label_section(), chosen["label"], where, "label.")
    return chosen


def _section(name: str, chosen: Mapping[str, Any], where: str) -> Any:
    """The section with its defaults, some of which depend on the chosen keys."""
    saving = saving_defaults(chosen) if name in ("sft", "reward", "ppo") else {}
    return build(SECTIONS[name], {**saving, **chosen}, where, f"{name}.")


def _check_parts(config: Experiment) -> None:
    """Check reward sources, judges and test sets, and the keys of the task and the annotator."""
    where = str(config.path)
    parse_options(task_class(config.task, where), config.task_args, where, "task_args.")
    args = config.collect.annotator_args
    if not config.asks_people:
        options = annotator_module(config.collect.annotator, where).Options
        parse_options(options, args, where, "collect.annotator_args.")
    elif args:
        mend = "Move the keys to the section  label:"
        raise ConfigError(where, "collect.annotator_args: people have none.", mend)
    sources = reward_sources(config)
    asked = [*sources, *reward_sources(config, "check")]
    own = next((source for source in asked if source.kind == "task"), None)
    if own is not None and not hasattr(task_class(config.task, where), "rewards"):
        mend = "Its gold score is never trained on. Leave ppo.reward out, or write module:function."
        raise ConfigError(where, f"{own.key}: task {config.task} has no rewards of its own.", mend)
    check_combine(config.ppo.reward_combine, [s.weight for s in sources], config.ppo.reward_std_coef, where)
    if judges := reward_sources(config, "check"):
        check_combine(None, [s.weight for s in judges], 1.0, where, "ppo.check")
    if (unsure := config.chosen.get("label", {}).get("reward")) is not None:
        parse_sources(unsure, where, "label.reward")
    parse_judges(config.evaluate.judges, where)
    if parse_sampler(config.collect.sampler, where) is not None and "policy" in config.inputs("collect"):
        mend = "Serve the policy and leave the input out, or leave collect.sampler out."
        raise ConfigError(where, "collect.inputs.policy has no effect beside collect.sampler.", mend)
    parse_options(StopOptions, config.loop.stop, where, "loop.stop.")
    if config.reward.test_sets:  # their formats take a while to import
        from pipeline.workflow.named_sets import parse_sets

        parse_sets(config.reward.test_sets, where)
    check_inputs(config)


def _read_config(path: Path) -> JsonObject:
    if not path.is_file():
        near = ", ".join(sorted(str(p) for p in Path("configs").glob("*.yaml")))
        mend = f"There are: {near}" if near else f"Make a project that has some: {as_called('pipeline init')} DIR"
        raise ConfigError(str(path), "no such config file.", mend)
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError(str(path), "is empty or not a mapping of keys to values.")
    _check_sections(typing.cast("dict[Any, Any]", raw), str(path))
    return typing.cast("JsonObject", _text_keys(raw))


def _check_sections(raw: Mapping[Any, Any], where: str) -> None:
    """Raise ConfigError for a top-level key or a section's key that is not text; deeper ones may be numbers."""
    sections: list[tuple[str, Mapping[Any, Any]]] = [
        (f"{key}.", typing.cast("dict[Any, Any]", value)) for key, value in raw.items() if isinstance(value, dict)
    ]
    for prefix, keys in [("", raw), *sections]:
        for key in keys:
            if not isinstance(key, str):
                raise ConfigError(where, f"{prefix}{key} is no key: a key is text.")


def _refuse_lost(overrides: Sequence[str]) -> None:
    """Raise ConfigError where a later override would undo an earlier one."""
    for i, later in enumerate(overrides):
        key = later.partition("=")[0]
        for earlier in overrides[:i]:
            before = earlier.partition("=")[0]
            if earlier != later and (before == key or before.startswith(f"{key}.")):
                raise ConfigError("command line", f"{later!r} takes away {earlier!r}.", "Give one of them.")


def replaced(overrides: Iterable[str], by: Sequence[str]) -> list[str]:
    """``overrides`` with those of the same keys replaced by ``by``."""
    keys = {override.partition("=")[0] for override in by}
    return [*(o for o in overrides if o.partition("=")[0] not in keys), *by]


def expanded(value: object, where: str) -> Any:
    """Expand ``~/`` and ``~name/`` at the beginning of every text in ``value``, as a shell does.

    Done once for all keys, so that all readers of a path agree.

    Raises:
        ConfigError: there is no such user.
    """
    if isinstance(value, dict):
        entries = typing.cast("dict[Any, Any]", value)
        return {k: expanded(v, where) for k, v in entries.items()}
    if isinstance(value, list):
        return [expanded(v, where) for v in typing.cast("list[Any]", value)]
    return expand_home(value, where) if isinstance(value, str) else value


def _text_keys(value: Any) -> Any:
    """Convert keys to text at every depth, as JSON spells them: 0 and true in ``choices: {0: a, true: b}``."""
    if isinstance(value, list):
        return [_text_keys(item) for item in typing.cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    words = {True: "true", False: "false", None: "null"}
    return {
        words[k] if k is None or isinstance(k, bool) else str(k): _text_keys(v)
        for k, v in typing.cast("dict[Any, Any]", value).items()
    }


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key or not all(key.split(".")):
        raise ConfigError("command line", f"{override!r} is not key=value.", "For example: ppo.kl_coef=0.1")
    value = _text_keys(_parse_value(key, text))
    *parents, last = key.split(".")
    node = raw
    for part in parents:
        child = node.setdefault(part, {})
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise ConfigError("command line", f"{override!r}: {part!r} holds a value, not keys.")
        node = typing.cast("dict[str, Any]", child)
    node[last] = value


def _parse_value(key: str, text: str) -> Any:
    """The value of an override; ConfigError where it is not YAML, saying so where a shell has cut it in two."""
    try:
        return parse_yaml(text, f"command line, {key}", lines=False)
    except ConfigError as err:
        table, row = (text.count(opening) != text.count(closing) for opening, closing in ("{}", "[]"))
        if not table and not row:
            raise
        like, without = ("{a: 1}", f"{key}.a=1") if table else ("[1, 2]", f"{key}=[1,2]")
        mend = f"A value with blanks needs quotes of its own: make ARGS=\"'{key}={like}'\". Or write {without}"
        raise ConfigError(err.where, err.what, mend) from err


def _is_plain_name(name: str) -> bool:
    """Whether a name can be part of file names, references and command lines; ``-x`` would be an option."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) is not None and len(name) <= MAX_NAME
