"""The second part of the catalogue: a policy by evaluate, screen and fairness, a reward model by reward."""

from __future__ import annotations

from functools import partial

from pipeline.results.metrics import About, Metric
from pipeline.statistics.intervals import WILSON

NEWCOMBE, RESAMPLED = "Newcombe", "bootstrap (percentile)"

_policy, _texts, _reward = partial(About, "evaluation"), partial(About, "diversity"), partial(About, "reward")
_harm, _gap = partial(About, "screening"), partial(About, "fairness")
_BOTH = "; `base`, `policy`, `difference`"


class Measured(Metric):
    """What is measured, by its place in a version's stats: ``gold.accuracy`` is ``accuracy`` in ``gold``."""

    # fmt: off

    # -------------------- a policy, by evaluate

    GOLD_SCORE = "gold_score", _policy("Gold score", "score", "the task's gold score" + _BOTH, "gold")
    SCORE = "score", _policy("Proxy score (the reward)", "score", "the proxy's" + _BOTH, "proxy")
    LENGTH = "length", _policy("Length", "tokens", "tokens per completion" + _BOTH, "length", digits=1)
    WIN_RATE = "win_rate", _policy(
        "Win rate", "share",
        "prompts on which the policy is higher, ties half; by `gold_score` and by `score`, with "
        "counts", interval=WILSON)
    WIN_RATE_AT_EQUAL_LENGTH = "length_controlled_win_rate", _policy(
        "Win rate at equal length", "share",
        "the same at equal length; where it cannot be known, `reason` says why", interval=RESAMPLED)
    KL_K1 = "kl_k1", _policy(
        "KL k1", "nats per completion", "KL(policy, base) by k1, with `standard_error`", "KL k1", "nats")
    KL_K3 = "kl_k3", _policy("KL k3", "nats per completion", "the same by k3")
    KL_K1_PER_TOKEN = "kl_k1_per_token", _policy("KL k1", "nats per token", "its sum over all tokens", digits=3)
    KL_K3_PER_TOKEN = "kl_k3_per_token", _policy("KL k3", "nats per token", "its sum over all tokens", digits=3)
    ENTROPY = "entropy", _policy(
        "Entropy of the next token", "nats", "minus the mean log-probability of what was sampled" + _BOTH)
    ENDED = "ended", _policy("Ended by itself", "share", "completions that ended by themselves", interval=WILSON)
    LEXICON_WORDS = "lexicon_words", _policy(
        "Words that the gold score's lexicon knows, per text", "",
        "where the gold score is VADER's opinion: words of a text that its lexicon knows" + _BOTH, digits=1)
    OTHER_HISTORY = "other_history.gold_score", _policy(
        "Gold score after another conversation's history", "score",
        "`evaluate.other_history`: the same, sampled after the history of another conversation" + _BOTH)
    HISTORY_GAIN = "other_history.gain", _policy(
        "Gold score that the history brings", "score",
        "the gold score less that, paired by prompt: near 0 where no history is used" + _BOTH)
    DEGENERATE = "degenerate", _policy(
        "Degenerate", "share",
        "completions that are broken, with the number of each kind: empty, without words, a "
        "loop, ending in a loop, cut in one", interval=WILSON)
    UNIQUE = "unique", _policy("Unique completions", "share", "different completions")
    DISTINCT_1 = "distinct_1", _policy("Distinct words", "share", "of all words, different ones")
    DISTINCT_2 = "distinct_2", _policy("Distinct word pairs", "share", "the same of pairs")
    DISTINCT_3 = "distinct_3", _policy("Distinct word triples", "share", "the same of triples")
    REPETITION = "repetition", _policy(
        "Repeated 4-grams within a completion", "share",
        "of a completion's 4-grams, those that were there already")

    # -------------------- how varied its texts are

    CLOSINGS = "diversity.closings", _texts(
        "Effective closing sentences", "", "effective number of last sentences: `base`, `policy`, each with an "
        "interval; `at`, how many were counted; `coverage`", digits=1)
    CLOSINGS_RATIO = "diversity.closings.ratio", _texts(
        "Effective closing sentences, policy over base", "", "policy over base",
        healthy="above .5, near 1 unless half of what the base says is to go")
    OPENINGS = "diversity.openings", _texts(
        "Effective first sentences", "", "the same of first sentences", digits=1, healthy="as closings")
    NGRAMS = "diversity.ngrams", _texts(
        "Effective word triples", "",
        "effective number of runs of three words, both sides at as many of them (`at`)", digits=1)
    NGRAMS_RATIO = "diversity.ngrams.ratio", _texts(
        "Effective word triples, policy over base", "", "policy over base",
        healthy="above .7; a policy of shorter, surer texts loses some")
    PATTERNS = "diversity.patterns", _texts(
        "Effective patterns of sentences", "",
        "the same of patterns of sentences, both sides at as many sentences (`at`)", digits=1)
    PATTERNS_RATIO = "diversity.patterns.ratio", _texts(
        "Effective patterns of sentences, policy over base", "", "policy over base",
        healthy="above .5, near 1 where completions have several sentences")
    CLOSING = "diversity.closing", _texts(
        "Most common closing sentence", "share", "the most common last sentence: `text`, `share`, and "
        "`share_of_other`, its share on the other side", interval=WILSON, healthy="a few percent, near the base's")
    OPENING = "diversity.opening", _texts(
        "Most common first sentence", "share", "the same of first sentences", interval=WILSON, healthy="the same")
    SENTENCE = "diversity.sentence", _texts(
        "Most common sentence", "share", "the same of sentences anywhere", interval=WILSON, healthy="the same")
    PATTERN = "diversity.pattern", _texts(
        "Most common pattern", "share", "the most common pattern of sentences; shares are of sentences",
        healthy="the same")
    SIMILAR_WITHIN = "diversity.similar_within", _texts(
        "Similarity of completions of one prompt", "", "mean similarity (0 to 1) of two completions of one prompt",
        healthy="rises as the policy grows sure; 1 where a prompt has one right answer")
    SIMILAR_ACROSS = "diversity.similar_across", _texts(
        "Similarity of completions of different prompts", "", "of two completions of different prompts",
        healthy="as the base's")
    EMBEDDING_WITHIN = "diversity.embedding_within", _texts(
        "Cosine of completions of one prompt", "",
        "`similar_within` by cosine in a model of embeddings, with `evaluate.embedding_model`", healthy="as above")
    EMBEDDING_ACROSS = "diversity.embedding_across", _texts(
        "Cosine of completions of different prompts", "", "`similar_across` by cosine", healthy="as above")

    # -------------------- a reward model

    PAIR_ACCURACY = "accuracy", _reward(
        "Accuracy", "share", "held-out pairs whose chosen completion scores higher; a tie is wrong",
        "reward-model accuracy", interval=WILSON, healthy="its interval above the best of `baselines`", low=0.5)
    DEPENDENT = "dependent", _reward(
        "Accuracy, pairs not independent", "share",
        "the same as pairs of one prompt, or with a completion in common, "
        "are right or wrong together; `worth`, how many independent pairs tell as much")
    MARGIN = "margin", _reward("Mean margin", "score", "chosen score less rejected score")
    GOLD_ACCURACY = "gold.accuracy", _reward(
        "Agreement with gold", "share", "pairs that the reward model orders as gold does", interval=WILSON)
    LABEL_NOISE = "gold.label_noise", _reward(
        "Label noise (labels against gold)", "share", "pairs that the labels order otherwise than gold",
        interval=WILSON, healthy="below 0.3", high=0.3)
    AUC = "auc", _reward(
        "AUC", "share",
        "of single completions: (like, dislike) couples in which the like scores higher, ties half",
        interval=NEWCOMBE, healthy="its interval above the best of `baselines`", low=0.5)
    THRESHOLD = "threshold.accuracy", _reward(
        "Accuracy", "share", "of single completions: labels on their side of P(like) = 1/2", interval=WILSON)
    ECE = "calibration.ece", _reward(
        "Calibration error (ECE)", "share",
        "mean distance of confidence and how often it is right, in bins of equal "
        "width", healthy="0 is perfect; few rows bias it upwards")
    MASS_ECE = "calibration.equal_mass.ece", _reward(
        "Calibration error, bins of equal size", "share", "the same in bins of equally many pairs; `expected` and "
        "`high` are what chance shows of a perfect model", healthy="below `high`")
    BRIER = "calibration.brier", _reward(
        "Brier score", "", "mean square of 1 - P(what was chosen)", healthy="below 0.25, which a coin has")
    TEMPERATURE = "calibration.temperature", _reward(
        "Fitted temperature", "", "by which scores would have to be divided",
        healthy="1; above: too sure; below: too "
        "timid")
    LENGTH_CORRELATION = "length_correlation.spearman", _reward(
        "Correlation of score with length", "", "Spearman's, length in characters",
        healthy="as that of the gold score")

    # -------------------- a policy, by screen

    FLAGGED = "flagged", _harm(
        "Flagged", "share", "completions that the screen flags for any of its labels" + _BOTH, digits=3,
        interval=WILSON, healthy="not above the base's")
    FLAGGED_FOR = "by_label", _harm("Flagged for a label", "share", "the same of each label", digits=3,
        interval=WILSON, healthy="the same")

    # -------------------- a reward model and a policy, by fairness: a group's mean less that of the others

    GAP_REWARD = "reward", _gap(
        "score of the given completion", "score", "the reward model's score of the file's completion",
        healthy="its interval holds 0, also once it allows for the number of gaps")
    GAP_BASE_SCORE = "base_score", _gap(
        "score of what the base writes", "score", "the score of what the base writes")
    GAP_POLICY_SCORE = "policy_score", _gap(
        "score of what the policy writes", "score", "the score of what the policy writes", healthy="as the base's")
    GAP_BASE_GOLD = "base_gold_score", _gap(
        "gold score of what the base writes", "score", "the task's gold score of it")
    GAP_POLICY_GOLD = "policy_gold_score", _gap(
        "gold score of what the policy writes", "score", "the same", healthy="as the base's")
    GAP_BASE_LENGTH = "base_length", _gap("tokens of what the base writes", "tokens", "its length", digits=1)
    GAP_POLICY_LENGTH = "policy_length", _gap(
        "tokens of what the policy writes", "tokens", "the same", digits=1, healthy="as the base's")
