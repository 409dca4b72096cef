"""Drive on a highway: a plan of eight seconds, judged by safety, time and fuel of what then happens.

The road and the others are simulated by highway-env (MIT), the optional extra ``driving``. No reward model: a
completion is driven, and the outcome is its score (``ppo.reward: task``). See docs/driving.md.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.tasks._highway import ACTIONS, Highway
from pipeline.tasks._plans import Plan, PlanTask


@dataclass
class Task(PlanTask):
    """Write what to do in each of the next seconds: left, keep, right, faster or slower.

    The score of a drive is its mean speed over 30 m/s, less ``fuel_weight`` for every 10 l/100 km; of a crash, and
    of a text that is no plan, it is ``crash_score``.

    Args:
        horizon: seconds, and words of a completion.
        vehicles: the others on the road.
        lanes: of the road.
        fuel_weight: what 10 l/100 km cost.
        crash_score: of a crash, whenever it happens; lower than anything that is driven to the end.
        train_seeds, test_seeds: episodes of the environment to learn on and to be judged by.
        corpus_size: texts to train a base on.
        careful_share: share of the corpus that is written by the driver with rules, who looks at every second. The
            others look at nothing.
    """

    horizon: int = 8
    vehicles: int = 4
    lanes: int = 3
    fuel_weight: float = 0.05
    crash_score: float = -1.0
    train_seeds: int = 800
    test_seeds: int = 120
    corpus_size: int = 6000
    careful_share: float = 0.5
    actions: list[str] = field(init=False, default_factory=lambda: list(ACTIONS))
    completion_tokens: int = field(init=False)
    gold_name: str | None = field(init=False, default="score of the drive, less the best constant action's")

    def __post_init__(self) -> None:
        self._ruled_plans: dict[int, Plan] = {}
        self.completion_tokens = self.horizon + 1  # and the token that ends it

    def simulation(self) -> Highway:
        return Highway(self.vehicles, self.lanes, self.horizon, self.fuel_weight, self.crash_score)

    def references(self, prompts: Sequence[str]) -> dict[str, list[str]]:
        """Those of :class:`PlanTask`, and the driver with rules, who looks again at every second."""
        ruled = [self._words(self._ruled(self._seed_of(prompt))) for prompt in prompts]
        return {**super().references(prompts), "rules, looking at every second": ruled}

    def _demonstration(self, prompt: str, rng: random.Random) -> str:
        if rng.random() < self.careful_share:
            return prompt + self._words(self._ruled(self._seed_of(prompt)))
        return super()._demonstration(prompt, rng)

    def _ruled(self, seed: int) -> Plan:
        simulation = self._simulation
        assert isinstance(simulation, Highway)
        if seed not in self._ruled_plans:
            self._ruled_plans[seed] = simulation.ruled(seed)
        return self._ruled_plans[seed]

    def _unreadable_score(self, seed: int) -> float:
        return self.crash_score
