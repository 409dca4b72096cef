"""Draw the pictures of a run, with titles and captions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from pipeline.reporting.figures import common, diversity, frontier, training
from pipeline.reporting.figures import reward as figures_reward
from pipeline.reporting.figures import scores as figures_scores
from pipeline.reporting.figures.readers import draw_readers
from pipeline.reporting.figures.rounds import draw_rounds
from pipeline.reporting.figures.scores import Group, Judgement
from pipeline.reporting.page import Part, Picture
from pipeline.reporting.run_tables import mean_interval
from pipeline.results.metrics import Logged
from pipeline.results.policy import Evaluation
from pipeline.results.readers import ReadersFigures
from pipeline.results.reward import PointwiseMetrics, RewardMetrics
from pipeline.results.rounds import LoopFigures
from pipeline.results.sides import MEASURES, Measure
from pipeline.statistics.intervals import has_value
from pipeline.statistics.spelling import number
from pipeline.store.ppo_history import read_ppo_history
from pipeline.store.version import Version
from pipeline.workflow.experiment import recorded


@dataclass(frozen=True)
class Drawn:
    """A figure with its title and caption; ``name`` is the stem of its files."""

    name: str
    title: str
    figure: Figure
    caption: str
    part: Part = "policy"


def draw(evaluation: Evaluation, version: Version, policy: Version, reward: RewardMetrics | None) -> list[Drawn]:
    """Draw every picture that there is data for; ``version`` is the evaluation's."""
    ppo = recorded("ppo", policy.manifest.config)
    return [
        *of_training(policy, ppo),
        *of_frontier(evaluation, ppo),
        *of_diversity(evaluation),
        *of_scores(evaluation, version),
        *(of_reward(reward) if reward else []),
    ]


def of_rounds(rounds: LoopFigures) -> list[Drawn]:
    """The rounds of the loop that the run is one of."""
    figure = draw_rounds(rounds)
    caption = "Bars: 95 % intervals. Dotted: a coin. The last policy's samples are new to the last reward model."
    return [] if figure is None else [Drawn("rounds", "The rounds", figure, caption, "rounds")]


def of_readers(readers: ReadersFigures) -> list[Drawn]:
    """What each reader gains by a policy of their own."""
    figure = draw_readers(readers)
    caption = "Bars: 95 % intervals. Each row is judged by that reader's own taste."
    return [] if figure is None else [Drawn("readers", "What each reader gains", figure, caption, "readers")]


def saved(drawn: Sequence[Drawn], directory: Path | None) -> list[Picture]:
    """The pictures for a page; they are also written into ``directory``, as SVG and PNG."""
    pictures: list[Picture] = []
    for picture in drawn:
        if directory is None:
            svg = common.as_svg(picture.figure)
        else:
            svg = common.save(picture.figure, directory, picture.name)[0].read_text(encoding="utf-8")
        inline = common.for_page(svg, picture.name)
        pictures.append(Picture(picture.title, inline, picture.caption, picture.part))
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
    if any(r.get(Logged.HELD_SCORES) is not None for r in rows):
        caption += (
            f" Diamonds: means over {ppo.get('eval_prompts', 64)} held-out prompts, always the same ones, with "
            "the same randomness."
        )
        if any(r.get(Logged.CHECK_ERROR) is not None for r in rows):
            caption += " Bars: ± 1.96 standard errors."
    pictures = [Drawn("training", "PPO over time", figure, caption, "training")]
    if training.has_health(rows):
        health = training.training_health(rows)
        caption = f"Means over {of}. What each is and what is healthy: docs/metrics.md."
        pictures.append(Drawn("health", "What else changed", health, caption, "training"))
    return pictures


def of_frontier(evaluation: Evaluation, ppo: Mapping[str, Any]) -> list[Drawn]:
    """Gold and proxy against sqrt(KL), PPO beside best-of-n."""
    is_gold = ppo.get("check") is None
    panels: dict[Measure, frontier.Curves] = {}
    for measure in MEASURES:
        if (drawn := frontier.curves(evaluation, measure, is_gold)).policy is not None:
            panels[measure] = drawn
    # A single point is shown among the results.
    if all(len(c.points) < 2 for c in panels.values()):
        return []
    turned = frontier.turn(evaluation, is_gold)
    figure, caption = frontier.frontier(panels, turned), frontier_caption(evaluation, panels.values(), turned)
    return [Drawn("frontier", "Gain against KL", figure, caption, "frontier")]


def of_diversity(evaluation: Evaluation) -> list[Drawn]:
    """Gain against variety, PPO beside best-of-n."""
    drawn = diversity.trade(evaluation)
    if drawn is None:
        return []
    name = common.LABELS[drawn.measure]
    caption = (
        f"Star: the published policy, its {name} on {evaluation.n} prompts. Squares: best-of-n, joined from the "
        f"base on. Closing sentences are counted at one completion of each of {drawn.prompts} prompts. Further to "
        "the right at one height is better: the same gain, said in more ways."
    )
    if drawn.measure == "score":
        caption += " The proxy is what is optimised here, as the task has no gold score: its gain is no evidence."
    figure = diversity.diversity_frontier(drawn)
    return [Drawn("diversity", "Gain against variety", figure, caption, "diversity")]


def frontier_caption(
    evaluation: Evaluation, panels: Collection[frontier.Curves], turned: frontier.Turn | None
) -> str:
    """The caption of the frontier: its series, and the turning point."""
    n, best, training = evaluation.n, evaluation.best_of_n, evaluation.overoptimisation.training
    sentences = [f"Star: the published policy on {n} prompts, {mean_interval(n)}, paired by prompt."]
    if any(c.best_of_n for c in panels):
        ns = ", ".join(str(row.n) for row in best.rows[1:])
        sentences.append(f"Squares: best-of-n for n = {ns}, on {best.prompts} prompts, with bars of 95 %.")
    if training and any(c.training for c in panels):
        held_out = training.source == "eval"
        whose = "held-out prompts during the run" if held_out else "what it sampled while it trained"
        sentences.append(f"Circles: PPO on {whose}, as gains over its first point.")
    if any(c.others for c in panels):
        sentences.append("Diamonds: other policies evaluated on the same completions of the base.")
    if turned is not None:
        of, kl = turned.of, number(turned.kl, 1)
        sentences.append(f"Shaded: past update {turned.update} (KL {kl}) {of} fell while the proxy rose.")
    elif training and training.turning_point.reason:
        sentences.append(f"No turning point: {training.turning_point.reason}.")
    return " ".join(sentences)


def of_scores(evaluation: Evaluation, version: Version) -> list[Drawn]:
    """Base, best-of-n and PPO on held-out prompts."""
    groups, drawn = groups_of(version), list[Drawn]()
    if judged := judgements(evaluation):
        caption = (
            "Share of prompts on which PPO's completion is preferred to the base's, ties half. Intervals: Wilson; "
            "at equal length (a logistic regression read at a difference of 0) percentile bootstrap over prompts."
        )
        drawn.append(Drawn("win-rate", "Win rate by judge", figures_scores.win_rates(judged), caption))
    sides = [g for g in groups if g.values.get("length")]
    caption = f"Large marks: means of five groups of equal size, from short to long. {correlations(sides)}"
    length = figures_scores.length_against_score(sides)
    drawn.append(Drawn("length", "Length against proxy score", length, caption))
    for measure, name in MEASURES.items():
        change = evaluation.change(measure)
        if change is None:
            continue
        rows = [row for row in evaluation.best_of_n.rows if has_value(row.means.get(measure))]
        best = [(f"best of {rows[-1].n}", rows[-1].means[measure])] if len(rows) > 1 else []
        means = [("base", change.base), *best, ("PPO", change.policy)]
        figure = figures_scores.before_after(means, measure, change.difference)
        caption = f"Means over prompts, 95 %, {mean_interval(evaluation.n)}."
        if best:
            caption += f" Best-of-n is on the first {best[0][1].n} of these prompts."
        drawn.append(Drawn(f"means-{name}", f"Mean {name} score", figure, caption))
        figure = figures_scores.score_distributions(groups, measure)
        caption = "Each group's completions on common bins."
        if len(groups) > 2:
            label = groups[1].label.capitalize()
            caption += f" {label}: for each prompt, the one of so many that the proxy scores highest."
        drawn.append(Drawn(f"distribution-{name}", f"Distribution of the {name} score", figure, caption))
    return drawn


def of_reward(reward: RewardMetrics) -> list[Drawn]:
    """The reward model on its held-out rows."""
    single = isinstance(reward, PointwiseMetrics)
    what = "completions" if single else "pairs"
    caption = (
        f"{reward.n} held-out {what}. On the line it is right as often as it is sure. Below: how many stand "
        "behind each point."
    )
    calibration = figures_reward.reliability(reward.calibration)
    pictures = [Drawn("reliability", "Reliability of the reward model", calibration, caption, "reward")]
    caption = f"Intervals: {'Newcombe' if single else 'Wilson'}. Hatched: what needs no reward model."
    accuracy = figures_reward.reward_accuracy(reward)
    return [*pictures, Drawn("reward-accuracy", "Reward model and baselines", accuracy, caption, "reward")]


def groups_of(evaluation: Version) -> list[Group]:
    """The scores and lengths of base, best-of-n (of its largest n) and PPO."""
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


def judgements(evaluation: Evaluation) -> list[Judgement]:
    """The win rates by gold score, by proxy and by every judge."""
    rates = [
        (f"{name} score", evaluation.win_rate.get(measure), evaluation.length_controlled_win_rate.get(measure))
        for measure, name in MEASURES.items()
    ]
    rates += [(name, j.win_rate, j.length_controlled_win_rate) for name, j in evaluation.judges.items()]
    return [Judgement(name, wins, equal) for name, wins, equal in rates if has_value(wins)]


def correlations(groups: Sequence[Group]) -> str:
    """A sentence with Spearman's correlation of length and proxy score in each group."""
    ranks: list[str] = []
    for group in groups:
        lengths, scores = (np.asarray(group.values[k], float) for k in ("length", "score"))
        if len(lengths) > 2 and np.ptp(lengths) > 0 and np.ptp(scores) > 0:
            rank: Any = spearmanr(lengths, scores)
            ranks.append(f"{group.label} {number(float(rank.statistic), signed=True)} (n = {len(lengths)})")
    return f"Rank correlation: {', '.join(ranks)}." if ranks else ""
