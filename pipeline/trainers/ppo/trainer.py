"""PPO with LoRA roles on one base: TRL's PPOTrainer with a training loop of our own.

Kept from TRL 1.12: config, constructor, optimiser, scheduler, callbacks, state and logging keys, so that it can
replace TRL's (:mod:`pipeline.trainers.ppo.trl_parent`). Replaced: ``train()``, whose masks look for padding ids,
whose score lands on padding, whose minibatches and seeds do not follow their settings, and which cannot resume.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list, gather_object
from peft import PeftConfig
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback, set_seed

from pipeline.functional.advantages import gae, token_rewards, whiten
from pipeline.functional.kl import AdaptiveKL, kl_k1, kl_k3
from pipeline.functional.moments import RunningMoments
from pipeline.modeling.decoding.drawing import uniforms
from pipeline.modeling.lora import fuse_lora
from pipeline.modeling.precision import cast_base_to_bf16
from pipeline.modeling.roles import Role, language_model, output_embedding
from pipeline.modeling.tokens import right_pad
from pipeline.modeling.types import CausalLM, Tokenizer
from pipeline.modeling.unpadded.rows import fits
from pipeline.modeling.weights import trained_parameters
from pipeline.results.metrics import Logged
from pipeline.scoring.scorer import Samples, Scorer
from pipeline.store.checkpoints import Checkpoints
from pipeline.trainers.arguments import is_sharded
from pipeline.trainers.ppo import checkpoint, trl_parent
from pipeline.trainers.ppo.best_policy import BestPolicies
from pipeline.trainers.ppo.console import add_console
from pipeline.trainers.ppo.inputs import (
    Prompts,
    as_scorer,
    as_value_model,
    check_trunk_is_frozen,
    held_out_rows,
    policy_adapter,
    read_prompts,
)
from pipeline.trainers.ppo.metrics import held_out_eval, held_out_metrics, rollout_metrics, training_metrics
from pipeline.trainers.ppo.optimise import build_optimizer, optimise, seeded_generator
from pipeline.trainers.ppo.policy_and_value import PolicyAndValue
from pipeline.trainers.ppo.rollout import Rollout, SamplingSettings, collect_rollout, gathered
from pipeline.trainers.ppo.section import PPOSection
from pipeline.trainers.shared_checkpointing import SaveInTime, seed_anew

OnRollout = Callable[[int, list[int], Rollout, Tensor], dict[str, float]]
"""Called by the main process with the update, its prompts' indices, the rollout and its final scores; returns
further metrics to log, such as the gold score."""


class PPOTrainer(trl_parent.TRLPPOTrainer):
    """PPO; with LoRA, the reference is the same model with its adapters off.

    Args:
        args: the config section, or TRL's ``PPOConfig``.
        processing_class: tokenizer of the policy.
        model: the policy: a PEFT model, or a causal LM that ``peft_config`` adapts or that is trained whole.
        ref_model: reference of its own; by default adapters off, or a copy of a model without adapters.
        reward_model: a scorer, or a sequence classifier with the policy's tokenizer, as in TRL.
        train_dataset: prompts: a dataset with ``input_ids`` or ``prompt`` (texts or conversations), or a list.
        value_model: a sequence classifier; by default the one that ``args.value_model`` names.
        eval_dataset: held-out prompts, sampled every ``eval_steps`` updates.
        check: scorer of their completions, never trained on.
        on_rollout: see :data:`OnRollout`.
        checkpoints: of the run's state; in ``output_dir`` by default, with ``save_strategy``.

    Attributes:
        best_policies: copies of the weights, and the rules that restore them.
        stopped: the reason why the run ended early.
    """

    # TRL's declarations are wider.
    args: PPOSection  # pyright: ignore[reportIncompatibleVariableOverride]
    processing_class: Tokenizer  # pyright: ignore[reportIncompatibleVariableOverride]
    model: torch.nn.Module  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        args: trl_parent.PPOConfig,
        processing_class: Tokenizer,
        model: CausalLM,
        ref_model: PreTrainedModel | None = None,
        reward_model: Scorer | PreTrainedModel | None = None,
        train_dataset: Any = None,
        value_model: PreTrainedModel | None = None,
        data_collator: Callable[..., Any] | None = None,
        eval_dataset: Iterable[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        callbacks: list[TrainerCallback] | None = None,
        peft_config: PeftConfig | None = None,
        *,
        check: Scorer | None = None,
        on_rollout: OnRollout | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        section = PPOSection.of(args)
        tokens = section.completion_tokens()
        self.prompts = read_prompts(train_dataset, processing_class, model, tokens, "train_dataset")
        rows = held_out_rows(eval_dataset, section)
        self.held_out = read_prompts(rows, processing_class, model, tokens, "eval_dataset") if rows else None
        if section.bf16:
            cast_base_to_bf16(model, adapted=peft_config is not None)
        set_seed(section.seed)
        trl_parent.initialise(
            self,
            PolicyAndValue,
            args=section,
            processing_class=processing_class,
            model=model,
            prompt_ids=self.prompts.ids,
            ref_model=ref_model,
            value_model=as_value_model(value_model, model, section),
            data_collator=data_collator,
            optimizers=optimizers,
            callbacks=callbacks,
            peft_config=peft_config,
        )
        self.check, self.on_rollout = check, on_rollout
        self.console = add_console(self, section, self.updates)
        self._set_up_roles(as_scorer(reward_model, self.accelerator.device))
        self._set_up_state(checkpoints)

    def _set_up_roles(self, scorer: Scorer) -> None:
        """Set up the models that sample, score and are the reference."""
        args, wrapper = self.args, self.wrapper
        fuse_lora(wrapper)
        if args.gradient_checkpointing:
            wrapper.gradient_checkpointing_enable(gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs)
        wrapper.trunk_layers = args.trunk_layers
        check_trunk_is_frozen(wrapper.policy, args.trunk_layers)
        # Checkpointed blocks run again where the rows are not known any more.
        padded = args.gradient_checkpointing or args.trunk_layers or is_sharded()
        wrapper.unpadded = not padded and self._runs_unpadded(wrapper.policy)
        self.scorer = scorer
        reference = wrapper.policy if self.ref_model is None else cast("CausalLM", self.ref_model)
        self.reference = Role(reference, self.ref_adapter_name)
        adapter = policy_adapter(wrapper.policy, self.model_adapter_name)
        self.sampling = SamplingSettings.of(args, wrapper.policy, cast("int | None", self.stop_token_id), adapter)

    def _runs_unpadded(self, policy: CausalLM) -> bool:
        """Whether the policy's base can read its longest and its shortest prompt with a completion unpadded."""
        ids = sorted(self.prompts.ids, key=len)
        filler = [ids[0][0]] * self.args.completion_tokens()
        rows, lengths = right_pad(
            [[*ids[0], *filler[:1]], [*ids[-1], *filler]], 0, output_embedding(policy).device
        )
        return fits(cast("PreTrainedModel", language_model(policy).base_model), rows, lengths)

    def _set_up_state(self, checkpoints: Checkpoints | None) -> None:
        """Set up the state that changes between updates, besides the weights."""
        args = self.args
        self.kl_controller = AdaptiveKL(args.kl_coef, args.kl_target, args.kl_horizon)
        self.moments = RunningMoments()
        self.best_policies = BestPolicies(self.wrapper, args)
        self.stopped: str | None = None
        self.begun_with = self.accelerator.num_processes
        if checkpoints is None and args.save_strategy != "no":
            checkpoints = Checkpoints(Path(str(args.output_dir)), args.save_total_limit or 2)
        self.checkpoints = checkpoints
        self.timer = SaveInTime(args.save_seconds)
        if checkpoints is not None and args.save_seconds > 0:
            self.add_callback(self.timer)

    def train(self, resume_from_checkpoint: Path | str | None = None) -> None:
        """Run every update; see :meth:`step` for one.

        Args:
            resume_from_checkpoint: a directory that :meth:`save_checkpoint` wrote.
        """
        args = self.args
        self.state.global_step, self.state.episode = 0, 0
        if resume_from_checkpoint is not None:
            self.load_checkpoint(Path(resume_from_checkpoint))
        updates, batch_size = self.updates, cast("int", args.batch_size)
        self.state.max_steps = updates
        epochs = cast("int", args.total_episodes) / self.train_dataset_len
        self.state.num_train_epochs = epochs  # pyright: ignore[reportAttributeAccessIssue] - as TRL does
        self.state.compute_steps(args, updates)
        self.control = self.callback_handler.on_train_begin(args, self.state, self.control)
        if self.held_out is not None and self.state.global_step == 0:
            self.log(self.evaluate_held_out())
        while self.state.global_step < updates and self.stopped is None:
            update = self.state.global_step
            self.control = self.callback_handler.on_step_begin(args, self.state, self.control)
            started = time.perf_counter()
            metrics = self.step(update)
            seconds = time.perf_counter() - started
            metrics["eps"] = batch_size / seconds
            metrics[Logged.SPEED] = metrics[Logged.LENGTH] * batch_size / seconds
            self.state.global_step = update + 1
            self.state.epoch = self.state.episode / self.train_dataset_len
            self.control = self.callback_handler.on_step_end(args, self.state, self.control)
            if self.held_out is not None and self.stopped is None and self.control.should_evaluate:
                metrics |= self.evaluate_held_out()
            elif self.held_out is not None and self.stopped is not None and args.diversity_floor is not None:
                self.evaluate_held_out()  # the restored policy has to be above the floor as well
            self.log(metrics)
            if self.control.should_save:
                self.save_checkpoint()
            if self.control.should_training_stop:
                break
        self.best_policies.restore_best()
        self.control = self.callback_handler.on_train_end(args, self.state, self.control)

    @property
    def updates(self) -> int:
        """The number of updates of the run: ``total_episodes`` in batches, or ``max_steps`` if that is less."""
        total = cast("int", self.args.num_total_batches)
        return min(total, self.args.max_steps) if self.args.max_steps > 0 else total

    def step(self, update: int) -> dict[str, float]:
        """Run one update: sample, score, penalise, estimate advantages, optimise, measure."""
        args = self.args
        indices = self.prompt_indices(update)
        rollout = self.sample(self.prompts, indices, seeded_generator(args.seed, update))
        mask = rollout.completion_mask
        score = self.final_score(rollout)
        kl = (kl_k1 if args.kl_estimator == "k1" else kl_k3)(rollout.old_logprobs, rollout.ref_logprobs) * mask
        rewards = token_rewards(score, kl, self.kl_controller.coef, mask)
        if args.whiten_rewards:
            rewards = whiten(rewards, mask, shift_mean=False)
        advantages, returns = gae(rewards, rollout.old_values, mask, args.gamma, args.lam)
        metrics = rollout_metrics(rollout, score, self.kl_controller.coef * kl, advantages, returns)
        if self.on_rollout is not None and self.is_world_process_zero():
            metrics |= self.on_rollout(update, indices, rollout, score)
        if self.console is not None and self.is_world_process_zero():
            self.console.take(update, rollout, [self.prompts.ids[i] for i in indices], self.processing_class)
        self.state.episode += len(rollout)
        metrics |= {"kl_coef": self.kl_controller.coef, "lr": self.optimizer.param_groups[0]["lr"]}
        metrics |= {"update": update + 1, "episode": self.state.episode}
        self.stopped = self.best_policies.over_budget(update, metrics[Logged.KL])
        if self.stopped is not None:
            return metrics
        advantages = whiten(advantages, mask)
        steps = optimise(self.model, self.optimizer, self.accelerator, rollout, advantages, returns, args, update)
        self.lr_scheduler.step()
        metrics |= training_metrics(steps)
        self.kl_controller.update(metrics[Logged.KL], len(rollout))
        return metrics

    def sample(self, prompts: Prompts, indices: Sequence[int], generator: torch.Generator) -> Rollout:
        """Sample ``prompts`` at ``indices``, each rank its share, and gather the rollout on all ranks.

        The noise is drawn for all rows, so the number of ranks changes no completion.
        """
        noise = uniforms(len(indices), self.sampling.max_new_tokens, generator)
        share = math.ceil(len(indices) / self.accelerator.num_processes)
        first = share * self.accelerator.process_index
        # A rank past the end samples the last row again, as all ranks have to take part.
        rows = [min(i, len(indices) - 1) for i in range(first, first + share)]
        as_given = [prompts.as_given[indices[i]] for i in rows]
        rollout = collect_rollout(
            self.wrapper,
            self.reference,
            self.scorer,
            [prompts.ids[indices[i]] for i in rows],
            self.sampling,
            noise[rows],
            self.processing_class,
            None if None in as_given else as_given,
        )
        whole = gathered(rollout, self.accelerator)
        return whole.take(torch.arange(len(indices), device=whole.input_ids.device))

    def prompt_indices(self, update: int) -> list[int]:
        """The prompts of an update, a function of (seed, position) with a new shuffle every pass.

        Each is repeated ``num_generations`` times, after all the others.
        """
        args = self.args
        size = cast("int", args.batch_size) // args.num_generations
        first, count = update * size, len(self.prompts.ids)
        passes = range(first // count, (first + size - 1) // count + 1)
        shuffles = [torch.randperm(count, generator=seeded_generator(args.seed, p, 1)) for p in passes]
        order: list[int] = torch.cat(shuffles).tolist()
        start = first - passes.start * count
        return order[start : start + size] * args.num_generations

    def final_score(self, rollout: Rollout) -> Tensor:
        """(B,) the score in the reward: scaled, clipped, less the penalty of completions without a stop token."""
        args = self.args
        score = rollout.score
        if args.scale_score == "running" or (args.scale_score == "ref" and self.moments.count == 0):
            self.moments.update(score)
        if args.scale_score is not None:
            score = self.moments.scale(score)
        if args.clip_score is not None:
            score = score.clamp(-args.clip_score, args.clip_score)
        if args.missing_eos_penalty is not None and self.stop_token_id is not None:
            score = score - args.missing_eos_penalty * ~rollout.ended
        return score

    def evaluate_held_out(self) -> dict[str, float]:
        """Sample the held-out prompts, always with the same noise; keep the best policy, and detect a fall."""
        prompts = self.held_out
        assert prompts is not None
        rollout = self.sample(prompts, range(len(prompts.ids)), seeded_generator(self.args.seed, 0, 1000))
        samples = Samples(prompts.ids, rollout.completions(), self.processing_class, prompts.as_given)
        checks: list[float] = []
        if self.check is not None:
            # One rank judges for all, as a judge may draw random numbers.
            checks = broadcast_object_list([self.check(samples).double().tolist()])[0]
        if self.console is not None and self.is_world_process_zero():
            self.console.take_held_out(samples, rollout.score.tolist(), checks)
        held = held_out_eval(self.best_policies.current(self.state.global_step), rollout, samples, checks)
        self.stopped = self.best_policies.add(held) or self.stopped
        return held_out_metrics(held, self.best_policies.monitor, rollout)

    def create_optimizer(self, model: object = None) -> torch.optim.Optimizer:
        """Build the optimiser; TRL's constructor calls this hook."""
        if self.optimizer is None:
            self.optimizer = build_optimizer(cast("PolicyAndValue", self.model), self.args)
        return self.optimizer

    def save_checkpoint(self) -> None:
        """Write the state that :meth:`train` needs to resume, atomically, from rank 0."""
        # Not under FSDP or DeepSpeed, whose parameters are sharded over ranks.
        if self.checkpoints is None or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return
        started = time.monotonic()
        ranks = gather_object([checkpoint.random_state()])
        if self.is_world_process_zero():
            state = checkpoint.RunState(
                global_step=self.state.global_step,
                episode=self.state.episode,
                log_history=self.state.log_history,
                scheduler=self.lr_scheduler.state_dict(),
                kl_coef=self.kl_controller.coef,
                moments=self.moments,
                monitor=self.best_policies.monitor,
                stopped=self.stopped,
                within=self.best_policies.within,
                went_back=self.best_policies.went_back,
                ranks=ranks,
                begun_with=self.begun_with,
            )
            with self.checkpoints.writing(self.state.global_step) as directory:
                checkpoint.save(
                    directory, self.trained, _unwrapped(self.optimizer), self.best_policies.copies, state
                )
        self.accelerator.wait_for_everyone()
        self.timer.wrote(time.monotonic() - started)

    def load_checkpoint(self, directory: Path) -> None:
        """Restore the state in a directory of :meth:`save_checkpoint`; raises as :mod:`checkpoint` does."""
        best, state = self.best_policies, checkpoint.load_state(directory)
        self.keep_batch_of(state.begun_with)
        best.copies = checkpoint.load_tensors(directory, self.trained, _unwrapped(self.optimizer))
        self.state.global_step, self.state.episode = state.global_step, state.episode
        self.state.log_history = state.log_history
        self.state.epoch = self.state.episode / self.train_dataset_len
        self.lr_scheduler.load_state_dict(state.scheduler)
        for group, rate in zip(self.optimizer.param_groups, state.scheduler["_last_lr"], strict=True):
            group["lr"] = rate
        self.kl_controller.coef, self.moments, self.stopped = state.kl_coef, state.moments, state.stopped
        best.monitor, best.within, best.went_back = state.monitor, state.within, state.went_back
        rank = self.accelerator.process_index
        if len(state.ranks) == self.accelerator.num_processes:
            checkpoint.set_random_state(state.ranks[rank])
        else:
            seed_anew(self.args.seed, state.global_step, rank)

    def keep_batch_of(self, ranks: int) -> None:
        """Keep the batch of a run that was begun with ``ranks`` processes, whatever their number is now.

        Everything else is the same for any number: the ranks share out the rows of an update and of a minibatch.
        """
        args = self.args
        if ranks == self.begun_with:
            return
        self.begun_with = ranks
        args.batch_size = cast("int", args.local_batch_size) * ranks
        args.mini_batch_size = args.batch_size // args.num_mini_batches
        args.num_total_batches = math.ceil(cast("int", args.total_episodes) / args.batch_size)
        self.lr_scheduler = cast("Any", None)
        self.create_scheduler(args.num_total_batches, _unwrapped(self.optimizer))
        self.callback_handler.lr_scheduler = self.lr_scheduler

    @property
    def wrapper(self) -> PolicyAndValue:
        """Policy and value model, without Accelerate's wrappers."""
        return cast("PolicyAndValue", self.accelerator.unwrap_model(self.model))

    @property
    def trained(self) -> dict[str, torch.nn.Parameter]:
        """All trained parameters, by name."""
        return trained_parameters(self.wrapper)

    @property
    def published(self) -> int:
        """The number of updates behind the final policy."""
        return self.best_policies.published(self.state.global_step)


def _unwrapped(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    return getattr(optimizer, "optimizer", optimizer)
