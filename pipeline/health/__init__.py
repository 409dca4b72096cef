"""The doctor of PPO runs: rules over a run's figures and over its inputs. Needs no torch.

:func:`diagnose` returns findings on rows and facts, :func:`pipeline.health.facts.examine_version` on a version.
"""

from __future__ import annotations

from pipeline.health.diagnosis import RULES, Doctor, diagnose, examined
from pipeline.health.findings import Facts, Finding, Noise, Overlap, Rule, Severity

__all__ = ["RULES", "Doctor", "Facts", "Finding", "Noise", "Overlap", "Rule", "Severity", "diagnose", "examined"]
