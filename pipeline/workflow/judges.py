"""Parse ``evaluate.judges``, the judges of an evaluation besides the reward. Nothing is loaded or asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from pipeline.base.errors import ConfigError
from pipeline.workflow.key_checks.unknown_and_mistyped import parse_options
from pipeline.workflow.reward_sources import RewardSource, parse_sources

CRITERION = "Which completion continues the prompt better: more helpful, more coherent, better written?"


@dataclass(frozen=True)
class JudgeOptions:
    """One ``{llm: ...}`` entry of ``evaluate.judges``.

    Attributes:
        llm: the model's name at the endpoint.
        url: what ``/chat/completions`` is appended to, such as http://localhost:8000/v1.
        key_env: the environment variable that holds the key; without one none is sent.
        criterion: what "better" means, a sentence or two.
        prompts: how many prompts are judged, the first ones; None for all.
        concurrency: most requests at a time.
        timeout: seconds to wait for the endpoint.
        attempts: how often a request is tried that fails for reasons that may pass.
        request: what is sent besides model and messages.
    """

    llm: str
    url: str
    key_env: str = "OPENAI_API_KEY"
    criterion: str = CRITERION
    prompts: int | None = None
    concurrency: int = 4
    timeout: float = 60.0
    attempts: int = 6
    request: dict[str, Any] = field(default_factory=lambda: {"temperature": 0, "max_tokens": 16})

    def __post_init__(self) -> None:
        check_address(self.url)
        for key in ("concurrency", "attempts", "timeout"):
            if getattr(self, key) <= 0:
                raise ValueError(f"{key} {getattr(self, key)} is not above 0")
        if self.prompts is not None and self.prompts < 1:
            raise ValueError(f"prompts {self.prompts} is below 1")
        if {"model", "messages", "stream"} & self.request.keys():
            raise ValueError("request: model, messages and stream are not yours to set there")


def check_address(url: str) -> None:
    """Check the address of a server, which is recorded in versions as all settings are.

    Raises:
        ValueError: it is none, or it holds a secret.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(f"url {url!r} is not an address such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise ValueError("url holds a user, a password or a query; a key belongs into the variable key_env names")


@dataclass(frozen=True)
class Judge:
    """An entry of ``judges``.

    Attributes:
        entry: as in the config.
        source: the parsed scorer or language model.
    """

    name: str
    entry: Any
    source: RewardSource | JudgeOptions


def parse_judges(entries: Sequence[Any], where: str) -> list[Judge]:
    """Parse ``evaluate.judges``.

    Raises:
        ConfigError: an entry is neither a scorer nor a language model, has a weight, or is there twice.
    """
    judges: list[Judge] = []
    for i, entry in enumerate(entries):
        key = f"evaluate.judges[{i}]"
        if isinstance(entry, dict) and "llm" in entry:
            if "url" not in entry:
                raise ConfigError(where, f"{key}: url is missing.", "Such as http://localhost:8000/v1")
            options = parse_options(JudgeOptions, cast("dict[str, Any]", entry), where, f"{key}.")
            judges.append(Judge(options.llm, entry, options))
            continue
        if entry is None or isinstance(entry, list):
            mend = "Write a scorer, or {llm: ..., url: ...}"
            raise ConfigError(where, f"{key} = {entry!r} is not a judge.", mend)
        source = parse_sources(cast("object", entry), where, key)[0]
        if source.weight is not None:
            raise ConfigError(where, f"{key}.weight: a judge has none.", "Remove it.")
        judges.append(Judge("adapter" if source.kind == "adapter" else source.value, entry, source))
    names = [judge.name for judge in judges]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ConfigError(where, f'evaluate.judges[{i}]: "{name}" is there twice.', "Give it once.")
    return judges
