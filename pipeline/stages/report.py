"""report: write a page that says whether the policy got better, with its pictures."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pipeline.evaluation.policy.headline import verdict
from pipeline.health.facts import examine_version
from pipeline.labelling.conversation import shown_prompt, turns
from pipeline.labelling.session.project import renderer_of
from pipeline.reporting import page, pictures, runs
from pipeline.reporting.accountability import Behind, answers
from pipeline.reporting.reader_rows import reader_table, sample_table
from pipeline.reporting.round_rows import round_table
from pipeline.reporting.samples import Sample, choose_samples, with_pictures
from pipeline.reporting.trees import branches
from pipeline.results.readers import ReadersFigures
from pipeline.results.reward import PointwiseMetrics
from pipeline.results.rounds import LoopFigures
from pipeline.results.stats import from_json
from pipeline.stages.scrutiny.sample_courses import follow_scores
from pipeline.store.store import Version
from pipeline.workflow.graph import reward_sources
from pipeline.workflow.stage import Run, say


def report(run: Run) -> None:
    """Write a ``report`` version: report.html and its pictures."""
    options = run.config.report
    version, policy = run.version("evaluation"), run.version("policy")
    evaluation = runs.results_of(version)
    reward_version = run.version("reward") if "reward" in run.inputs else None
    reward = runs.reward_of(reward_version)
    doctor = examine_version(run.store, policy)
    loop = run.version("loop") if "loop" in run.inputs else None
    rounds = None if loop is None else from_json(LoopFigures, loop.manifest.stats, loop.ref)
    drawn = pictures.draw(evaluation, version, policy, reward)
    drawn += [] if rounds is None else pictures.of_rounds(rounds)
    own = run.version("readers") if "readers" in run.inputs else None
    readers = None if own is None else from_json(ReadersFigures, own.manifest.stats, own.ref)
    drawn += [] if readers is None else pictures.of_readers(readers)
    rows = version.rows("test")
    samples = choose_samples([sample(r, i) for i, r in enumerate(rows)], options.samples, run.config.seed)
    samples, courses_note = follow_scores(run, samples, rows)
    samples = with_pictures(samples, renderer_of(run.config))
    made_with = runs.settings(policy, run.store.lineage(policy).ancestors(), version)
    preferences = run.version("preferences") if "preferences" in run.inputs else None
    behind = Behind.of(run.store, policy, version, reward_version, preferences)
    beside = [(v, role) for role, v in (("screening", behind.screening), ("fairness", behind.fairness)) if v]
    with run.draft("report", parents=beside) as draft:
        html = page.render_page(
            page.Report(
                title=run.config.name,
                evaluation=evaluation,
                reward=reward,
                pictures=pictures.saved(drawn, draft.path),
                samples=samples,
                courses_note=courses_note,
                answers=answers(run.store, behind),
                lineage=branches("", run.store.lineage(version)),
                differences=runs.parent_differences(run.store, policy),
                config={"name": run.config.name} | made_with,
                checkup=page.Checkup(doctor.findings, doctor.figures.update, doctor.blind, doctor.facts.stopped),
                warnings=warnings(reward_version, {f.rule for f in doctor.findings}),
                facts=facts(run, evaluation.gold_name),
                rounds=rounds and round_table(rounds),
                readers=[reader_table(readers), sample_table(readers)] if readers else (),
            )
        )
        (draft.path / "report.html").write_text(html, encoding="utf-8")
        draft.stats.update(minutes=minutes(run))
    path = draft.version.path / "report.html"
    for sentence in verdict(evaluation)[1]:
        say("report", sentence)
    say("report", f"open {path}")


def sample(row: dict[str, Any], number: int) -> Sample:
    """A row of the evaluation as a sample of the page."""
    return Sample(
        shown_prompt(row["prompt"]),
        row["base_completion"],
        row["policy_completion"],
        row["base_score"],
        row["policy_score"],
        row["base_gold_score"],
        row["policy_gold_score"],
        not row["base_ended"],
        not row["policy_ended"],
        number=number,
        turns=parsed if len(parsed := turns(row["prompt"])) > 1 else (),
    )


def warnings(version: Version | None, rules: Collection[str] = ()) -> list[str]:
    """What a reader should know of the reward model before believing the numbers, besides the doctor's findings.

    Args:
        rules: of the doctor's findings.
    """
    reward, notes = runs.reward_of(version), list[str]()
    if version is None or reward is None:
        return []
    by_doctor = {"reward-at-chance", "reward-below-baseline"} & set(rules)
    if not reward.clears_baselines and not by_doctor:
        notes.append(reward.verdict)
    dropped = sum(version.manifest.stats["dropped_for_length"].values())
    if dropped:
        what = "Rows" if isinstance(reward, PointwiseMetrics) else "Pairs"
        notes.append(f"{what} longer than reward.max_length, which were left out: {dropped}.")
    return notes


def facts(run: Run, gold_name: str | None) -> list[tuple[str, str]]:
    """Short lines under the title. The last says what the gold score is, of which the headline then speaks."""
    lines = [("policy", run.version("policy").ref), ("base model", run.inputs["base"].ref)]
    if "preferences" in run.inputs:
        preferences = run.version("preferences")
        annotator = preferences.manifest.stats.get("annotator")
        lines.append(("preferences", ", ".join(filter(None, (preferences.ref, annotator)))))
    else:
        lines.append(("reward", ", ".join(s.value for s in reward_sources(run.config))))
    gold = [("gold score", gold_name)] if gold_name is not None else []
    return [*lines, ("seed", str(run.config.seed)), ("minutes", f"{minutes(run):.1f}"), *gold]


def minutes(run: Run) -> float:
    """Wall time of the stages behind this report, in minutes."""
    stages = ("base", "preferences", "reward", "policy", "evaluation")
    versions = [v for r, v in run.inputs.items() if r in stages and isinstance(v, Version)]
    return round(sum(v.manifest.stats.get("stage_seconds", 0.0) for v in versions) / 60, 2)
