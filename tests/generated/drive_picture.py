"""Draw docs/driving.png: one held-out road, and what base, best constant action and policy do on it.

    python -m tests.generated.drive_picture data      the data directory of a run of configs/driving.yaml

It is the first road of the evaluation on which the base crashes and the policy does better than the best constant
action. Needs the extra `driving`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from pipeline.store.store import Store
from pipeline.tasks.driving import Task

OUT = Path("docs/driving.png")
EVERY, BEHIND, AHEAD, LANE = 2, 12, 95, 4.0
YOU, CRASHED, OTHER, ROAD = "#1f6feb", "#cf222e", "#57606a", "#eaeef2"


def frames(
    task: Task, seed: int, plan: tuple[int, ...]
) -> list[tuple[int, list[tuple[float, float, bool]], bool]]:
    """(second, (metres ahead of you, lane, whether it is you) of every car, whether you crashed)."""
    env = task._simulation.env  # type: ignore[attr-defined]
    env.reset(seed=seed)
    taken = [(0, cars(env), False)]
    for second, action in enumerate(plan, 1):
        ended = env.step(action)[2]
        if second % EVERY == 0 or ended:
            taken.append((second, cars(env), bool(env.vehicle.crashed)))
        if ended:
            break
    return taken


def cars(env: Any) -> list[tuple[float, float, bool]]:
    ego = env.vehicle
    return [
        (float(v.position[0] - ego.position[0]), float(v.position[1]) / LANE, v is ego) for v in env.road.vehicles
    ]


def draw_frame(axes: Any, second: int, seen: list[tuple[float, float, bool]], crashed: bool, lanes: int) -> None:
    axes.set_xlim(-BEHIND, AHEAD)
    axes.set_ylim(lanes - 0.5, -0.5)
    axes.set_facecolor(ROAD)
    for line in range(1, lanes):
        axes.axhline(line - 0.5, color="white", linewidth=1.2, linestyle=(0, (6, 5)))
    for ahead, lane, own in seen:
        colour = (CRASHED if crashed else YOU) if own else OTHER
        box = FancyBboxPatch((ahead - 2.5, lane - 0.25), 5, 0.5, boxstyle="round,pad=0,rounding_size=0.2")
        box.set(facecolor=colour, edgecolor="none")
        axes.add_patch(box)
    axes.set(xticks=[], yticks=[])
    axes.set_ylabel(f"{second} s", rotation=0, ha="right", va="center", fontsize=8)
    for side in axes.spines.values():
        side.set_visible(False)


def main(data: str) -> None:
    store = Store(Path(data))
    evaluation = store.resolve("driving-evaluation")
    task = Task(**store.resolve("driving-policy").manifest.config.get("task_args", {}))
    rows = evaluation.rows("test")
    row = next(r for r in rows if r["base_score"] == task.crash_score and r["policy_gold_score"] > 0)
    seed = task._seed_of(row["prompt"])
    best = task._best_constant
    plans = {
        "before (base)": row["base_completion"],
        f"always {task.actions[best[0]]}": task._words(best),
        "after (policy)": row["policy_completion"],
    }
    count = task.horizon // EVERY + 1
    figure, grid = plt.subplots(count, len(plans), figsize=(9.6, 3.6), dpi=110, squeeze=False)
    for column, (name, words) in enumerate(plans.items()):
        plan = task._plan(words)
        taken = frames(task, seed, plan) if plan is not None else []
        score = task.rewards([row["prompt"]], [words])[0]
        for i in range(count):
            if i < len(taken):
                draw_frame(grid[i][column], *taken[i], task.lanes)
            else:
                grid[i][column].axis("off")
        ending = "crash" if taken and taken[-1][2] else f"score {score:.2f}"
        grid[0][column].set_title(f"{name}: {ending}", fontsize=10)
        below = " ".join(words.split())
        figure.text((column + 0.5) / len(plans), 0.015, below, ha="center", fontsize=7.5, color=OTHER)
    figure.subplots_adjust(left=0.04, right=0.995, top=0.92, bottom=0.07, hspace=0.14, wspace=0.12)
    figure.savefig(OUT)
    print(f"{OUT}: seed {seed}. {row['prompt']}")


if __name__ == "__main__":
    main(sys.argv[1])
