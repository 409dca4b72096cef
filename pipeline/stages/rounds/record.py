"""Measure the rounds of a loop, decide whether it goes on, and write a ``NAME-loop`` version."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.base.process import say
from pipeline.evaluation.policy.policy_metrics import change_by_prompt
from pipeline.governance.approvals import Approval
from pipeline.reporting.figures.common import save
from pipeline.reporting.figures.rounds import draw_rounds
from pipeline.reporting.round_rows import card
from pipeline.reporting.runs import results_of
from pipeline.results.reward import LabelAgreement, NewPairs
from pipeline.results.rounds import LoopFigures, RoundFigures
from pipeline.results.stats import from_json, to_json
from pipeline.stages.approved_inputs import spelled, with_approvals
from pipeline.stages.rounds.chat_votes import TAKEN_UP
from pipeline.stages.rounds.loop import OVERSIGHT
from pipeline.statistics.bootstrap import Resampling
from pipeline.statistics.intervals import Estimate, has_value
from pipeline.statistics.spelling import interval, number
from pipeline.store.store import Store, Version
from pipeline.workflow.graph import artefact
from pipeline.workflow.rounds import Loop, Round

REJECTED = "rejected"
"""The governance key of the no that ended the loop."""


def publish(loop: Loop, rounds: Sequence[Round], overseen: bool, no: Approval | None = None) -> None:
    """Write the record of the rounds so far.

    Args:
        overseen: whether each policy waits for a person's approval.
        no: of the person who ended the loop.
    """
    figures = figures_of(loop, rounds, no)
    last = rounds[-1]
    roles = {"policy": "ppo", "evaluation": "evaluate", "reward": "reward", "preferences": "collect"}
    parents = [(last.version(stage, role), role) for role, stage in roles.items()]
    parents += [(last.selection.version("evaluate", "evaluation"), "selection")] if loop.selects else []
    before = loop.record(rounds if no else rounds[:-1])
    parents += [(before, "previous")] if before is not None else []
    governance: dict[str, Any] = {OVERSIGHT: overseen, **with_approvals(last.planner.run_of("ppo"))}
    settings = {"rounds": loop.options.rounds, "labels": loop.options.labels, "stop": vars(loop.stops)}
    choices = {"start": loop.options.start, "reference": loop.options.reference, "data": loop.options.data}
    with loop.store.draft(
        artefact(loop.config, "loop"),
        kind="report",
        stage="loop",
        key=loop.record_key(rounds, no and no.hash),
        parents=parents,
        config={"name": loop.config.name, "task": loop.config.task, "loop": {**choices, **settings}},
        seed=loop.config.seed,
        governance=governance | ({REJECTED: [spelled(no)]} if no else {}),
    ) as draft:
        pictures = draw(figures, draft.path)
        draft.stats.update(to_json(figures))
        draft.card = lambda made: card(made, figures, pictures)
    newest = figures.rounds[-1]
    gained = (
        f"gold {interval(newest.gold_over_base, signed=True)} over the base, " if newest.gold_over_base else ""
    )
    kl = "" if newest.kl is None else f" at KL {number(newest.kl.value, 1)} nats"
    say("loop", f"round {newest.number} of {loop.options.rounds}: {gained}{newest.labels} labels{kl}")
    say("loop", f"wrote {draft.version.ref}")


def figures_of(loop: Loop, rounds: Sequence[Round], no: Approval | None = None) -> LoopFigures:
    """The figures of all rounds, and what ends the loop after the last of them."""
    each = [round_figures(loop, round, rounds[i - 1] if i else None) for i, round in enumerate(rounds)]
    data = loop.options.data
    return LoopFigures(
        rounds=each,
        start=loop.options.start,
        reference=loop.options.reference,
        data=data
        if isinstance(data, str)
        else f"the last round's and {loop.options.old_share:g} of the older ones",
        stopped=said_no(no) if no is not None else stop(loop, each[-1]),
        best=best_round(loop, each),
    )


def said_no(no: Approval) -> str:
    """The sentence of a person's no."""
    return f"{no.by} said no to {no.ref}{f': {no.note}' if no.note else ''}"


def stop(loop: Loop, last: RoundFigures) -> str | None:
    """Why the loop ends after this round; None where it may go on."""
    budget, gain, kl = loop.stops.kl_budget, last.selection_gain, last.selection_kl
    if budget is not None and has_value(kl) and kl.value > budget:
        return f"round {last.number} is {number(kl.value, 1)} nats from the base, above kl_budget {budget:g}"
    if loop.stops.no_gain and has_value(gain) and (gain.low if gain.has_limits else gain.value) <= 0:
        than = "the last policy" if last.number > 1 else "the base"
        gained = f"gold {interval(gain, signed=True)} over {than}"
        return f"round {last.number} brings no gain beyond its interval: {gained}"
    return None


def best_round(loop: Loop, rounds: Sequence[RoundFigures]) -> int | None:
    """The round with the highest gold score on the split ``select``, of those within the KL budget."""
    budget = loop.stops.kl_budget
    within = [
        r for r in rounds if budget is None or (r.selection_kl is not None and r.selection_kl.value <= budget)
    ]
    scored = [(r.selection_gold.value, r.number) for r in within if has_value(r.selection_gold)]
    return max(scored)[1] if scored else None


def round_figures(loop: Loop, round: Round, last: Round | None) -> RoundFigures:
    """The figures of one round."""
    evaluated, model = round.version("evaluate", "evaluation"), round.version("reward", "reward")
    evaluation, labelled = results_of(evaluated), labelled_in(round)
    stats, agreement = model.manifest.stats, labelled.manifest.stats.get("agreement_with_gold")
    new = from_json(NewPairs, stats["new_pairs"], model.ref) if "new_pairs" in stats else None
    reward = stats.get("evaluation", {}).get("accuracy")
    best_of_n = evaluation.best_of_n
    line = best_of_n.yardstick.get("gold_score")
    selected = round.selection.version("evaluate", "evaluation") if loop.selects else None
    on_select = None if selected is None else results_of(selected)
    gold, proxy, diversity = evaluation.gold_score, evaluation.score, evaluation.diversity
    return RoundFigures(
        number=round.number,
        policy=round.version("ppo", "policy").ref,
        labels=labels_of(labelled, round.store),
        gold=gold and gold.policy,
        gold_over_base=gold and gold.difference,
        gold_over_last=gain(evaluated, last and last.version("evaluate", "evaluation"), loop.config.seed),
        proxy_over_base=proxy and proxy.difference,
        best_of=line and line.largest.n,
        best_of_over_base=line and best_of_n.rows[-1].gain["gold_score"],
        over_best_of=line and line.largest.difference,
        kl=plain(evaluation.kl_k1),
        closings=diversity.closings.policy if diversity and diversity.closings else None,
        patterns=diversity.patterns.policy if diversity and diversity.patterns else None,
        labels_gold=agreement and from_json(LabelAgreement, agreement, labelled.ref).labels,
        reward_last=new and new.last,
        reward_new=new.held_out if new else None if reward is None else from_json(Estimate, reward, model.ref),
        reward_old=new and new.old_held_out,
        against_people=loop.config.collect.annotator == "discriminator",
        selection_gold=on_select and on_select.gold_score and on_select.gold_score.policy,
        selection_gain=selected
        and gain(selected, last and last.selection.version("evaluate", "evaluation"), loop.config.seed),
        selection_kl=plain(on_select.kl_k1) if on_select else None,
    )


def labelled_in(round: Round) -> Version:
    """The preferences that the round's reward model learnt from, whose stats are of this round's labels alone."""
    learnt = next(p for p in round.version("reward", "reward").manifest.parents if p.role == "preferences")
    return round.store.resolve(learnt.ref)


def labels_of(preferences: Version, store: Store) -> int:
    """Comparisons that were labelled for these preferences, and votes that they took up from conversations."""
    manifest = preferences.manifest
    collected = manifest.stats.get("comparisons") or manifest.stats.get("decided") or 0
    before = next((p.ref for p in manifest.parents if p.role == "previous"), None)
    taken_up = store.resolve(before).manifest.stats.get(TAKEN_UP, 0) if before is not None else 0
    return int(collected) + int(taken_up)


def plain(estimate: Estimate | None) -> Estimate | None:
    """An estimate without what only its own measure has."""
    if estimate is None:
        return None
    return Estimate(estimate.value, estimate.low, estimate.high, estimate.n, estimate.method)


def gain(evaluation: Version, last: Version | None, seed: int) -> Estimate | None:
    """The gold score of a policy less that of the last one, or without one of the base, paired by prompt.

    None without a gold score.
    """
    after = by_prompt(evaluation, "policy_gold_score")
    before = by_prompt(evaluation, "base_gold_score") if last is None else by_prompt(last, "policy_gold_score")
    both = [prompt for prompt in after if prompt in before]
    if not both:
        return None
    return change_by_prompt([before[p] for p in both], [after[p] for p in both], 1, Resampling(seed)).difference


def by_prompt(evaluation: Version, column: str) -> dict[str, float]:
    """The mean of a column of an evaluation's rows for each prompt; empty where the rows have no value."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in evaluation.iter_rows("test", columns=["prompt", column]):
        if row[column] is not None:
            values[row["prompt"]].append(row[column])
    return {prompt: sum(each) / len(each) for prompt, each in values.items()}


def draw(figures: LoopFigures, directory: Path) -> dict[str, str]:
    """Draw the rounds into the directory, as SVG and PNG; returns the title of the PNG."""
    figure = draw_rounds(figures)
    return {} if figure is None else {save(figure, directory, "rounds")[1].name: "The rounds"}
