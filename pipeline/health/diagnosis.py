"""Every rule over a run's rows, as they come or all at once: the same findings either way."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

from pipeline.health import data_rules, gold_rules, learning_rules, outcome_rules, policy_rules, text_rules
from pipeline.health.figures import History
from pipeline.health.findings import Facts, Finding, Rule
from pipeline.health.written_texts import Written

OF_ROWS: tuple[Rule, ...] = (*data_rules.RULES, *outcome_rules.RULES)
OF_TRAINING: tuple[Rule, ...] = (*policy_rules.RULES, *text_rules.RULES, *learning_rules.RULES, *gold_rules.RULES)
RULES = (*OF_ROWS, *OF_TRAINING)


class Doctor:
    """Takes a run's rows in order and tells each finding once.

    What it has told follows from the rows alone: given those of an interrupted run first, it goes on where that
    run was.

    Args:
        written: what the run wrote, at least up to each row that is taken; without it, what spreads has no name.
    """

    def __init__(self, facts: Facts | None = None, written: Written | None = None) -> None:
        self.facts = facts or Facts()
        self.written = written or Written()
        self.history = History()
        self._found: dict[str, Finding] = {}
        self._held: dict[str, int] = {}

    def take(self, row: Mapping[str, object]) -> list[Finding]:
        """Take one logged row; gives what its rules have not found before."""
        window = self.written.windows.get(_update_of(row))
        # Runs of before these figures were logged kept their rollouts all the same.
        self.history.take(row if window is None else {**window.figures, **row}, window)
        new: list[Finding] = []
        for rule in OF_TRAINING:
            seen = rule.look(self.history, self.facts)
            if seen is None:
                continue
            self._held[rule.name] = self.history.update
            if rule.name not in self._found:
                self._found[rule.name] = rule.finding(seen)
                new.append(self._found[rule.name])
            elif rule.keeps_up:
                self._found[rule.name] = dataclasses.replace(self._found[rule.name], what=seen.what)
        return new

    @property
    def findings(self) -> list[Finding]:
        """All so far, what the run was made from included: serious ones first, then by when they began."""
        looked = [(rule, rule.look(self.history, self.facts)) for rule in OF_ROWS]
        found = [rule.finding(seen) for rule, seen in looked if seen is not None]
        found += [self._passed(f) for f in self._found.values()]
        return sorted(found, key=lambda f: (f.severity != "serious", f.since or 0))

    def _passed(self, finding: Finding) -> Finding:
        held = self._held[finding.rule]
        passed = finding.since is not None and held < self.history.update
        return dataclasses.replace(finding, until=held) if passed else finding

    @property
    def blind(self) -> list[str]:
        """Rules that had nothing to look at; where there is no run, only those of what one would be made from."""
        rules = RULES if self.history.has("update") else OF_ROWS
        return [rule.name for rule in rules if not rule.sees(self.history, self.facts)]


def _update_of(row: Mapping[str, object]) -> int:
    update = row.get("update")
    return int(update) if isinstance(update, int | float) and math.isfinite(update) else -1


def examined(
    history: Iterable[Mapping[str, object]], facts: Facts | None = None, written: Written | None = None
) -> Doctor:
    """The doctor who has seen all of a run.

    Args:
        history: its rows in order, as metrics.jsonl holds them: updates of PPO and evaluations, no others.
        written: what it wrote.
    """
    doctor = Doctor(facts, written)
    for row in history:
        doctor.take(row)
    return doctor


def diagnose(
    history: Iterable[Mapping[str, object]], facts: Facts | None = None, written: Written | None = None
) -> list[Finding]:
    """What is wrong with a run; see :func:`examined`."""
    return examined(history, facts, written).findings
