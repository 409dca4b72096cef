"""The sentences that ``evaluate`` prints after the headline."""

from __future__ import annotations

from pipeline.results.policy import Evaluation, JudgeVerdicts
from pipeline.results.sides import MEASURES
from pipeline.stages.evaluate.other_history import history_sentence
from pipeline.stages.evaluate.references import reference_sentences
from pipeline.statistics.intervals import has_value
from pipeline.statistics.spelling import interval, number


def further_findings(evaluation: Evaluation) -> list[str]:
    """Sentences besides the headline: the judges, the yardstick, where gold turned, the best checkpoint."""
    sentences = [judge_sentence(name, verdicts) for name, verdicts in evaluation.judges.items()]
    lines = [(what, evaluation.best_of_n.yardstick.get(measure)) for measure, what in MEASURES.items()]
    for what, line in [(what, line) for what, line in lines if line is not None][:1]:
        n, difference = line.compared
        where = "the policy's KL" if line.within else f"{number(line.largest.kl_bound, 1)} nats to the policy's"
        sentences.append(
            f"Against best-of-{n} of the base, at {where} {number(line.policy_kl_k1, 1)}: "
            f"{what} score {interval(difference, signed=True)}."
        )
    sentences += reference_sentences(evaluation)
    if evaluation.other_history is not None:
        sentences.append(history_sentence(evaluation.other_history))
    if words := evaluation.lexicon_words:
        sentences.append(
            "The gold score is a lexicon's opinion: of a text it knows nothing but "
            f"{interval(words.base)} words (base) or {interval(words.policy)} (policy)."
        )
    training, best = evaluation.overoptimisation.training, evaluation.best_checkpoint
    if training is not None and training.turning_point.index is not None:
        point = training.points[training.turning_point.index]
        sentences.append(
            f"Over-optimised: past update {point.update} (KL {number(point.kl_k1, 1)}) gold fell while the "
            "proxy rose."
        )
    if best is not None:
        value = f"update {best.update} ({best.by} {number(best.value)}, KL {number(best.kl_k1, 1)})"
        kept = f"published is update {best.kept} ({number(best.kept_value)}); ppo.keep_best publishes the best"
        sentences.append(f"Best held-out checkpoint: {value}; {'it is published' if best.is_kept else kept}.")
    return sentences


def judge_sentence(name: str, verdicts: JudgeVerdicts) -> str:
    """How often a judge prefers the policy; of a language model how consistently. Or why it did not answer."""
    trust = verdicts.trust
    if has_value(verdicts.win_rate):
        equal = verdicts.length_controlled_win_rate
        more = f", {interval(equal)} at equal length" if has_value(equal) else ""
        says = f"prefers the policy on {interval(verdicts.win_rate)} of prompts{more}"
        if trust is None:
            return f"{name} {says}."
        if trust.doubt is not None:
            return f"DO NOT TRUST {name}: {trust.doubt}. It {says}."
        twice = f"contradicts itself on {interval(trust.disagreement)} of {trust.disagreement.n} pairs"
        return f"{name} {says}; with the order swapped it {twice}."
    abstentions = trust.abstentions if trust else {}
    why = ", ".join(f"{count} {reason}" for reason, count in abstentions.items())
    return f"{name} gave no answer that could be used{f' ({why})' if why else ''}."
