"""Every key of a config: its type, bounds, default and purpose, in words.

``python -m pipeline keys``, the tables of docs/ and the JSON Schema of the configs are made from them.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.base.plugins import annotator_module, label_section, task_class
from pipeline.workflow.experiment import SECTIONS as STAGE_KEYS
from pipeline.workflow.experiment import SharedKeys
from pipeline.workflow.judges import JudgeOptions
from pipeline.workflow.key_checks.bounds import (
    ANNOTATORS,
    JUDGE,
    PAIRS,
    SAMPLER,
    SECTIONS,
    SEED,
    STOP,
    TASKS,
    Bound,
)
from pipeline.workflow.key_checks.idle_keys import IDLE, Idle
from pipeline.workflow.key_checks.unknown_and_mistyped import accepted, spell, unknown_key
from pipeline.workflow.named_sets import PairSet
from pipeline.workflow.samplers import SamplerOptions
from pipeline.workflow.sections.governance import GovernanceSection
from pipeline.workflow.sections.loop import StopOptions
from pipeline.workflow.sections.trl_help import DECIDED, HELP

TRAINED = ("sft", "reward", "ppo")
SHARED = "config"
"""The place of the keys that are in no section."""


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        hint: its type.
        default: in words; empty where the key is required.
        help: its purpose.
        idle: for a key without effect, what to use instead.
    """

    name: str
    hint: Any
    bound: Bound | None
    default: str
    help: str
    idle: Idle | None = None

    @property
    def allowed(self) -> list[Any]:
        """The accepted values of a key without effect."""
        return accepted(self.hint, self.idle.asks_nothing) if self.idle is not None else []

    @property
    def type(self) -> str:
        """Type and bounds in words."""
        bounds = f", {str(self.bound).removeprefix('a number ')}" if self.bound is not None else ""
        return spell(self.hint) + bounds


def places() -> dict[str, str]:
    """The places of keys, and what the keys there are about."""
    about = {
        SHARED: "the experiment",
        "sft": "the base model",
        "collect": "comparisons, and who chooses",
        "reward": "the reward model",
        "ppo": "the policy",
        "evaluate": "base against policy",
        "report": "the page that says whether the policy got better",
        "loop": "rounds of all stages, each on the policy's own samples",
        "loop.stop": "what ends a loop before its last round",
        "readers": "what each reader has of their own: reward model and policy",
        "label": "what people are asked, and the page they answer on",
        "governance": "what a version must have before it is published",
        "reward.test_sets.NAME": "a set of pairs to measure the reward model on",
        "evaluate.judges[]": "a language model as judge",
        "collect.sampler": "a server that samples the completions",
    }
    about |= {f"task_args of {name}": "the task" for name in TASKS}
    return about | {f"collect.annotator_args of {name}": "the annotator" for name in ANNOTATORS}


def keys_of(place: str) -> list[Key]:
    """The keys of one of :func:`places`, those without effect last.

    Raises:
        ConfigError: there is no such place; the message has the nearest one.
    """
    if place not in places():
        raise unknown_key("keys", place, list(places()))
    cls, bounds = _class_of(place), _bounds_of(place)
    idle = IDLE.get(place, {})
    hints, texts = typing.get_type_hints(cls), _texts(cls)
    fields = [f for f in dataclasses.fields(cls) if f.init]
    # The section's own keys come before TRL's.
    own = {f.name for f in fields if "help" in f.metadata}
    fields.sort(key=lambda f: (f.name in idle, place in TRAINED and f.name not in own))
    return [
        Key(f.name, hints[f.name], bounds.get(f.name), _default(f, place), texts.get(f.name, ""), idle.get(f.name))
        for f in fields
    ]


def find(name: str) -> list[Key]:
    """The keys that ``ppo``, ``ppo.kl_coef`` or ``seed`` mean.

    Raises:
        ConfigError: there is no such key; the message has the nearest one.
    """
    if name in places():
        return keys_of(name)
    place, _, last = name.rpartition(".")
    if place and place not in places():
        raise unknown_key("keys", name, list(places()))
    keys = keys_of(place or SHARED)
    chosen = [key for key in keys if key.name == last]
    if not chosen:
        prefix = f"{place}." if place else ""
        raise unknown_key("keys", name, [prefix + key.name for key in keys] + ([] if place else list(places())))
    return chosen


def _class_of(place: str) -> type[Any]:
    kind, _, name = place.partition(" of ")
    if kind == "task_args":
        return task_class(name, place)
    if kind == "collect.annotator_args":
        return annotator_module(name, place).Options
    others: dict[str, type[Any]] = {
        SHARED: SharedKeys,
        "reward.test_sets.NAME": PairSet,
        "evaluate.judges[]": JudgeOptions,
        "collect.sampler": SamplerOptions,
    }
    others["loop.stop"] = StopOptions
    if place == "governance":
        return GovernanceSection
    if place == "label":
        return label_section()
    return {**STAGE_KEYS, **others}[place]


def _bounds_of(place: str) -> Mapping[str, Bound]:
    kind, _, name = place.partition(" of ")
    if kind == "task_args":
        return TASKS[name]
    if kind == "collect.annotator_args":
        return ANNOTATORS[name]
    others = {
        SHARED: {"seed": SEED},
        "reward.test_sets.NAME": PAIRS,
        "evaluate.judges[]": JUDGE,
        "collect.sampler": SAMPLER,
        "loop.stop": STOP,
    }
    return {**SECTIONS, **others}[place]


def _texts(cls: type[Any]) -> dict[str, str]:
    """The purpose of each key: from its field, from its class's docstring, else from TRL's list."""
    texts = dict(HELP)
    for base in reversed([c for c in cls.__mro__ if dataclasses.is_dataclass(c)]):
        texts |= _documented(inspect.getdoc(base) or "")
    return texts | {f.name: f.metadata["help"] for f in dataclasses.fields(cls) if "help" in f.metadata}


def _documented(doc: str) -> dict[str, str]:
    """The entries of ``Args:`` or ``Attributes:`` of a docstring, as sentences with `code` in them."""
    texts: dict[str, str] = {}
    section = re.search(r"^(?:Args|Attributes):\n((?:[ ]{4}.*\n?|\n)+)", doc, re.MULTILINE)
    for entry in re.split(r"\n(?=[ ]{4}\S)", section.group(1).rstrip() if section else ""):
        names, sign, text = entry.partition(":")
        text = re.sub(r":\w+:`~?([^`]*)`", r"``\1``", " ".join(text.split())).replace("``", "`")
        if sign and text:
            texts |= {name.strip(): text[0].upper() + text[1:] for name in names.split(",")}
    return texts


def _default(field: dataclasses.Field[Any], place: str) -> str:
    if place in TRAINED and field.name in DECIDED:
        return DECIDED[field.name]
    if field.default_factory is not dataclasses.MISSING:
        return in_yaml(field.default_factory())
    return "" if field.default is dataclasses.MISSING else in_yaml(field.default)


def in_yaml(value: object) -> str:
    """A value as a config has it: ``null``, ``false``, ``[2, 4]``."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(in_yaml, typing.cast('list[Any]', value)))}]"
    if isinstance(value, dict):
        entries = typing.cast("dict[str, Any]", value).items()
        return f"{{{', '.join(f'{k}: {in_yaml(v)}' for k, v in entries)}}}"
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'
