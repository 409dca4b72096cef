"""Parse ``collect.sampler``, the server that samples completions. Nothing is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from pipeline.base.errors import ConfigError
from pipeline.workflow.judges import check_address
from pipeline.workflow.key_checks.unknown_and_mistyped import parse_options

NOT_YOURS = frozenset(
    ["model", "messages", "prompt", "stream", "n", "seed", "temperature", "max_tokens", "n_predict"]
)
"""Fields of a request that other keys decide: the sampler's, ``collect``'s, the seed and the task."""

NOT_SAMPLED = frozenset(["concurrency", "rate", "timeout", "attempts", "key_env"])
"""Keys of how the server is talked to, which no completion depends on."""


@dataclass(frozen=True)
class SamplerOptions:
    """The keys of ``collect.sampler``.

    Attributes:
        url: what ``/completions`` is appended to, such as http://localhost:8000/v1.
        model: the model's name at the server.
        api: ``completions`` continues the prompt as this experiment writes it, with its own chat template, as PPO
            will; ``chat`` sends turns, which the server writes with its template.
        key_env: the environment variable that holds the key; without one none is sent.
        concurrency: most requests at a time.
        rate: most requests a second; null sets no limit.
        timeout: seconds to wait for the server.
        attempts: how often a request is tried that fails for reasons that may pass.
        request: fields sent besides; null takes one of ours away.
    """

    url: str
    model: str
    api: Literal["completions", "chat"] = "completions"
    key_env: str = "OPENAI_API_KEY"
    concurrency: int = 32
    rate: float | None = None
    timeout: float = 120.0
    attempts: int = 8
    request: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        check_address(self.url)
        if not self.model.strip():
            raise ValueError("model is empty")
        if ours := sorted(NOT_YOURS & self.request.keys()):
            raise ValueError(f"request: {', '.join(ours)} is not yours to set there")


def parse_sampler(value: Any, where: str) -> SamplerOptions | None:
    """Parse ``collect.sampler``; None where the completions are sampled by this process.

    Raises:
        ConfigError: it has unknown, missing or wrong keys.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        mend = "Write {url: http://localhost:8000/v1, model: NAME}"
        raise ConfigError(where, f"collect.sampler = {value!r:.120} is no server.", mend)
    return parse_options(SamplerOptions, cast("Mapping[str, Any]", value), where, "collect.sampler.")


def sampled_by(written: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of ``collect.sampler`` that completions depend on."""
    return {k: v for k, v in written.items() if k not in NOT_SAMPLED}
