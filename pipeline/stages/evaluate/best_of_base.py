"""Best-of-n's figures of one evaluation, from what was sampled of the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.base.records import digest
from pipeline.evaluation.policy.best_of_n import best_of, best_of_n
from pipeline.evaluation.policy.diversity_best_of_n import best_of_n_diversity, pattern_chances
from pipeline.evaluation.policy.policy_metrics import by_prompt, sequence_kl
from pipeline.results.best_of_n import BestOfN
from pipeline.results.diversity import DiversityBesideBestOfN
from pipeline.stages.evaluate.history import missing_eos_penalty
from pipeline.stages.evaluate.sampled_sides import BaseSample, EvaluationSamples
from pipeline.statistics.bootstrap import Resampling
from pipeline.texts.diversity import closings
from pipeline.texts.patterns import frame_words
from pipeline.texts.sentences import closing
from pipeline.workflow.sections.evaluate import EvaluateSection
from pipeline.workflow.stage import Run


def best_of_base(
    run: Run, samples: EvaluationSamples, options: EvaluateSection
) -> tuple[BestOfN, list[dict[str, Any]]]:
    """(best-of-n's figures, or the reason why there are none; a row per prompt and n)."""
    if not samples.best:
        return BestOfN(reason="off" if options.temperature else "at temperature 0 all samples are the same"), []
    policy, draws = samples.policy, options.draws
    chosen_by = np.array([[sample.chosen_by for sample in row] for row in samples.best])
    scores = {name: _scores(samples.best, name) for name in samples.best[0][0].scores}
    own = {"score": policy.scores, "gold_score": policy.gold_scores or []}
    own |= {f"judge:{name}": judged for name, judged in policy.judged.items()}
    of_policy = {name: by_prompt(own[name], draws)[: len(chosen_by)] for name in scores}
    kl = by_prompt(sequence_kl(policy.logprobs, policy.ref_logprobs)[0], draws)[: len(chosen_by)]
    figures = best_of_n(chosen_by, scores, options.ns, of_policy, kl, Resampling(options.seed))
    rows = _rows(samples.prompts, chosen_by, scores, options.ns)
    return replace(figures, missing_eos_penalty=missing_eos_penalty(run)), rows


def _scores(best: Sequence[Sequence[BaseSample]], name: str) -> NDArray[np.float64]:
    return np.array([[sample.scores[name] for sample in row] for row in best])


def _rows(
    prompts: Sequence[str], chosen_by: NDArray[np.float64], scores: Mapping[str, Any], ns: Sequence[int]
) -> list[dict[str, Any]]:
    """A row per prompt and n."""
    curves = {name: best_of(chosen_by, scores[name], ns) for name in ("score", "gold_score") if name in scores}
    return [
        {
            "id": digest([i, prompts[i], n]),
            "prompt": prompts[i],
            "n": n,
            "gold_score": None,
            **{name: float(curve[i, j]) for name, curve in curves.items()},
        }
        for i in range(len(chosen_by))
        for j, n in enumerate(ns)
    ]


def best_of_n_variety(samples: EvaluationSamples, options: EvaluateSection) -> DiversityBesideBestOfN | None:
    """Closing sentences and patterns of best-of-n beside base and policy, on its prompts; None where it is off."""
    if not samples.best:
        return None
    frame, policy, draws = frame_words(samples.base.completions), samples.policy, options.draws
    rows = [slice(i * draws, (i + 1) * draws) for i in range(len(samples.best))]
    ends, forms = closings(policy.completions, policy.ended), pattern_chances(policy.completions, frame)
    return best_of_n_diversity(
        [[sample.chosen_by for sample in row] for row in samples.best],
        [[closing(sample.completion, sample.ended) for sample in row] for row in samples.best],
        options.ns,
        [ends[of_prompt] for of_prompt in rows],
        Resampling(options.seed),
        (
            [pattern_chances([sample.completion for sample in row], frame) for row in samples.best],
            [forms[of_prompt] for of_prompt in rows],
        ),
    )
