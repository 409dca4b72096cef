"""Apply every rule to a run's rows, one by one or all at once, with the same findings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

from pipeline.health import (
    data_rules,
    gold_rules,
    learning_rules,
    loop_rules,
    outcome_rules,
    policy_rules,
    reader_rules,
    text_rules,
)
from pipeline.health.figures import Figures
from pipeline.health.findings import Facts, Finding, Rule
from pipeline.health.written_texts import Written

OF_ROWS: tuple[Rule, ...] = (*data_rules.RULES, *loop_rules.RULES, *reader_rules.RULES, *outcome_rules.RULES)
OF_TRAINING: tuple[Rule, ...] = (*policy_rules.RULES, *text_rules.RULES, *learning_rules.RULES, *gold_rules.RULES)
RULES = (*OF_ROWS, *OF_TRAINING)


class Doctor:
    """Takes a run's rows in order and reports each finding once.

    Findings depend on the rows alone, so a continued run takes the rows of the interrupted one first.

    Args:
        written: the run's completions, at least up to each row that is taken; without them findings quote none.
    """

    def __init__(self, facts: Facts | None = None, written: Written | None = None) -> None:
        self.facts = facts or Facts()
        self.written = written or Written()
        self.figures = Figures()
        self._findings: dict[str, Finding] = {}
        self._last_held: dict[str, int] = {}

    def take(self, row: Mapping[str, object]) -> list[Finding]:
        """Take one logged row; returns the new findings."""
        window = self.written.windows.get(_update_of(row))
        # Older runs did not log these figures, but kept their rollouts.
        self.figures.take(row if window is None else {**window.figures, **row}, window)
        new: list[Finding] = []
        for rule in OF_TRAINING:
            seen = rule.look(self.figures, self.facts)
            if seen is None:
                continue
            self._last_held[rule.name] = self.figures.update
            if rule.name not in self._findings:
                self._findings[rule.name] = rule.finding(seen)
                new.append(self._findings[rule.name])
            elif rule.keeps_up:
                self._findings[rule.name] = dataclasses.replace(self._findings[rule.name], what=seen.what)
        return new

    @property
    def findings(self) -> list[Finding]:
        """All findings so far, on the run's inputs too: serious ones first, then by the update they began at."""
        findings = [rule.finding(seen) for rule in OF_ROWS if (seen := rule.look(self.figures, self.facts))]
        findings += [self._passed(f) for f in self._findings.values()]
        return sorted(findings, key=lambda f: (f.severity != "serious", f.since or 0))

    def _passed(self, finding: Finding) -> Finding:
        last = self._last_held[finding.rule]
        passed = finding.since is not None and last < self.figures.update
        return dataclasses.replace(finding, until=last) if passed else finding

    @property
    def blind(self) -> list[str]:
        """Rules whose figures or facts are missing; without a run, only rules on inputs."""
        rules = RULES if self.figures.has("update") else OF_ROWS
        return [rule.name for rule in rules if not rule.sees(self.figures, self.facts)]


def _update_of(row: Mapping[str, object]) -> int:
    update = row.get("update")
    return int(update) if isinstance(update, int | float) and math.isfinite(update) else -1


def examined(
    history: Iterable[Mapping[str, object]], facts: Facts | None = None, written: Written | None = None
) -> Doctor:
    """A doctor that has taken all of a run's rows.

    Args:
        history: its rows in order, updates and evaluations of PPO as in metrics.jsonl.
        written: its completions.
    """
    doctor = Doctor(facts, written)
    for row in history:
        doctor.take(row)
    return doctor


def diagnose(
    history: Iterable[Mapping[str, object]], facts: Facts | None = None, written: Written | None = None
) -> list[Finding]:
    """The findings on a run; see :func:`examined`."""
    return examined(history, facts, written).findings
