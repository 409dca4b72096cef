"""An experiment: every key of every section of its config, checked and typed. Imports no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.json_values import JsonObject
from pipeline.workflow.key_checks.unknown_and_mistyped import check_types
from pipeline.workflow.sections.collect import CollectSection
from pipeline.workflow.sections.evaluate import EvaluateSection
from pipeline.workflow.sections.governance import GovernanceSection
from pipeline.workflow.sections.loop import LoopSection
from pipeline.workflow.sections.ppo import PPOKeys
from pipeline.workflow.sections.readers import ReadersSection
from pipeline.workflow.sections.report import ReportSection
from pipeline.workflow.sections.reward import RewardKeys
from pipeline.workflow.sections.sft import SFTKeys

STAGES = ("sft", "collect", "reward", "ppo", "evaluate", "report")

SECTIONS: Mapping[str, type[Any]] = {
    "sft": SFTKeys,
    "collect": CollectSection,
    "reward": RewardKeys,
    "ppo": PPOKeys,
    "evaluate": EvaluateSection,
    "report": ReportSection,
    "loop": LoopSection,
    "readers": ReadersSection,
}
"""The keys of each stage, of the loop of them, and of readers' own. Those of ``label`` are the page's:
:func:`pipeline.base.plugins.label_section`."""
NOT_STAGES = ("label", "governance")
"""Sections of no stage."""


def recorded(section: str, config: Mapping[str, Any]) -> JsonObject:
    """A section of a version's manifest, its values converted to their types: there ``1e-1`` is text.

    Keys that only earlier versions of this program had stay as they are.
    """
    values: JsonObject = dict(config.get(section) or {})
    for key, value in values.items():
        with contextlib.suppress(ConfigError):
            values |= check_types(SECTIONS[section], {key: value}, "manifest")
    return values


@dataclass(frozen=True)
class SharedKeys:
    """The keys of a config that are in no section."""

    name: str = field(metadata={"help": "What its versions are called after: NAME-policy, NAME-preferences."})
    task: str = field(
        metadata={"help": "A module of pipeline/tasks or a dotted path: prompts, texts, gold score."}
    )
    base_model: str | None = field(
        default=None,
        metadata={
            "help": "A Hub id, a directory, a version, a GGUF file, or `pypi:NAME==VERSION`, a package that holds "
            "one; without it `sft` trains one from scratch."
        },
    )
    base_revision: str | None = field(default=None, metadata={"help": "Of a Hub id: branch, tag or commit."})
    base_sha256: str | None = field(
        default=None,
        metadata={"help": "What the GGUF file that base_model names must have; of a package, its wheel."},
    )
    seed: int = field(default=0, metadata={"help": "Of everything that is drawn."})
    data_dir: str = field(default="data", metadata={"help": "Where versions are kept."})
    task_args: dict[str, Any] = field(default_factory=dict[str, Any], metadata={"help": "The task's own keys."})


@dataclass(frozen=True, kw_only=True)
class Experiment(SharedKeys):
    """A config with its defaults.

    Attributes:
        written: each section as the file and the overrides have it, before types and defaults. Only the key of
            finished work is made from it (:mod:`pipeline.workflow.work_key`).
        chosen: the written keys of each section, their values converted to their types.
        named_inputs: the ``inputs`` of each section.
    """

    path: Path
    sft: SFTKeys
    collect: CollectSection
    reward: RewardKeys
    ppo: PPOKeys
    evaluate: EvaluateSection
    report: ReportSection
    governance: GovernanceSection
    loop: LoopSection
    readers: ReadersSection
    written: Mapping[str, Mapping[str, Any]]
    chosen: Mapping[str, Mapping[str, Any]]
    named_inputs: Mapping[str, Mapping[str, str]]

    def inputs(self, stage: str) -> dict[str, str]:
        """Versions to read instead of this experiment's own, by role: ``inputs: {reward: other@v2}``."""
        return dict(self.named_inputs.get(stage, {}))

    @property
    def adapts_base(self) -> bool:
        """Whether there is a section ``sft``, which may be empty."""
        return "sft" in self.written

    @property
    def asks_people(self) -> bool:
        """Whether people annotate in ``collect``."""
        return self.collect.annotator == "human"
