"""ppo: train the policy, a LoRA adapter, with PPO against the reward model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from peft import get_peft_model
from transformers import set_seed

from pipeline.base.errors import ConfigError, DataError, ModelError
from pipeline.modeling.loading import load_tokenizer, loaded_commit, save_model
from pipeline.modeling.lora import add_role, lora_config, save_adapter
from pipeline.modeling.precision import note_slow_bf16
from pipeline.modeling.roles import load_policy
from pipeline.modeling.types import Tokenizer
from pipeline.modeling.weights import norms, require_finite, require_moved
from pipeline.results.metrics import Logged
from pipeline.scoring.load_for_stage import scorer
from pipeline.scoring.scorer import Scorer
from pipeline.stages.approved_inputs import with_approvals
from pipeline.stages.rollout_recorder import ROLLOUTS, Recorder
from pipeline.store.checkpoints import Checkpoints, resuming
from pipeline.store.model_card import adapter_card
from pipeline.store.starting_policy import SENTENCE
from pipeline.store.version import ADAPTER_CONFIG, Version
from pipeline.tasks import Task, load_task
from pipeline.trainers.arguments import training_arguments
from pipeline.trainers.callbacks import MetricsFile, StopDiverged, diverged_advice
from pipeline.trainers.ppo import section
from pipeline.trainers.ppo import trainer as ppo
from pipeline.trainers.ppo.checkpoint import load_state
from pipeline.trainers.ppo.doctor_callback import DoctorCallback
from pipeline.workflow.graph import scorers_by_role
from pipeline.workflow.stage import Run, main_process, say

NO_JUDGE = (
    "NO JUDGE: the task has no gold score, so nothing tells a policy that got better from one that found a hole "
    "in its reward. Name a judge that the annotators are not: ppo.check while it trains, evaluate.judges after."
)


def train_policy(run: Run) -> None:
    """Write the ``rollouts`` and the ``policy``."""
    config = run.config
    task = load_task(config.task, config.task_args, str(config.path))
    args = training_arguments(config, "ppo", section.PPOSection, run.workdir, **task_defaults(run, task))
    check_reward_base(run)
    model, tokenizer = load_model(run, args)
    device = cast("torch.device", PartialState().device)
    if args.bf16:
        note_slow_bf16("ppo", model, device)
    reward = scorer(run, model, tokenizer, device, task)
    judge = scorer(run, model, tokenizer, device, task, "check") if args.check is not None else gold_judge(task)
    if judge is None:
        say("ppo", NO_JUDGE)
    prompts = [r["prompt"] for r in run.version("prompts").iter_rows("train")]
    if not prompts:
        raise DataError(run.version("prompts").where, "no prompt to train on.", "Bring some.")
    held_out = prompts_to_select_by(run) if str(args.eval_strategy) != "no" else []
    checkpoints = Checkpoints(run.workdir, args.save_total_limit or 2)
    # One rank decides for all: it may put a damaged checkpoint aside.
    newest = [checkpoints.newest_intact(partial(say, "ppo")) if main_process() else None]
    start = checkpoints.same_here(broadcast_object_list(newest)[0])
    recorder = Recorder(run.workdir / "rollouts.jsonl", task, tokenizer, prompts)
    recorder.keep(0 if start is None else checkpoints.step(start))
    trainer = ppo.PPOTrainer(
        args,
        load_tokenizer(*run.base),
        model,
        None,
        reward,
        prompts,
        eval_dataset=held_out,
        check=judge,
        on_rollout=recorder.record,
        checkpoints=checkpoints,
        callbacks=[
            MetricsFile(run.workdir / "metrics.jsonl"),
            StopDiverged("ppo"),
            DoctorCallback(recorder.written),
        ],
    )
    if start is not None:
        keep_batch(run, trainer, start)
        say("ppo", resuming(start, trainer.updates))
    train(trainer, start)
    if trainer.stopped is not None:
        say("ppo", f"ended at update {trainer.state.global_step}: {trainer.stopped}")
    if main_process():
        publish(run, trainer, model, tokenizer, recorder)
    trainer.accelerator.wait_for_everyone()


def keep_batch(run: Run, trainer: ppo.PPOTrainer, start: Path) -> None:
    """Keep the batch of a run that was begun with another number of processes, and say what cannot be kept."""
    ranks, begun = trainer.accelerator.num_processes, load_state(start).begun_with
    trainer.keep_batch_of(begun)
    if ranks == begun:
        return
    say("ppo", f"begun with {begun} ranks, now {ranks}: an update still has {trainer.args.batch_size} completions")
    rewards = (source for role, source in scorers_by_role(run.config, "ppo").items() if role.startswith("reward"))
    if any(source.kind in ("function", "task") for source in rewards):
        text = (
            "the reward function gets other shares of them: where it compares completions or draws random numbers"
        )
        say("ppo", f"{text}, the result differs from that of {begun} ranks")


def train(trainer: ppo.PPOTrainer, start: Path | None) -> None:
    """Train, from the checkpoint ``start`` where there is one.

    Raises:
        ConfigError: there is no update, or only the value model would be trained.
        ModelError: the policy's weights are not finite, or have not changed though an update was published.
    """
    warmup = trainer.args.value_warmup_updates
    if trainer.updates < 1:
        raise ConfigError("ppo", "has no update to make.", "Raise ppo.total_episodes or ppo.num_train_epochs.")
    if warmup >= trainer.updates:
        raise ConfigError(
            "ppo.value_warmup_updates",
            f"{warmup} of {trainer.updates} updates train the value model alone, so no policy would be trained.",
            "Lower it, or raise ppo.total_episodes.",
        )
    policy = [p for name, p in trainer.trained.items() if name.startswith("policy.")]
    before = norms(policy)
    trainer.train(start)
    require_finite(trainer.accelerator.unwrap_model(trainer.model).policy, "ppo", diverged_advice("ppo"))
    if start is None and trainer.published > 0:
        require_moved(before, policy, "ppo", trainer.state.global_step)


def prompts_to_select_by(run: Run) -> list[str]:
    """The prompts on which PPO is checked; they are neither trained on nor evaluated on.

    Raises:
        DataError: there are none.
    """
    version = run.version("prompts")
    if not version.has_split("select"):
        raise DataError(
            version.where,
            "has no split select, the prompts by which PPO is checked and its best policy chosen.",
            "Run  make collect  again with a larger collect.select_share or more prompts, or set "
            "ppo.eval_strategy: no.",
        )
    return [r["prompt"] for r in version.iter_rows("select")]


def load_model(run: Run, args: section.PPOSection) -> tuple[Any, Tokenizer]:
    """The model to train: the base with a new adapter or the one to start from, or the whole base."""
    dtype = torch.bfloat16 if args.bf16 and args.use_peft else torch.float32
    start = run.version("start").path if "start" in run.inputs else None
    reference = reference_adapter(run, args)
    model, tokenizer = load_policy(*run.base, start, dtype)
    if not args.use_peft:
        return model.requires_grad_(True), tokenizer
    if start is None:
        set_seed(args.seed)  # LoRA's A is drawn here
        model = get_peft_model(
            model, lora_config(model, **args.lora(), task_type="CAUSAL_LM"), adapter_name="policy"
        )
    if reference is not None:
        add_role(model, reference.path, "reference")
        args.ref_adapter_name = "reference"
    if start is not None or reference is not None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(".policy." in name)
    return model, tokenizer


def reference_adapter(run: Run, args: section.PPOSection) -> Version | None:
    """The adapter that the KL is measured to; None where that is the base.

    Raises:
        ConfigError: it, or the one to start from, is a whole model; or the run trains one.
    """
    named = [run.version(role) for role in ("reference", "start") if role in run.inputs]
    if not args.use_peft and ("reference" in run.inputs or (named and args.reference == "base")):
        what = "use_peft: false measures the KL to the model that it starts from."
        raise ConfigError(f"{run.config.path}: ppo", what, "Leave reference and inputs.reference out.")
    for version in named if args.use_peft else ():
        if not (version.path / ADAPTER_CONFIG).is_file():
            mend = "Give it as base_model, or use_peft: false."
            raise ConfigError(version.where, "is a whole model, not an adapter.", mend)
    return named[0] if named and args.use_peft and args.reference == "start" else None


def gold_judge(task: Task) -> Scorer | None:
    """The task's gold score as a scorer of held-out completions; None where it has none."""
    if task.gold_name is None:
        return None
    return lambda samples: torch.tensor(task.gold_scores(samples.prompts, samples.completions))


def task_defaults(run: Run, task: Task) -> dict[str, int]:
    """The response length of the task, unless the config has one."""
    return {} if run.config.ppo.response_length else {"response_length": task.completion_tokens}


def check_reward_base(run: Run) -> None:
    """Refuse a reward adapter that was trained on another base.

    Raises:
        ModelError: the bases differ.
    """
    if "reward" not in run.inputs:
        return
    reward, base = run.version("reward"), run.inputs["base"]
    trained_on = next((m for m in reward.manifest.models if m["role"] == "base"), None)
    if trained_on is not None and trained_on["content"] != base.id:
        raise ModelError(
            reward.where,
            f"was trained on another base ({trained_on['id']}) than this run's ({base.ref}).",
            "Train one on this base: make reward",
        )


def publish(run: Run, trainer: ppo.PPOTrainer, model: Any, tokenizer: Tokenizer, recorder: Recorder) -> None:
    """Write the rollouts, then the policy in Hub format: an adapter, or a whole model without LoRA."""
    updates = [row for row in trainer.state.log_history if "update" in row]
    last = updates[-1] if updates else {}
    args, best = trainer.args, trainer.best_policies.monitor.best
    with run.draft("rollouts") as draft:
        draft.write_rows("train", recorder.rows(), schema=ROLLOUTS)
    with run.draft("policy", parents=[(draft.version, "rollouts")], governance=with_approvals(run)) as draft:
        base, revision = run.published_base(draft, loaded_commit(*run.base))
        if args.use_peft:
            save_adapter(model, "policy", draft.path, base=base, revision=revision, tokenizer=tokenizer)
        else:
            save_model(model, tokenizer, draft.path)
        run.keep_metrics(draft)
        draft.device = str(model.device)
        draft.stats.update(
            updates=len(updates),
            episodes=trainer.state.episode,
            temperature=args.temperature,
            response_length=args.response_length,
            stopped=trainer.stopped,
            kept=trainer.published,
            **({"notice": SENTENCE} if trainer.published == 0 else {}),
            held_out=held_out_history(trainer.state.log_history),
            last={k: v for k, v in last.items() if isinstance(v, int | float)},
        )
        draft.card = lambda made: adapter_card(made, None, run.lineage(made.ref), "policy")
    if last:
        say("ppo", f"proxy score {last[Logged.SCORES]:.2f} at KL {last[Logged.KL]:.1f} nats")
    if args.keep_best and best is not None:
        judged = f"held-out {'check' if best.checks else 'score'} {best.rank:.2f} at KL {best.kl:.1f} nats"
        varied = "" if best.closings is None else f", {best.closings:.1f} effective closing sentences"
        say("ppo", f"published: the best policy, after update {best.update} of {len(updates)}, {judged}{varied}")
    elif trainer.best_policies.went_back is not None:
        say("ppo", f"published: the policy after update {trainer.published} of {len(updates)}")
    if trainer.published == 0:
        say("ppo", f"{SENTENCE} Run: python -m pipeline doctor {draft.version.ref}")


def held_out_history(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The held-out figures of each evaluation, with its update (0: before the first)."""
    return [
        {"update": row.get("update", 0), **{k: v for k, v in row.items() if k.startswith("eval/")}}
        for row in log
        if Logged.HELD_SCORES in row
    ]
