"""Act in any environment of gymnasium with discrete actions: a plan of actions for the first state in words.

Gymnasium is the optional extra ``driving``; an environment of your own with its interface needs nothing. No reward
model: a plan is carried out, and its outcome is its score (``ppo.reward: task``). See docs/driving.md.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.base.errors import ConfigError, DataError, first_line
from pipeline.scoring.named_functions import load_attribute
from pipeline.tasks._plans import Outcome, Plan, PlanTask
from pipeline.workflow.reward_sources import check_function_name

MOST_NUMBERS = 64
"""Numbers of an observation that are still readable as text."""

EARLY = "ended early"


@dataclass(frozen=True)
class Episode:
    """A plan that was carried out, for ``task_args.score``.

    Attributes:
        rewards: of each step; fewer than the plan has where the episode ended before it.
        terminated: the environment came to an end of its own, such as a crash or a goal.
        truncated: its time was up.
        info: of the last step.
        env: the environment as the last step left it.
    """

    seed: int
    plan: Plan
    rewards: list[float]
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]
    env: Any


@dataclass
class Task(PlanTask):
    """Write ``horizon`` actions, one word each, from the first state of an episode.

    Args:
        env: the environment's id in gymnasium, such as ``CartPole-v1`` (``package:Id-v0`` imports the package
            first), or ``module:name`` of a class or function of your own that makes it.
        actions: a word for each action, in the order of their numbers.
        env_args: what the environment is made with.
        horizon: steps, and words of a completion.
        state: ``module:function`` from (environment, observation) to the state in words; by default the
            observation's numbers.
        score: ``module:function`` from an :class:`Episode` to a number, higher is better; by default the sum of
            the rewards.
        decimals: of the default state.
        unreadable: the score of a text that is no plan; by default 1 less than the seed's worst constant action.
        train_seeds, test_seeds: episodes to learn on and to be judged by.
        corpus_size: texts to train a base on, of drivers that look at nothing.
        completion_tokens: most tokens in a completion; by default four for each word.
    """

    env: str
    actions: list[str]
    env_args: dict[str, Any] = field(default_factory=dict)
    horizon: int = 10
    state: str | None = None
    score: str | None = None
    decimals: int = 2
    unreadable: float | None = None
    train_seeds: int = 400
    test_seeds: int = 200
    corpus_size: int = 4000
    completion_tokens: int = 0
    gold_name: str | None = field(init=False, default="score of the plan, less the best constant action's")

    def __post_init__(self) -> None:
        if unfit := [word for word in self.actions if word.split() != [word]]:
            raise ValueError(f"actions: {unfit[0]!r} is not one word.")
        if len(set(self.actions)) < max(len(self.actions), 2):
            raise ValueError("actions should be two or more words, each a different one.")
        for key in ("horizon", "train_seeds", "test_seeds", "corpus_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} = {getattr(self, key)} should be 1 or more.")
        for key, function in (("state", self.state), ("score", self.score)):
            if function is not None:
                check_function_name(function, f"task_args.{key}")
        self.completion_tokens = self.completion_tokens or 4 * self.horizon + 1

    def simulation(self) -> Gymnasium:
        return Gymnasium(self)

    def _unreadable_score(self, seed: int) -> float:
        return super()._unreadable_score(seed) if self.unreadable is None else self.unreadable


class Gymnasium:
    """The simulation. Anything with gymnasium's ``reset``, ``step`` and ``action_space.n`` is an environment.

    Raises:
        ConfigError: it cannot be made, or does not fit the options.
    """

    events = (EARLY,)

    def __init__(self, options: Task) -> None:
        self.options, self.where = options, f"task environment, {options.env}"
        self.env = make(options.env, options.env_args, self.where)
        space = getattr(self.env, "action_space", None)
        count = getattr(space, "n", None)
        if count is None:
            raise ConfigError(self.where, f"its actions are {space}, no numbered alternatives.", "Wrap it in one.")
        if int(count) != len(options.actions):
            what = f"it has {count} actions, and task_args.actions names {len(options.actions)}."
            raise ConfigError(self.where, what, "Name each, in the order of their numbers.")
        self.first_action = int(getattr(space, "start", 0))
        self.state = self.numbers if options.state is None else named(options.state, "state")
        self.score = total if options.score is None else named(options.score, "score")
        self.begins_alike = self.ends_alike = False

    def first_state(self, seed: int) -> str:
        """Raises ConfigError where equal seeds begin differently, or the state is no text."""
        text = self._first_state(seed)
        if not self.begins_alike and text != self._first_state(seed):
            what = f"seed {seed} does not begin in the same state twice, so no outcome belongs to a prompt."
            raise ConfigError(self.where, what, "Its reset has to draw everything from the seed.")
        self.begins_alike = True
        return text

    def run(self, seed: int, plan: Plan) -> Outcome:
        """Raises ConfigError where the same plan has another outcome a second time, or a score is no number."""
        outcome = self._run(seed, plan)
        if not self.ends_alike and outcome != self._run(seed, plan):
            what = f"seed {seed} has another outcome for the same plan a second time."
            raise ConfigError(self.where, what, "Its steps have to draw everything from the seed.")
        self.ends_alike = True
        return outcome

    def numbers(self, _: Any, observation: Any) -> str:
        """The numbers of an observation, as they stand."""
        import numpy as np

        values = np.asarray(observation)
        if values.dtype.kind not in "biuf" or values.size > MOST_NUMBERS:
            shown = f"{values.size} numbers" if values.dtype.kind in "biuf" else type(observation).__name__
            what = f"an observation ({shown}) is no text of its own."
            raise ConfigError(self.where, what, "Name a function that writes one: task_args.state.")
        # + 0.0: a rounded -0.001 would be a word of its own, "-0".
        written = [f"{round(float(v), self.options.decimals) + 0.0:g}" for v in values.ravel()]
        return f"State: {' '.join(written)}. Actions:"

    def _first_state(self, seed: int) -> str:
        observation, _ = self._reset(seed)
        text = self._call("task_args.state", self.state, self.env, observation)
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(self.where, f"task_args.state returned {text!r:.60}, not a text.")
        return text

    def _run(self, seed: int, plan: Plan) -> Outcome:
        self._reset(seed)
        rewards, terminated, truncated, info = list[float](), False, False, dict[str, Any]()
        for number in plan:
            stepped = self._call("step", self.env.step, self.first_action + number)
            if not isinstance(stepped, tuple) or len(stepped) != 5:
                what = "step returned no (observation, reward, terminated, truncated, info)."
                raise ConfigError(self.where, what, "It has gym's old interface: wrap it in gymnasium's.")
            _, reward, terminated, truncated, info = stepped
            rewards.append(self._number(reward, "the reward"))
            if terminated or truncated:
                break
        episode = Episode(seed, plan, rewards, bool(terminated), bool(truncated), info, self.env)
        score = self._number(self._call("task_args.score", self.score, episode), "task_args.score")
        return Outcome(score, frozenset([EARLY] if len(rewards) < len(plan) else []))

    def _reset(self, seed: int) -> tuple[Any, Any]:
        begun = self._call("reset", self.env.reset, seed=seed)
        if not isinstance(begun, tuple) or len(begun) != 2:
            what = "reset returned no (observation, info)."
            raise ConfigError(self.where, what, "It has gym's old interface: wrap it in gymnasium's.")
        return begun

    def _number(self, value: Any, name: str) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise DataError(self.where, f"{name} is {value!r:.60}, not a finite number.")
        return number

    def _call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (ConfigError, DataError):
            raise
        except Exception as err:
            raise DataError(self.where, f"{name} raised {type(err).__name__}: {first_line(err)}.") from err


def total(episode: Episode) -> float:
    """The sum of the rewards."""
    return sum(episode.rewards)


def make(name: str, args: Mapping[str, Any], where: str) -> Any:
    """The environment, made by ``module:name`` or of gymnasium's registry.

    Raises:
        ConfigError: gymnasium is not installed, or does not know it, or it cannot be made so.
    """
    if name.partition(":")[2].isidentifier():
        maker = named(name, "env")
    else:
        try:
            import gymnasium
        except ModuleNotFoundError as err:
            raise ConfigError(
                where, "gymnasium is not installed.", "pip install 'rlhf-pipeline[driving]'"
            ) from err
        maker = functools.partial(gymnasium.make, name)
    try:
        return maker(**args)
    except Exception as err:
        what = f"cannot be made: {type(err).__name__}: {first_line(err)}."
        raise ConfigError(where, what, "Check task_args.env and env_args.") from err


def named(name: str, key: str) -> Callable[..., Any]:
    """What ``task_args.KEY`` names as ``module:name``."""
    return load_attribute(name, f"task_args.{key}")
