"""One turn with an environment behind HTTP, in OpenEnv's protocol: the prompt is its question.

``POST /reset`` with a seed returns ``{"observation": {...}, "reward": null, "done": false}``; ``POST /step`` with
``{"action": {...}}`` the same, with the reward. No reward model: the environment's reward is the score
(``ppo.reward: task``). OpenEnv's own server makes a new environment for every HTTP request, so that its ``/step``
knows nothing of the ``/reset`` before it; ``echo`` is for that. See docs/driving.md.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal
from urllib.parse import urlsplit

from pipeline.base.errors import DataError, ModelError
from pipeline.formats.messages import Message
from pipeline.tasks import Split
from pipeline.tasks._chat import chat_render
from pipeline.tasks._plans import FIRST_TEST_SEED
from pipeline.tasks._pool import PromptPool, pool_by_name

LARGEST_REPLY = 4 * 2**20
"""Bytes."""

REFUSED = "refused"


@dataclass
class Task:
    """Answer what the environment asks; its reward for the answer is the score.

    Args:
        url: the server's, such as http://127.0.0.1:8000.
        prompt: the field of the first observation that is the question; ``a.b`` is b in a.
        action: the field of the action that is the answer.
        action_args: further fields of every action.
        echo: fields of the first observation that every action sends back, for a server that keeps no episode
            between two requests.
        episode: ``check`` asks ``/state`` whether the server keeps the episode, where nothing is echoed; ``kept``
            believes it.
        refused_score: the score of an answer that the environment refuses (HTTP 422), such as an empty one;
            without it such an answer ends the run.
        token_env: the environment variable with a bearer token; without one none is sent.
        timeout: seconds for one request.
        attempts: how often a request is tried that fails for reasons that may pass.
        train_seeds, test_seeds: questions to learn on and to be judged by.
        completion_tokens: most tokens in an answer.
        chat_template: ``base``, or a tokenizer, whose chat template writes the question as a user's turn; None
            writes it out plainly.
    """

    url: str
    prompt: str
    action: str
    action_args: dict[str, Any] = field(default_factory=dict)
    echo: list[str] = field(default_factory=list)
    episode: Literal["check", "kept"] = "check"
    refused_score: float | None = None
    token_env: str | None = None
    timeout: float = 30.0
    attempts: int = 4
    train_seeds: int = 200
    test_seeds: int = 100
    completion_tokens: int = 48
    chat_template: str | None = None
    gold_name: str | None = field(init=False, default="reward of the environment")

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url {self.url!r} is not an address such as http://127.0.0.1:8000")
        if parts.username or parts.password or parts.query:
            raise ValueError(
                "url holds a user, a password or a query; a token belongs into the variable token_env names"
            )
        for key in ("train_seeds", "test_seeds", "attempts", "timeout", "completion_tokens"):
            if getattr(self, key) <= 0:
                raise ValueError(f"{key} = {getattr(self, key)} should be above 0.")
        if self.action in self.action_args:
            raise ValueError(f"action_args: {self.action!r} is the answer's own field.")

    def corpus(self, seed: int) -> None:
        """There is none: the base is a model that can read the questions."""

    def prompts(self, split: Split, n: int | None, seed: int) -> Sequence[str]:
        """See :class:`pipeline.tasks.Task`.

        Raises:
            ModelError: the server cannot be reached, or does not answer in the protocol.
        """
        return self._pool.draw(split, n, seed)

    def gold_scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """The environment's reward for each completion, asked once for each prompt and completion.

        Raises:
            DataError: a prompt is not one of the environment's.
            ModelError: see :meth:`prompts`.
        """
        return [self._judged(p, c)[0] for p, c in zip(prompts, completions, strict=True)]

    rewards = gold_scores

    def events(self, prompts: Sequence[str], completions: Sequence[str]) -> dict[str, list[bool]]:
        """Which answers the environment refused."""
        return {REFUSED: [self._judged(p, c)[1] for p, c in zip(prompts, completions, strict=True)]}

    def references(self, prompts: Sequence[str]) -> dict[str, list[str]]:
        """None: what another would answer is not known."""
        return {}

    def _judged(self, prompt: str, completion: str) -> tuple[float, bool]:
        """(score, whether the answer was refused)."""
        if prompt not in self._episodes:
            what = f"the prompt {prompt[:60]!r} is a question of none of its seeds."
            raise DataError(self._server.where, what, "Its questions have changed: run  make collect  again.")
        if (prompt, completion) not in self._known:
            seed, question, first = self._episodes[prompt]
            reward = self._step(seed, question, first, completion.strip())
            if reward is None and self.refused_score is None:
                what = f"refuses the answer {completion[:60]!r} (HTTP 422)."
                raise ModelError(
                    self._server.where, what, "Set task_args.refused_score to what such an answer is worth."
                )
            self._known[prompt, completion] = (
                (self.refused_score or 0.0, True) if reward is None else (reward, False)
            )
        return self._known[prompt, completion]

    def _step(self, seed: int, question: str, first: Mapping[str, Any], answer: str) -> float | None:
        """The reward; None for an answer that was refused."""
        action = {**self.action_args, **{name: first[name] for name in self.echo}, self.action: answer}
        body = {"action": action, "seed": seed, "episode_id": str(seed)}
        if self.echo:
            return self._server.step(body)

        def begin() -> None:
            again = text_at(self._server.reset(seed), self.prompt, self._server.where)
            if again != question:
                what = f"asks something else for seed {seed} a second time."
                raise ModelError(self._server.where, what, "Its reset has to draw everything from the seed.")

        return self._server.step(body, begin)

    @cached_property
    def _server(self) -> Server:
        return Server(self.url, self.token_env, self.timeout, self.attempts)

    @cached_property
    def _known(self) -> dict[tuple[str, str], tuple[float, bool]]:
        return {}

    @cached_property
    def _episodes(self) -> dict[str, tuple[int, str, Mapping[str, Any]]]:
        """(seed, question, first observation) by prompt; of equal questions the first."""
        if not self.echo and self.episode == "check":
            self._server.require_episodes()
        render = None if self.chat_template is None else chat_render(self.chat_template)
        episodes = dict[str, tuple[int, str, Mapping[str, Any]]]()
        for seed in [*range(self.train_seeds), *range(FIRST_TEST_SEED, FIRST_TEST_SEED + self.test_seeds)]:
            first = self._server.reset(seed)
            question = text_at(first, self.prompt, self._server.where)
            if missing := [name for name in self.echo if name not in first]:
                what = f'the first observation has no "{missing[0]}" to echo; it has {", ".join(first)}.'
                raise ModelError(self._server.where, what, "Check task_args.echo.")
            turns: list[Message] = [{"role": "user", "content": question}]
            prompt = question if render is None else render(turns, "")[0]
            episodes.setdefault(prompt, (seed, question, first))
        return episodes

    @cached_property
    def _pool(self) -> PromptPool:
        train = [prompt for prompt, (seed, _, _) in self._episodes.items() if seed < FIRST_TEST_SEED]
        test = [prompt for prompt, (seed, _, _) in self._episodes.items() if seed >= FIRST_TEST_SEED]
        return pool_by_name(train, test, self._server.where)


class Server:
    """An environment's server. Requests are made one at a time: a server may keep a single episode."""

    def __init__(self, url: str, token_env: str | None, timeout: float, attempts: int, wait: float = 0.5) -> None:
        self.url, self.where = url.rstrip("/"), f"environment {url}"
        self.timeout, self.attempts, self.wait = timeout, attempts, wait
        self.token = os.environ.get(token_env, "") if token_env else ""

    def reset(self, seed: int) -> dict[str, Any]:
        """The first observation of an episode.

        Raises:
            ModelError: no answer in the protocol.
        """
        return self._observation(
            self._tried(lambda: self._sent("POST", "/reset", {"seed": seed, "episode_id": str(seed)}))
        )

    def step(self, body: Mapping[str, Any], begin: Any = None) -> float | None:
        """The reward of the only step; None where the environment refuses the action.

        Args:
            begin: called before every attempt, so that none is a second step of the same episode.
        Raises:
            ModelError: no answer in the protocol; there is no reward, or the episode goes on.
        """

        def once() -> dict[str, Any] | None:
            if begin is not None:
                begin()
            return self._sent("POST", "/step", body)

        answer = self._tried(once)
        if answer is None:
            return None
        self._observation(answer)
        if answer.get("done") is not True:
            what = f'the episode is not over after one step ("done" is {answer.get("done")!r:.20}).'
            raise ModelError(self.where, what, "This task is for environments of one turn.")
        reward = answer.get("reward")
        if not isinstance(reward, int | float) or not math.isfinite(reward):
            raise ModelError(self.where, f'/step: "reward" is {reward!r:.40}, not a finite number.')
        return float(reward)

    def require_episodes(self) -> None:
        """Raises ModelError where the server does not keep an episode from one request to the next."""
        probe = "rlhf-pipeline-probe"
        self._tried(lambda: self._sent("POST", "/reset", {"seed": 0, "episode_id": probe}))
        state = self._tried(lambda: self._sent("GET", "/state", None))
        if state is None or state.get("episode_id") != probe:
            what = (
                "/state does not know the episode that /reset began, as OpenEnv's own server, which makes a new "
                "environment for every HTTP request: its /step would judge an answer by another question."
            )
            mend = (
                "Name in task_args.echo the fields of the observation that an action sends back, or, where you "
                "know that it keeps the episode, set task_args.episode: kept"
            )
            raise ModelError(self.where, what, mend)

    def _observation(self, answer: dict[str, Any] | None) -> dict[str, Any]:
        observation = None if answer is None else answer.get("observation")
        if not isinstance(observation, dict):
            raise ModelError(
                self.where, 'the answer has no object "observation".', "It is not OpenEnv's protocol."
            )
        return observation

    def _tried(self, request: Any) -> dict[str, Any] | None:
        problem = ""
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.wait * 2 ** (attempt - 1))
            try:
                return request()
            except _Transient as err:
                problem = str(err)
        what = f"no answer in {self.attempts} attempts: {problem}."
        raise ModelError(self.where, what, "Run again when it answers.")

    def _sent(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """The JSON object that is answered; None for HTTP 422, and for 404 of ``/state``."""
        import httpx

        raw = b""
        # json= cannot encode half a surrogate pair, which a completion may hold.
        content = None if body is None else json.dumps(body).encode()
        try:
            with self._client.stream(method, self.url + path, content=content) as response:
                for chunk in response.iter_bytes():
                    raw += chunk
                    if len(raw) > LARGEST_REPLY:
                        raise ModelError(self.where, f"{path} answered more than {LARGEST_REPLY >> 20} MB.")
        except httpx.HTTPError as err:  # refused, reset, timed out, cut short
            raise _Transient(str(err) or type(err).__name__) from err
        status = response.status_code
        if status in (408, 425, 429) or status >= 500:
            raise _Transient(f"{path}: HTTP {status}")
        if (status == 422 and path == "/step") or (status in (404, 405) and path == "/state"):
            return None
        if not response.is_success:
            said = " ".join(raw.decode("utf-8", "replace").split())[:120]
            mend = "Set task_args.url to the final address." if 300 <= status < 400 else "Check task_args.url."
            raise ModelError(self.where, f"{path}: HTTP {status}. {said}", mend)
        try:
            answer = json.loads(raw)
        except ValueError as err:
            raise ModelError(
                self.where, f"{path}: the answer is no JSON.", "It is not OpenEnv's protocol."
            ) from err
        if not isinstance(answer, dict):
            raise ModelError(self.where, f"{path}: the answer is no JSON object.", "It is not OpenEnv's protocol.")
        return answer

    @cached_property
    def _client(self) -> Any:
        """A client that follows no redirect, which would carry the token to another host."""
        import httpx

        headers = {"Content-Type": "application/json", "User-Agent": "rlhf-pipeline"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return httpx.Client(headers=headers, timeout=self.timeout)


class _Transient(Exception):
    """Another attempt may succeed."""


def text_at(observation: Mapping[str, Any], path: str, where: str) -> str:
    """The text at ``path`` of an observation.

    Raises:
        ModelError: there is none, or it is no text.
    """
    value: Any = observation
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            there = ", ".join(value) if isinstance(value, Mapping) else type(value).__name__
            raise ModelError(
                where, f'the observation has no "{path}"; there is: {there}.', "Check task_args.prompt."
            )
        value = value[part]
    if not isinstance(value, str) or not value.strip():
        raise ModelError(
            where, f'"{path}" of the observation is {value!r:.40}, not a text.', "Check task_args.prompt."
        )
    return value
