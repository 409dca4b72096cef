"""An environment with gymnasium's interface, a corridor with a goal and a pit, and some that misbehave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Two:
    n: int = 2
    start: int = 0


@dataclass
class Corridor:
    """Field 0 is the pit (-5, the end), field 6 the goal (+10, the end); every other step costs 1.

    An episode begins on one of fields 1 to 5, ``seed % 5 + 1``; action 0 goes left, action 1 right. ``tired`` is a
    number of the observation that makes the first states of different seeds differ.
    """

    action_space: Any = field(default_factory=Two)
    place: int = 0

    def reset(self, *, seed: int) -> tuple[list[float], dict[str, Any]]:
        self.place = seed % 5 + 1
        return [self.place, seed / 4], {}

    def step(self, action: int) -> tuple[list[float], float, bool, bool, dict[str, Any]]:
        self.place += 1 if action == self.action_space.start + 1 else -1
        reward = {0: -5.0, 6: 10.0}.get(self.place, -1.0)
        return [self.place, 0.0], reward, self.place in (0, 6), False, {"place": self.place}


class Forgetful(Corridor):
    """Draws its first state from nowhere."""

    resets = 0

    def reset(self, *, seed: int) -> tuple[list[float], dict[str, Any]]:
        Forgetful.resets += 1
        return super().reset(seed=seed + Forgetful.resets)


class Moody(Corridor):
    """Draws its rewards from nowhere."""

    steps = 0

    def step(self, action: int) -> tuple[list[float], float, bool, bool, dict[str, Any]]:
        observation, _, *rest = super().step(action)
        Moody.steps += 1
        return observation, float(Moody.steps), *rest  # type: ignore[return-value]


class Old(Corridor):
    """Has gym's interface of before 0.26."""

    def step(self, action: int) -> Any:
        observation, reward, done, _, info = super().step(action)
        return observation, reward, done, info


class Continuous(Corridor):
    def __init__(self) -> None:
        super().__init__(action_space="Box(-1.0, 1.0, (1,), float32)")


class FromOne(Corridor):
    """Its actions are 1 and 2."""

    def __init__(self) -> None:
        super().__init__(action_space=Two(start=1))


class Broken(Corridor):
    def step(self, action: int) -> Any:
        if self.place == 3:
            return [0.0], float("nan"), False, False, {}
        raise KeyError("no such wheel")


class Picture(Corridor):
    def reset(self, *, seed: int) -> Any:
        return [[0.0] * 84] * 84, {}


def in_words(env: Corridor, observation: list[float]) -> str:
    return f"You are on field {env.place}, with {observation[1]:g}. Go:"


def place_reached(episode: Any) -> float:
    return float(episode.info["place"])
