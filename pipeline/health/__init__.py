"""The doctor of PPO runs: rules over a run's figures and over its inputs. Needs no torch.

``diagnose(rows, facts)`` gives findings as plain data; :func:`pipeline.health.facts.examine_version`
does so for a version, with the facts that its lineage holds.
"""

from __future__ import annotations

from pipeline.health.diagnosis import RULES, Doctor, diagnose, examined
from pipeline.health.findings import Facts, Finding, Noise, Overlap, Rule, Severity

__all__ = ["RULES", "Doctor", "Facts", "Finding", "Noise", "Overlap", "Rule", "Severity", "diagnose", "examined"]
