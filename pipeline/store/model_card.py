"""The model card of a version: its README.md in the Hub's format (https://huggingface.co/docs/hub/model-cards)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from pipeline.results.measured import Measured
from pipeline.results.policy import Evaluation
from pipeline.results.reward import AucBaseline, Baseline, PointwiseMetrics, RewardMetrics
from pipeline.sources.gguf_names import is_gguf
from pipeline.statistics.intervals import Estimate, has_value
from pipeline.statistics.spelling import escape_cell, interval, number
from pipeline.store.dataset_card import approvals
from pipeline.store.manifest import Manifest
from pipeline.store.starting_policy import SENTENCE, is_starting

Kind = Literal["policy", "reward", "base", "merged policy", "merged reward"]

STAGE = {"policy": "ppo", "reward": "reward", "base": "sft"}
PIPELINE_TAG = {"policy": "text-generation", "reward": "text-classification", "base": "text-generation"}
KIND_TAGS = {
    "policy": ["ppo", "lora"],
    "reward": ["reward-model", "lora"],
    "base": ["sft"],
    "merged policy": ["ppo"],
    "merged reward": ["reward-model"],
}

DESCRIPTION = {
    "policy": "A LoRA adapter trained with PPO (TRL); its lineage below names the reward.",
    "reward": "A LoRA adapter with a score head, trained on preferences: one raw score per prompt and completion.",
    "base": "A language model fine-tuned on the task's corpus: where the reward model and the policy start from.",
    "merged policy": "A language model: the base and a LoRA adapter trained with PPO (TRL), merged into one.",
    "merged reward": "A classifier of one label, whose raw score is the reward: the base and an adapter, merged.",
}
CONVERTED = (
    "The model of a GGUF file, dequantised and otherwise as it was: where reward model and policy start from."
)
NOT_TRAINED = (
    f"**{SENTENCE}** None of a PPO run's updates is in this adapter: it says what its base says, or the adapter "
    "that the run started from."
)

# The settings a reader asks for first; the rest is in manifest.json.
SETTINGS = (
    *("loss", "learning_rate", "num_train_epochs", "total_episodes", "max_steps", "per_device_train_batch_size"),
    *("num_ppo_epochs", "num_mini_batches", "response_length", "max_length", "temperature"),
    *("kl_coef", "kl_target", "kl_budget", "diversity_floor", "gamma", "lam", "cliprange", "vf_coef"),
    *("lora_r", "lora_alpha", "lora_target_modules"),
)

LABELS = ("annotator", "people", "comparisons", "decided", "ties", "votes")
"""Facts about a reward model's labels, by their key in the stats of the preferences."""

LOAD_POLICY = """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("{path}")
tokenizer = AutoTokenizer.from_pretrained("{path}")
prompt = tokenizer("Your prompt", return_tensors="pt")
# top_k=0: from all tokens, as it was trained; transformers by itself takes the 50 likeliest.
ids = model.generate(**prompt, do_sample=True, top_k=0, max_new_tokens=48)
print(tokenizer.decode(ids[0], skip_special_tokens=True))"""

LOAD_REWARD = """import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer

# PEFT stores neither number: without num_labels=1 the score head does not fit, and without a pad token
# the score of a padded row is read at the wrong place. That score.weight is new, as transformers reports of
# the base, is expected: the adapter brings it.
model = AutoPeftModelForSequenceClassification.from_pretrained("{path}", num_labels=1).eval()
tokenizer = AutoTokenizer.from_pretrained("{path}")
model.config.pad_token_id = {pad}
inputs = tokenizer("Your prompt" + "a completion"{end}, return_tensors="pt")
with torch.no_grad():
    print(model(**inputs).logits.item())"""

LOAD_MERGED_REWARD = """from transformers import pipeline

score = pipeline("text-classification", model="{path}")
print(score("Your prompt" + "a completion"{end})[0]["score"])"""

LOAD_BASE = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{path}")
tokenizer = AutoTokenizer.from_pretrained("{path}")"""

POLICY_METRICS = (
    ("gold_score", Measured.GOLD_SCORE.about.label, "gold_score.policy"),
    ("gold_score_difference", f"{Measured.GOLD_SCORE.about.label}, policy - base", "gold_score.difference"),
    ("score", "Proxy score", "score.policy"),
    ("win_rate", "Win rate over the base (gold)", "win_rate.gold_score"),
    ("kl_k1", "KL to the reference (k1, nats per completion)", "kl_k1"),
    ("effective_closings", Measured.CLOSINGS.about.label, "diversity.closings.policy"),
    ("closings_ratio", f"{Measured.CLOSINGS.about.label}, policy / base", "diversity.closings.ratio"),
    ("closing_share", Measured.CLOSING.with_unit, "diversity.closing.policy.share"),
)
"""The metrics on a policy's card: the Hub's type, the name, and the key in :attr:`Evaluation.figures`."""

LIMITS = {
    "policy": (
        "It is as good as its reward. A score it was trained to raise is no evidence; the gold score is, "
        "on this task and on prompts like these only.",
        "It inherits what the base model learnt from its text, and it has had no safety training.",
    ),
    "reward": (
        "Scores have no unit and no zero: compare two completions of the same prompt, nothing else.",
        "It has seen completions of one base model; far from them, as late in PPO, its scores mean less.",
    ),
    "base": ("It imitates its corpus and has had no safety training.",),
}


class OnHub(NamedTuple):
    """What a card says of places on the Hub: the model's own, its base's, those of the datasets it learnt from."""

    repo: str
    base: str | None
    datasets: Sequence[str]
    license: str | None = None
    """The base's, where the model has none of its own."""


class Result(NamedTuple):
    """One metric of a card: the Hub's type, a name, and the estimate."""

    type: str
    name: str
    estimate: Estimate


def adapter_card(
    manifest: Manifest,
    metrics: Evaluation | RewardMetrics | None,
    lineage: str,
    kind: Kind,
    labels: Mapping[str, Any] | None = None,
    hub: OnHub | None = None,
) -> str:
    """The card of one model version: YAML front matter, then Markdown.

    Args:
        metrics: a policy's evaluation or a reward model's metrics; None leaves the results out.
        lineage: the version's tree as text.
        labels: of a reward model, the stats of the preferences it learnt from.
        hub: of a published model; its card names nothing of this machine.
    """
    results = _results(metrics)
    role = _role(kind)
    sections = [
        f"---\n{front_matter(manifest, results, kind, hub)}\n---",
        f"# {escape_cell(manifest.ref)}",
        _description(manifest, kind),
        "## How it was trained\n\n" + _training(manifest, role, labels or {}, hub),
        "## Results\n\n" + (_results_table(metrics, results) if metrics and results else "Not evaluated yet."),
        *approvals(manifest),
        "## Lineage\n\n" + _fenced(lineage or "unknown", "text"),
        "## How to load\n\n"
        + _fenced(_snippet(manifest, kind, hub.repo if hub else "path/to/this/directory"), "python"),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in LIMITS[role]),
    ]
    return "\n\n".join(sections) + "\n"


def _role(kind: Kind) -> Literal["policy", "reward", "base"]:
    return "policy" if kind == "merged policy" else "reward" if kind == "merged reward" else kind


def front_matter(
    manifest: Manifest, results: Sequence[Result], kind: Kind, hub: OnHub | None = None
) -> ModelCardData:
    """The card's metadata; as text it is YAML. A key without a value is None, as the Hub refuses an empty one."""
    base = hub.base if hub else _base_model(manifest)
    if is_gguf(base or ""):  # the Hub knows models by their ids
        base = None
    adapter = kind in ("policy", "reward")
    sources = ("prompts", "comparisons", "preferences", "corpus")
    return ModelCardData(
        base_model=base,
        base_model_relation=("adapter" if adapter else "finetune") if base else None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag=PIPELINE_TAG[_role(kind)],
        license=manifest.governance.get("license") or (hub and hub.license) or None,
        datasets=list(hub.datasets if hub else (p.name for p in manifest.parents if p.role in sources)) or None,
        tags=["trl", *KIND_TAGS[kind], "rlhf-pipeline"],
        model_name=manifest.name if results else None,
        eval_results=[_eval_result(manifest, result, kind) for result in results] or None,
    )


def _description(manifest: Manifest, kind: Kind) -> str:
    if _role(kind) == "policy" and is_starting(manifest.stats):
        return NOT_TRAINED
    return CONVERTED if kind == "base" and "steps" not in manifest.stats else DESCRIPTION[kind]


def _base_model(manifest: Manifest) -> str | None:
    for model in manifest.models:
        if model.get("role") in ("base", "pretrained"):
            return model.get("id") or None
    return manifest.config.get("base_model") or None


def _results(metrics: Evaluation | RewardMetrics | None) -> list[Result]:
    """The results that have a value."""
    estimates: list[tuple[str, str, Estimate | None]] = []
    if isinstance(metrics, Evaluation):
        figures = metrics.figures
        estimates = [(type_, name, figures.get(key)) for type_, name, key in POLICY_METRICS]
    elif metrics is not None:
        pairs, gold = metrics.of_pairs, metrics.of_pairs and metrics.of_pairs.gold
        area = metrics.auc if isinstance(metrics, PointwiseMetrics) else None
        estimates = [
            ("roc_auc", "AUC on held-out completions", area),
            ("accuracy", "Accuracy on held-out pairs", pairs and pairs.accuracy),
            ("accuracy", Measured.GOLD_ACCURACY.about.label, gold and gold.accuracy),
        ]
    return [Result(type_, name, estimate) for type_, name, estimate in estimates if has_value(estimate)]


def _eval_result(manifest: Manifest, result: Result, kind: Kind) -> EvalResult:
    task = str(manifest.config.get("task") or "task")
    limits = {"low": result.estimate.low, "high": result.estimate.high} if result.estimate.has_limits else {}
    return EvalResult(
        task_type=PIPELINE_TAG[_role(kind)],
        dataset_type=task,
        dataset_name=f"{task}, held-out prompts",
        dataset_split="test",
        metric_type=result.type,
        metric_name=result.name,
        metric_value=round(float(result.estimate.value), 4),
        metric_args={**{key: round(float(limit), 4) for key, limit in limits.items()}, "n": result.estimate.n},
    )


def _training(manifest: Manifest, kind: Kind, labels: Mapping[str, Any], hub: OnHub | None) -> str:
    section: Mapping[str, Any] = manifest.config.get(STAGE[kind]) or {}
    facts: list[tuple[str, Any]] = [
        ("base model", hub.base if hub else _base_model(manifest)),
        ("task", manifest.config.get("task")),
        ("seed", manifest.seed),
    ]
    facts += [(f"{STAGE[kind]}.{key}", section.get(key)) for key in SETTINGS]
    facts += [(key.replace("_", " "), labels.get(key)) for key in LABELS]
    facts += [(key, manifest.stats.get(key)) for key in ("updates", "episodes", "kept", "stopped")]
    facts += [("made", manifest.created_at)]
    facts += [(key, manifest.environment.get(key)) for key in ("trl", "peft", "transformers", "torch", "device")]
    return _table(("setting", "value"), [(k, escape_cell(v)) for k, v in facts if v is not None])


def _results_table(metrics: Evaluation | RewardMetrics, results: Sequence[Result]) -> str:
    rows = [(name, interval(estimate), str(estimate.n)) for _, name, estimate in results]
    verdict = ""
    if not isinstance(metrics, Evaluation):
        verdict = f"{metrics.verdict}\n\n" if metrics.verdict else ""
        if isinstance(metrics, PointwiseMetrics):
            rows += _baselines("Baseline AUC", metrics.baselines)
        rows += _baselines("Baseline", metrics.of_pairs.baselines if metrics.of_pairs else ())
    return verdict + _table((f"metric, [{number(100 * metrics.level, 0)} % interval]", "value", "n"), rows)


def _baselines(title: str, baselines: Sequence[Baseline] | Sequence[AucBaseline]) -> list[tuple[str, str, str]]:
    return [(f"{title}: {baseline.name}", interval(baseline.estimate), "") for baseline in baselines]


def _snippet(manifest: Manifest, kind: Kind, path: str) -> str:
    if _role(kind) == "reward":
        pad, at_end = manifest.stats.get("pad_token_id"), manifest.stats.get("score_position") == "eos"
        if kind == "merged reward":
            return LOAD_MERGED_REWARD.format(path=path, end=" + score.tokenizer.eos_token" if at_end else "")
        end = " + tokenizer.eos_token" if at_end else ""
        return LOAD_REWARD.format(path=path, pad="tokenizer.eos_token_id" if pad is None else pad, end=end)
    return (LOAD_POLICY if kind == "policy" else LOAD_BASE).format(path=path)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def _fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any run of backticks in ``text``."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.strip()}\n{fence}"
