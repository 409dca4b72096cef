"""ppo: the policy, a LoRA adapter optimised against the reward model with PPO."""

from __future__ import annotations

from typing import Any

from pipeline.core.cli import guard
from pipeline.core.errors import ConfigError, DataError, ModelError
from pipeline.core.records import digest
from pipeline.core.stage import Run, say, stage_main
from pipeline.tasks import Task, load_task

ROLLOUTS = {
    "id": "string",
    "update": "int32",
    "prompt": "string",
    "completion": "string",
    "completion_ids": "list<int32>",
    "ended": "bool",
    "score": "double",
    "kl_k1": "double",
}


def run(run: Run) -> None:
    """Write the ``rollouts`` and the ``policy`` adapter."""
    import os

    from peft import get_peft_model
    from transformers import set_seed

    from pipeline.modeling import tokens
    from pipeline.modeling.loading import load_tokenizer
    from pipeline.modeling.lora import lora_config
    from pipeline.modeling.roles import load_policy
    from pipeline.modeling.scoring import RewardRole
    from pipeline.trainers import ppo
    from pipeline.trainers.common import MetricsFile, training_arguments

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("ppo", "runs on one process.", "Launch it without torchrun or --num_processes.")
    config = run.config
    task = load_task(config.task, config.task_args, str(config.path))
    args = training_arguments(config, "ppo", ppo.PPOSection, run.workdir, **task_defaults(run, task))
    check_reward_base(run)
    base, tokenizer = load_policy(*run.base)
    set_seed(args.seed)  # LoRA's A is drawn here
    model = get_peft_model(base, lora_config(base, **args.lora(), task_type="CAUSAL_LM"), adapter_name="policy")
    scorer = RewardRole.load(model, run.version("reward").path, tokenizer.eos_token_id)
    prompts = [r["prompt"] for r in run.version("prompts").iter_rows("train")]
    if len(prompts) < 2:
        raise DataError(run.version("prompts").where, f"{len(prompts)} prompt to train on.", "Bring more prompts.")
    limit = tokens.prompt_limit(model, int(args.response_length or 0))
    recorder = Recorder(task, tokenizer, prompts)
    trainer = ppo.PPOTrainer(
        args,
        load_tokenizer(*run.base),
        model,
        scorer,
        tokens.encode_prompts(tokenizer, prompts, limit),
        monitor=recorder.monitor,
        on_rollout=recorder.record,
        callbacks=[MetricsFile(run.workdir / "metrics.jsonl")],
    )
    trainer.train()
    publish(run, model, tokenizer, recorder.rows, trainer.state.log_history, args)


def task_defaults(run: Run, task: Task) -> dict[str, Any]:
    """Sizes that follow from the task unless the config says otherwise."""
    given = run.config.given("ppo")
    return {} if given.get("response_length") else {"response_length": task.completion_tokens}


def check_reward_base(run: Run) -> None:
    """Refuse a reward adapter that was trained on another base: its numbers would mean nothing here.

    Raises:
        ModelError: the bases differ.
    """
    reward, base = run.version("reward"), run.inputs["base"]
    trained_on = next((m for m in reward.manifest.models if m["role"] == "base"), None)
    if trained_on is not None and trained_on["content"] != base.id:
        raise ModelError(
            reward.where,
            f"was trained on another base ({trained_on['id']}) than this run's ({base.ref}).",
            "Train one on this base: make reward",
        )


class Recorder:
    """Keeps every rollout, and measures the gold score of each update for the log."""

    def __init__(self, task: Task, tokenizer: Any, prompts: list[str]) -> None:
        self.task, self.tokenizer, self.prompts = task, tokenizer, prompts
        self.rows: list[dict[str, Any]] = []
        self._texts: list[str] = []

    def record(self, update: int, indices: list[int], rollout: Any, score: Any) -> None:
        from pipeline.modeling.tokens import decode

        completions = rollout.completions()
        self._texts = [decode(self.tokenizer, ids) for ids in completions]
        kl = ((rollout.old_logprobs - rollout.ref_logprobs) * rollout.completion_mask).sum(1)
        columns = zip(indices, completions, self._texts, rollout.ended, score, kl, strict=True)
        for i, (index, ids, text, ended, row_score, row_kl) in enumerate(columns):
            self.rows.append(
                {
                    "id": digest([update, i, self.prompts[index], ids]),
                    "update": update + 1,
                    "prompt": self.prompts[index],
                    "completion": text,
                    "completion_ids": ids,
                    "ended": bool(ended),
                    "score": float(row_score),
                    "kl_k1": float(row_kl),
                }
            )

    def monitor(self, rollout: Any) -> dict[str, float]:
        """The gold score of the update just recorded; never trained on."""
        prompts = [r["prompt"] for r in self.rows[-len(rollout) :]]
        gold = self.task.gold_scores(prompts, self._texts)
        return {} if gold is None else {"objective/gold_scores": sum(gold) / len(gold)}


def publish(
    run: Run, model: Any, tokenizer: Any, rows: list[dict[str, Any]], history: list[dict[str, Any]], args: Any
) -> None:
    """Write the rollouts, then the policy adapter in Hub format."""
    from pipeline.modeling.loading import loaded_commit
    from pipeline.modeling.lora import save_adapter
    from pipeline.reporting.cards import adapter_card

    last = history[-1] if history else {}
    with run.draft("rollouts") as draft:
        draft.write_rows("train", rows, schema=ROLLOUTS)
    with run.draft("policy", parents=[(draft.version, "rollouts")]) as draft:
        base, revision = run.published_base(draft, loaded_commit(*run.base))
        save_adapter(model, "policy", draft.path, base=base, revision=revision, tokenizer=tokenizer)
        run.keep_metrics(draft)
        draft.device = str(model.device)
        draft.stats.update(
            updates=args.num_total_batches,
            episodes=len(rows),
            temperature=args.temperature,
            response_length=args.response_length,
            last={k: v for k, v in last.items() if isinstance(v, int | float)},
        )
        card = adapter_card(draft.so_far(), None, run.lineage("policy"), "policy")
        (draft.path / "README.md").write_text(card, encoding="utf-8")
    if last:
        say("ppo", f"proxy score {last['objective/scores']:.2f} at KL {last['objective/kl']:.1f} nats")


def main(argv: list[str] | None = None) -> int:
    return stage_main("ppo", run, argv)


if __name__ == "__main__":
    guard(main)
