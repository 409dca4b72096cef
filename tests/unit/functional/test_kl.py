"""Estimators of the KL against the exact one, and the adaptive coefficient by hand."""

from __future__ import annotations

import pytest
import torch

from pipeline.functional.kl import AdaptiveKL, kl_k1, kl_k3
from tests.unit.functional.helpers import rows


def test_kl_estimators_agree_with_the_exact_divergence():
    policy, reference = rows(3, 20).log_softmax(-1), rows(4, 20).log_softmax(-1)
    exact = (policy.exp() * (policy - reference)).sum()
    # Mutations caught: either log-ratio's sign; k3 without its linear term. Expectation over all tokens is exact.
    torch.testing.assert_close((policy.exp() * kl_k1(policy, reference)).sum(), exact)
    torch.testing.assert_close((policy.exp() * kl_k3(policy, reference)).sum(), exact)
    assert (kl_k3(policy, reference) >= 0).all()


def test_adaptive_coefficient_moves_towards_the_target():
    above, below, fixed = (AdaptiveKL(0.1, t, 1000) for t in (5.0, 20.0, None))
    for controller in (above, below, fixed):
        controller.update(10.0, 100)
    # By hand: the error is clipped to 0.2, so 0.1 * (1 + 0.2 * 100 / 1000) and 0.1 * (1 - 0.2 * 100 / 1000).
    assert above.coef == pytest.approx(0.102)
    assert below.coef == pytest.approx(0.098)
    assert fixed.coef == 0.1
