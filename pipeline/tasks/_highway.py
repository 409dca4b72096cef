"""Drive on highway-env's highway-fast-v0: the state in words, the outcome of a plan, a driver that follows rules.

Time, fuel and safety are physical: metres per second, litres per 100 km, and whether there was a crash.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.tasks._plans import Outcome, Plan

ACTIONS = {"left": "LANE_LEFT", "keep": "IDLE", "right": "LANE_RIGHT", "faster": "FASTER", "slower": "SLOWER"}
"""Our words, in the order of the environment's numbers."""

TOP_SPEED = 30.0
SIGHT = 85.0
"""Metres ahead that the state tells of: in eight seconds at top speed you come some 70 m nearer to the others."""

CRASH = "crash"

# A car of 1,500 kg: rolling resistance 0.01 m g, drag 1/2 rho c_w A with 0.3 and 2.2 m2, petrol of 34 MJ/l, of
# which 28 % reach the wheels. It does not recover energy when it brakes.
MASS, ROLLING, DRAG, LITRE = 1500.0, 147.0, 0.4, 9.5e6


@dataclass(frozen=True)
class Drive:
    """Measured on one drive.

    Attributes:
        metres: along the road.
        seconds: planned, also where a crash ended the drive.
        litres: of petrol.
    """

    metres: float
    seconds: float
    litres: float
    crashed: bool

    @property
    def litres_per_100_km(self) -> float:
        return 1e5 * self.litres / max(self.metres, 1.0)


class Highway:
    """The simulation: three lanes, the others faster or slower than you, none behind.

    Args:
        vehicles, lanes, horizon: see :class:`pipeline.tasks.driving.Task`.
    Raises:
        ConfigError: highway-env is not installed.
    """

    events = (CRASH,)

    def __init__(self, vehicles: int, lanes: int, horizon: int, fuel_weight: float, crash_score: float) -> None:
        try:
            import gymnasium
            import highway_env  # noqa: F401  # registers its environments
        except ModuleNotFoundError as err:
            what = f"needs {err.name}, which is not installed."
            raise ConfigError("task driving", what, "pip install 'rlhf-pipeline[driving]'") from err
        self.fuel_weight, self.crash_score, self.horizon = fuel_weight, crash_score, horizon
        # The observation that highway-env makes by default is a table of pandas, three fifths of a step's time.
        unused = {"type": "AttributesObservation", "attributes": ["time"]}
        config = {"vehicles_count": vehicles, "lanes_count": lanes, "duration": horizon, "observation": unused}
        self.env: Any = gymnasium.make("highway-fast-v0", config=config).unwrapped

    def first_state(self, seed: int) -> str:
        self.env.reset(seed=seed)
        return state_text(self.env)

    def run(self, seed: int, plan: Plan) -> Outcome:
        self.env.reset(seed=seed)
        return self.judged(measured(self.env, iter(plan), self.horizon))

    def judged(self, drive: Drive) -> Outcome:
        """Safety first: a crash is worth the same whenever it happens. Else speed, less fuel."""
        if drive.crashed:
            return Outcome(self.crash_score, frozenset([CRASH]))
        pace = drive.metres / drive.seconds / TOP_SPEED
        return Outcome(pace - self.fuel_weight * drive.litres_per_100_km / 10)

    def ruled(self, seed: int) -> Plan:
        """What a driver does who looks at every second, and follows :func:`rule`."""
        self.env.reset(seed=seed)
        plan: list[int] = []

        def decisions() -> Iterator[int]:
            while True:
                plan.append(rule(self.env))
                yield plan[-1]

        measured(self.env, decisions(), self.horizon)
        keep = list(ACTIONS).index("keep")
        return tuple(plan + [keep] * (self.horizon - len(plan)))  # after a crash


def measured(env: Any, actions: Iterator[int], horizon: int) -> Drive:
    """Drive until the horizon or a crash."""
    ego = env.vehicle
    start, joules = float(ego.position[0]), 0.0
    for _ in range(horizon):
        before, speed = float(ego.position[0]), float(ego.speed)
        _, _, ended, _, _ = env.step(next(actions))
        metres, now = float(ego.position[0]) - before, float(ego.speed)
        drag = ROLLING + DRAG * ((speed + now) / 2) ** 2
        joules += drag * max(metres, 0.0) + max(0.0, MASS / 2 * (now**2 - speed**2))
        if ended:
            break
    return Drive(float(ego.position[0]) - start, float(horizon), joules / LITRE, bool(ego.crashed))


def state_text(env: Any) -> str:
    """``left: 40 m at 22. here: 60 m at 21. right: free. Drive:``

    By lane from the left: how far ahead the next one is, in steps of 5 m, and its speed in m/s.
    """
    ego = env.vehicle
    lanes: list[str] = []
    for lane in range(env.config["lanes_count"]):
        ahead = [
            (float(v.position[0] - ego.position[0]), round(float(v.speed)))
            for v in env.road.vehicles
            if v is not ego and v.lane_index[2] == lane
        ]
        gap, speed = min(ahead, default=(float(SIGHT), 0))
        next_one = "free" if gap >= SIGHT else f"{5 * round(gap / 5)} m at {speed}"
        lanes.append(f"{_beside(lane - ego.lane_index[2])}: {next_one}.")
    return f"{' '.join(lanes)} Drive:"


def _beside(lanes: int) -> str:
    """``left``, ``here``, ``right``; ``2 left`` of a lane that is two away."""
    side = "left" if lanes < 0 else "right"
    return "here" if not lanes else side if abs(lanes) == 1 else f"{abs(lanes)} {side}"


def rule(env: Any) -> int:
    """The action of a driver with rules: go where the road is free for longest, as fast as that allows."""
    ego = env.vehicle
    lane, speed, names = int(ego.target_lane_index[2]), float(ego.speed), list(ACTIONS)
    room = {k: _seconds(env, k) for k in (lane - 1, lane, lane + 1) if 0 <= k < env.config["lanes_count"]}
    better = [k for k in room if k != lane and room[k] > room[lane] + 2 and _clear(env, k)]
    if room[lane] < 8 and better:
        return names.index("left" if max(better, key=lambda k: room[k]) < lane else "right")
    if room[lane] > 6 and speed < TOP_SPEED - 1:
        return names.index("faster")
    return names.index("slower" if room[lane] < 3 else "keep")


def _seconds(env: Any, lane: int) -> float:
    """How long one could drive in a lane at top speed until 10 m behind the next ahead, at most 60 seconds."""
    gap, closing = _room(env, lane)
    return min((gap - 10) / max(closing, 0.1), 60.0)


def _room(env: Any, lane: int) -> tuple[float, float]:
    """(metres to the next ahead in a lane, how fast the gap closes at top speed, in m/s)."""
    ego = env.vehicle
    gaps = [
        (float(v.position[0] - ego.position[0]), TOP_SPEED - float(v.speed))
        for v in env.road.vehicles
        if v is not ego and lane in (v.lane_index[2], v.target_lane_index[2]) and v.position[0] >= ego.position[0]
    ]
    return min(gaps, default=(60.0 * 5, 5.0))


def _clear(env: Any, lane: int) -> bool:
    """Whether nobody is beside, nor near behind, in a lane."""
    ego = env.vehicle
    return all(
        not -15 < float(v.position[0] - ego.position[0]) < 15
        for v in env.road.vehicles
        if v is not ego and lane in (v.lane_index[2], v.target_lane_index[2])
    )
