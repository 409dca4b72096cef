"""Which pictures a run has: from versions to figures with titles and captions. Drawing is ``figures*.py``'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from pipeline.reporting.figures import common, diversity, frontier, training
from pipeline.reporting.figures import reward as figures_reward
from pipeline.reporting.figures import scores as figures_scores
from pipeline.reporting.figures.scores import Group, Judgement
from pipeline.reporting.page import Part, Picture
from pipeline.reporting.run_tables import mean_interval
from pipeline.statistics.spelling import dig, number
from pipeline.store.ppo_history import read_ppo_history
from pipeline.store.version import Version
from pipeline.workflow.experiment import recorded

MEASURES = {"gold_score": "gold", "score": "proxy"}


@dataclass(frozen=True)
class Drawn:
    """A figure with what stands around it; ``name`` is its files'."""

    name: str
    title: str
    figure: Figure
    caption: str
    part: Part = "policy"


def draw(evaluation: Version, policy: Version, reward: Version | None) -> list[Drawn]:
    """Every picture there is data for."""
    stats, ppo = evaluation.manifest.stats, recorded("ppo", policy.manifest.config)
    found = [*of_training(policy, ppo), *of_frontier(stats, ppo), *of_diversity(stats), *of_scores(evaluation)]
    return found if reward is None else [*found, *of_reward(reward.manifest.stats["evaluation"])]


def saved(drawn: Sequence[Drawn], directory: Path | None) -> list[Picture]:
    """The pictures for a page; their files, SVG and PNG, are written into ``directory``."""
    pictures: list[Picture] = []
    for one in drawn:
        if directory is not None:
            common.save(one.figure, directory, one.name)
        svg = common.inline_svg(one.figure, one.name)
        pictures.append(Picture(one.title, svg, one.caption, one.part))
    return pictures


def of_training(policy: Version, ppo: Mapping[str, Any]) -> list[Drawn]:
    """PPO over time."""
    rows = read_ppo_history(policy.path / "metrics.jsonl")
    if not rows:
        return []
    kept, last = policy.manifest.stats.get("kept"), max(r.get("update", 0) for r in rows)
    figure = training.training_curves(
        rows,
        kl_target=ppo.get("kl_target"),
        kl_budget=ppo.get("kl_budget"),
        published=kept if kept != last else None,
        check_is_gold=ppo.get("check") is None,
    )
    batch = next((r["episode"] / r["update"] for r in rows if r.get("episode") and r.get("update")), None)
    of = "an update's completions" if batch is None else f"the {batch:.0f} completions of an update"
    caption = f"Lines: means over {of}, on training prompts."
    if any(r.get("eval/scores") is not None for r in rows):
        caption += (
            f" Diamonds: means over {ppo.get('eval_prompts', 64)} held-out prompts, always the same ones, with "
            "the same randomness."
        )
        if any(r.get("eval/check_error") is not None for r in rows):
            caption += " Bars: ± 1.96 standard errors."
    found = [Drawn("training", "PPO over time", figure, caption, "training")]
    if training.has_health(rows):
        health = training.training_health(rows)
        caption = f"Means over {of}. What each is and what is healthy: docs/metrics.md."
        found.append(Drawn("health", "What else changed", health, caption, "training"))
    return found


def of_frontier(stats: Mapping[str, Any], ppo: Mapping[str, Any]) -> list[Drawn]:
    """Gold and proxy against sqrt(KL), PPO beside best-of-n."""
    is_gold = ppo.get("check") is None
    panels = {m: frontier.curves(stats, m, is_gold) for m in MEASURES}
    panels = {m: c for m, c in panels.items() if c.policy is not None}
    # One point alone is no frontier; it is in the results.
    if all(len(c.points) < 2 for c in panels.values()):
        return []
    turned = frontier.turn(stats, is_gold)
    figure, caption = frontier.frontier(panels, turned), frontier_caption(stats, panels, turned)
    return [Drawn("frontier", "Gain against KL", figure, caption, "frontier")]


def of_diversity(stats: Mapping[str, Any]) -> list[Drawn]:
    """Gain against variety, PPO beside best-of-n."""
    drawn = diversity.trade(stats)
    if drawn is None:
        return []
    name = common.LABELS[drawn.measure]
    caption = (
        f"Star: the published policy, its {name} on {stats['n']} prompts. Squares: best-of-n, joined from the "
        f"base on. Closing sentences are counted at one completion of each of {drawn.prompts} prompts. Further to "
        "the right at one height is better: the same gain, said in more ways."
    )
    if drawn.measure == "score":
        caption += " The proxy is what is optimised here, as the task has no gold score: its gain is no evidence."
    figure = diversity.diversity_frontier(drawn)
    return [Drawn("diversity", "Gain against variety", figure, caption, "diversity")]


def frontier_caption(
    stats: Mapping[str, Any],
    panels: Mapping[str, frontier.Curves],
    turned: frontier.Turn | None,
) -> str:
    """What the series are of, and where gold turned."""
    said = [f"Star: the published policy on {stats['n']} prompts, {mean_interval(stats['n'])}, paired by prompt."]
    if any(c.best_of_n for c in panels.values()):
        ns = ", ".join(str(row["n"]) for row in stats["best_of_n"]["rows"][1:])
        said.append(
            f"Squares: best-of-n for n = {ns}, on {stats['best_of_n']['prompts']} prompts, with bars of 95 %."
        )
    if any(c.training for c in panels.values()):
        source = dig(stats, "overoptimisation", "training", "source")
        whose = "held-out prompts during the run" if source == "eval" else "what it sampled while it trained"
        said.append(f"Circles: PPO on {whose}, as gains over its first point.")
    if any(c.others for c in panels.values()):
        said.append("Diamonds: other policies evaluated on the same completions of the base.")
    if turned is not None:
        of, kl = turned.of, number(turned.kl, 1)
        said.append(f"Shaded: past update {turned.update} (KL {kl}) {of} fell while the proxy rose.")
    elif reason := dig(stats, "overoptimisation", "training", "turning_point", "reason"):
        said.append(f"No turning point: {reason}.")
    return " ".join(said)


def of_scores(evaluation: Version) -> list[Drawn]:
    """Base, best-of-n and PPO on held-out prompts."""
    stats = evaluation.manifest.stats
    groups = groups_of(evaluation)
    found: list[Drawn] = []
    if judged := judgements(stats):
        caption = (
            "Share of prompts on which PPO's completion is preferred to the base's, ties half. Intervals: Wilson; "
            "at equal length (a logistic regression read at a difference of 0) percentile bootstrap over prompts."
        )
        found.append(Drawn("win-rate", "Win rate by judge", figures_scores.win_rates(judged), caption))
    sides = [g for g in groups if g.values.get("length")]
    caption = f"Large marks: means of five groups of equal size, from short to long. {correlations(sides)}"
    length = figures_scores.length_against_score(sides)
    found.append(Drawn("length", "Length against proxy score", length, caption))
    for measure, name in MEASURES.items():
        means = means_of(stats, measure)
        if not means:
            continue
        figure = figures_scores.before_after(means, measure, stats[measure]["difference"])
        caption = f"Means over prompts, 95 %, {mean_interval(stats['n'])}."
        if len(means) > 2:
            caption += f" Best-of-n is on the first {means[1][1]['n']} of these prompts."
        found.append(Drawn(f"means-{name}", f"Mean {name} score", figure, caption))
        figure = figures_scores.score_distributions(groups, measure)
        caption = "Each group's completions on common bins."
        if len(groups) > 2:
            best = groups[1].label.capitalize()
            caption += f" {best}: for each prompt, the one of so many that the proxy scores highest."
        found.append(Drawn(f"distribution-{name}", f"Distribution of the {name} score", figure, caption))
    return found


def of_reward(measured: Mapping[str, Any]) -> list[Drawn]:
    """The reward model on its held-out rows."""
    single = "auc" in measured
    what = "completions" if single else "pairs"
    caption = (
        f"{measured['n']} held-out {what}. On the line it is right as often as it is sure. Below: how many stand "
        "behind each point."
    )
    calibration = figures_reward.reliability(measured["calibration"], single=single)
    found = [Drawn("reliability", "Reliability of the reward model", calibration, caption, "reward")]
    caption = f"Intervals: {'Newcombe' if single else 'Wilson'}. Hatched: what needs no reward model."
    accuracy = figures_reward.reward_accuracy(measured)
    return [*found, Drawn("reward-accuracy", "Reward model and baselines", accuracy, caption, "reward")]


def groups_of(evaluation: Version) -> list[Group]:
    """Base, best-of-n and PPO with their numbers; best-of-n of its largest n: one completion for each prompt."""
    rows = evaluation.rows("test")

    def column(own: list[dict[str, Any]], name: str) -> list[float] | None:
        values = [row[name] for row in own]
        return None if not values or None in values else values

    base, policy = (
        Group(label, {m: column(rows, f"{side}_{m}") for m in (*MEASURES, "length")})
        for label, side in (("base", "base"), ("PPO", "policy"))
    )
    best = evaluation.rows("test", "best_of_n") if evaluation.has_split("test", "best_of_n") else []
    if not best:
        return [base, policy]
    most = max(row["n"] for row in best)
    best = [row for row in best if row["n"] == most]
    return [base, Group(f"best of {most}", {m: column(best, m) for m in MEASURES}), policy]


def means_of(stats: Mapping[str, Any], measure: str) -> list[tuple[str, Mapping[str, Any]]]:
    """(label, mean) of base, the largest best-of-n and PPO; none where the measure is unknown."""
    if not stats.get(measure):
        return []
    rows = [row for row in dig(stats, "best_of_n", "rows") or [] if common.known(row.get(measure))]
    best = [(f"best of {rows[-1]['n']}", rows[-1][measure])] if len(rows) > 1 else []
    return [("base", stats[measure]["base"]), *best, ("PPO", stats[measure]["policy"])]


def judgements(stats: Mapping[str, Any]) -> list[Judgement]:
    """Gold score, proxy and every other judge that has a win rate."""
    found: list[Judgement] = []
    for measure, name in MEASURES.items():
        wins, equal = (dig(stats, kind, measure) for kind in ("win_rate", "length_controlled_win_rate"))
        if common.known(wins):
            found.append(Judgement(f"{name} score", wins, equal))
    for name, judged in (dig(stats, "judges") or {}).items():
        if common.known(judged["win_rate"]):
            found.append(Judgement(name, judged["win_rate"], judged["length_controlled_win_rate"]))
    return found


def correlations(groups: Sequence[Group]) -> str:
    """Spearman's correlation of length and proxy score for each group, as a sentence."""
    said: list[str] = []
    for group in groups:
        lengths, scores = (np.asarray(group.values[k], float) for k in ("length", "score"))
        if len(lengths) > 2 and np.ptp(lengths) > 0 and np.ptp(scores) > 0:
            found: Any = spearmanr(lengths, scores)
            said.append(f"{group.label} {number(float(found.statistic), signed=True)} (n = {len(lengths)})")
    return f"Rank correlation: {', '.join(said)}." if said else ""
