"""One YAML per experiment: shared keys, then one section per stage. Overrides: ``ppo.kl_coef=0.1``.

This module knows keys and types, not what they mean: a stage passes in its dataclass. It leaves out resolving
TRL's own defaults for the device, which needs torch and lives with the trainers.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline.base.errors import ConfigError
from pipeline.base.files import expand_home
from pipeline.workflow.bounds import check_numbers
from pipeline.workflow.idle_keys import check_idle
from pipeline.workflow.idle_together import check_together, without_taken_back
from pipeline.workflow.secret_values import refuse_secrets
from pipeline.workflow.yaml_text import parse_yaml, read_yaml

T = TypeVar("T")

MAX_NAME = 100
"""Characters of an experiment's name: files are called after it, and file systems stop at 255."""

STAGES = ("sft", "collect", "reward", "ppo", "evaluate", "report")
SECTIONS = (*STAGES, "label")

# What people are asked and when it is enough: it decides what ``collect`` writes where people annotate. The other
# keys of ``label`` are about the page, and may change between two evenings of labelling.
LABEL_LEARNING = frozenset(
    ["mode", "votes", "enough", "aggregate", "margin", "rank_up_to", "dataset", "columns", "gold"]
)

# Settings that change what is shown or how often it is saved, never what is learnt: two runs that differ only
# here are the same run, so these stay out of the idempotency key.
NOT_LEARNING = frozenset(
    [
        *("report_to", "run_name", "logging_steps", "logging_strategy", "disable_tqdm"),
        *("save_steps", "save_total_limit", "save_strategy", "save_seconds", "output_dir"),
        *("num_sample_generations", "serve"),
        *("dataset_num_proc", "dataloader_num_workers"),
    ]
)


@dataclasses.dataclass(frozen=True)
class Config:
    """A parsed experiment. ``sections`` holds each stage's keys as given, before defaults."""

    path: Path
    name: str
    task: str
    base_model: str | None = None
    base_revision: str | None = None
    seed: int = 0
    data_dir: str = "data"
    task_args: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    sections: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict[str, dict[str, Any]])

    def given(self, stage: str) -> dict[str, Any]:
        """The keys of one section as the user wrote them, less ``inputs``, which names versions."""
        return {k: v for k, v in self.sections.get(stage, {}).items() if k != "inputs"}

    def inputs(self, stage: str) -> dict[str, str]:
        """Versions to read instead of those this experiment made, by role: ``inputs: {reward: other@v2}``."""
        given: dict[str, Any] = {"inputs": self.sections.get(stage, {}).get("inputs") or {}}
        return check_types(_Inputs, given, str(self.path), f"{stage}.")["inputs"]

    def options(self, stage: str, cls: type[T]) -> T:
        """The section of ``stage`` as an instance of its dataclass.

        Raises:
            ConfigError: an unknown key (with the nearest known one) or a value of a wrong type.
        """
        return parse_options(cls, self.given(stage), str(self.path), prefix=f"{stage}.")

    def learning_part(self, stage: str) -> dict[str, Any]:
        """What of the config decides the stage's output: its own section, the task, the seed."""
        own = {k: v for k, v in self.given(stage).items() if k not in NOT_LEARNING}
        part: dict[str, Any] = {"task": self.task, "task_args": self.task_args, "seed": self.seed, stage: own}
        if stage == "collect" and own.get("annotator") == "human":
            part["label"] = {k: v for k, v in self.given("label").items() if k in LABEL_LEARNING}
        # Scores of an evaluation come from where PPO's came from, also when its policy is somebody else's.
        if stage == "evaluate" and self.given("ppo").get("reward") is not None:
            keys = ("reward", "reward_combine", "reward_std_coef")
            part["ppo"] = {k: v for k, v in self.given("ppo").items() if k in keys}
        return part


@dataclasses.dataclass
class _Inputs:
    inputs: dict[str, str]


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read ``path`` and apply ``key=value`` overrides (values are YAML).

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown or would have no effect, a value has the
            wrong type, is a number outside its bounds or a secret.
    """
    path = Path(path)
    raw = _read_config(path)
    given = list(overrides)
    _refuse_lost(given)
    for override in given:
        _apply_override(raw, override)
    refuse_secrets(raw, str(path))
    raw = expanded(raw, str(path))
    check_numbers(raw, str(path))
    check_idle(raw, str(path))
    check_together(raw, str(path))
    raw = without_taken_back(raw)
    sections: dict[str, dict[str, Any]] = {}
    shared: dict[str, Any] = {}
    known = [f.name for f in dataclasses.fields(Config) if f.name not in ("path", "sections")]
    for key, value in raw.items():
        if key in SECTIONS:
            if not isinstance(value, dict | None):
                raise ConfigError(str(path), f'"{key}" is a section and holds keys, not {_short(value)}.')
            sections[key] = typing.cast("dict[str, Any]", value) or {}
        elif key in known:
            shared[key] = value
        else:
            raise _unknown_key(str(path), key, [*known, *SECTIONS])
    for key in ("name", "task"):
        if key not in shared:
            raise ConfigError(str(path), f'"{key}" is missing.', f"Add a line  {key}: ...  at the top.")
    values = check_types(Config, shared, str(path))
    if not _is_plain_name(values["name"]):
        raise ConfigError(
            str(path),
            f"name {values['name'][:200]!r} becomes a directory name.",
            f"Use letters, digits, . _ and -, up to {MAX_NAME}, beginning with a letter, a digit or _.",
        )
    if "$" in values.get("data_dir", "") or not values.get("data_dir", "data").strip():
        mend = "Write the path itself, or ~/ for your home."
        raise ConfigError(str(path), f"data_dir {values['data_dir']!r} is no path; variables are not read.", mend)
    return Config(path=path, sections=sections, **values)


def parse_options(cls: type[T], values: Mapping[str, Any], where: str, prefix: str = "") -> T:
    """Build the dataclass ``cls`` from ``values``, checking names and types.

    Args:
        where: the file, for messages.
        prefix: what stands before a key in messages, such as ``"ppo."``.
    Raises:
        ConfigError: see :meth:`Config.options`; also what the dataclass's own ``__post_init__`` refuses.
    """
    checked = check_types(cls, values, where, prefix)
    try:
        return cls(**checked)
    except (ValueError, TypeError) as err:
        raise ConfigError(where, f"{prefix.rstrip('.') or cls.__name__}: {err}") from err


def check_types(cls: type, values: Mapping[str, Any], where: str, prefix: str = "") -> dict[str, Any]:
    """``values`` with every one converted to its field's type (YAML reads ``1e-3`` as a string).

    Raises:
        ConfigError: an unknown key or a value that does not convert.
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    hints = typing.get_type_hints(cls)
    out: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise _unknown_key(where, prefix + str(key), [prefix + f for f in fields])
        out[key] = _convert(value, hints[key], where, prefix + key)
    return out


def _convert(value: Any, hint: Any, where: str, key: str) -> Any:
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    if value is None and _allows_none(hint):
        return None
    # A bool is an int to Python; `epochs: yes` is a mistake, not 1.
    if isinstance(value, bool) and not _mentions(hint, bool):
        raise ConfigError(where, f"{key} = {_short(value)} should be {_spell(hint)}.")
    try:
        config = ConfigDict(arbitrary_types_allowed=True)
        return TypeAdapter(hint, config=config).validate_python(value)
    except ValidationError as err:
        said = err.errors()[0]["msg"]
        raise ConfigError(where, f"{key} = {_short(value)} should be {_spell(hint)} ({said}).") from err
    except Exception:  # a hint pydantic cannot read, as TrainingArguments has some: its own __post_init__ checks
        return value


def _short(value: Any) -> str:
    """``value`` as a message shows it."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _allows_none(hint: Any) -> bool:
    return hint is Any or type(None) in typing.get_args(hint)


def _mentions(hint: Any, kind: type) -> bool:
    return hint in (kind, Any) or any(_mentions(a, kind) for a in typing.get_args(hint))


def _spell(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if hint in names:
        return names[hint]
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(_spell(a) for a in typing.get_args(hint) if a is not type(None))
    if hint is dict or typing.get_origin(hint) is dict:
        return "a mapping (key: value)"
    if hint is list or typing.get_origin(hint) is list:
        return "a list"
    return getattr(hint, "__name__", str(hint))


def _unknown_key(where: str, key: str, known: list[str]) -> ConfigError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f'Did you mean "{near[0]}"?' if near else f"Known: {', '.join(sorted(known)[:12])} ..."
    return ConfigError(where, f'unknown key "{key[:120]}".', hint)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        near = ", ".join(sorted(str(p) for p in Path("configs").glob("*.yaml"))) or "none in configs/"
        raise ConfigError(str(path), "no such config file.", f"There are: {near}")
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError(str(path), "is empty or not a mapping of keys to values.")
    _check_sections(typing.cast("dict[Any, Any]", raw), str(path))
    return typing.cast("dict[str, Any]", _text_keys(raw))


def _check_sections(raw: Mapping[Any, Any], where: str) -> None:
    """Raises ConfigError for a key of the whole or of a section that is no text; below, it may be a number."""
    sections: list[tuple[str, Mapping[Any, Any]]] = [
        (f"{key}.", typing.cast("dict[Any, Any]", value)) for key, value in raw.items() if isinstance(value, dict)
    ]
    for prefix, keys in [("", raw), *sections]:
        for key in keys:
            if not isinstance(key, str):
                raise ConfigError(where, f"{prefix}{key} is no key: a key is text.")


def _refuse_lost(overrides: Sequence[str]) -> None:
    """Raises ConfigError where a later override would take away what an earlier one gives."""
    for i, later in enumerate(overrides):
        key = later.partition("=")[0]
        for earlier in overrides[:i]:
            before = earlier.partition("=")[0]
            if earlier != later and (before == key or before.startswith(f"{key}.")):
                raise ConfigError("command line", f"{later!r} takes away {earlier!r}.", "Give one of them.")


def replaced(overrides: Iterable[str], by: Sequence[str]) -> list[str]:
    """``overrides`` with ``by`` in the place of those of the same keys: for who decides these keys itself."""
    keys = {override.partition("=")[0] for override in by}
    return [*(o for o in overrides if o.partition("=")[0] not in keys), *by]


def expanded(value: Any, where: str) -> Any:
    """``value`` with every text in it that begins with ``~/`` or ``~name/`` below that home, as a shell has it.

    Done once, for all keys, so that no two readers of a path take it for two places.

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
    """Keys as texts at every depth, spelled as JSON does: 0 and true of ``choices: {0: a, true: b}``."""
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
    value = _text_keys(parse_yaml(text, f"command line, {key}", lines=False))
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


def _is_plain_name(name: str) -> bool:
    """Whether files, directories, references and command lines can bear the name; ``-x`` would be an option."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) is not None and len(name) <= MAX_NAME
