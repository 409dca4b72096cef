"""PPO with LoRA roles on one base: TRL's PPOTrainer with its loop cut into named steps.

Kept from TRL 1.12: its config, constructor, optimiser, scheduler, callbacks, state and logging keys, so that it
goes where TRL's goes. Replaced: ``train()``, whose masks look for padding ids, whose score lands on padding, whose
minibatches and seeds do not do what they say, and which cannot resume.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import trl.experimental.ppo.ppo_trainer as trl_ppo
from datasets import Dataset
from torch import Tensor, nn
from transformers import set_seed
from trl.experimental.ppo import PPOConfig

from pipeline.functional.advantages import gae, token_rewards, whiten
from pipeline.functional.kl import AdaptiveKL, kl_k1, kl_k3
from pipeline.functional.moments import RunningMoments
from pipeline.modeling.drawing import uniforms
from pipeline.modeling.lora import fuse_lora
from pipeline.modeling.roles import Role, output_embedding
from pipeline.scoring.scorer import Scorer
from pipeline.store.checkpoints import Checkpoints
from pipeline.trainers.checkpointing import SaveInTime
from pipeline.trainers.ppo import state
from pipeline.trainers.ppo.console import add_console
from pipeline.trainers.ppo.inputs import (
    Prompts,
    as_scorer,
    as_value_model,
    in_bf16,
    read_prompts,
    require_free_trunk,
)
from pipeline.trainers.ppo.keeping import Keeping
from pipeline.trainers.ppo.metrics import rollout_metrics, training_metrics
from pipeline.trainers.ppo.optimise import generator_of
from pipeline.trainers.ppo.policy_and_value import PolicyAndValue
from pipeline.trainers.ppo.rollout import Rollout, Sampling, collect_rollout, gathered
from pipeline.trainers.ppo.section import PPOSection
from pipeline.trainers.ppo.stopping import Watch

OnRollout = Callable[[int, list[int], Rollout, Tensor], dict[str, float]]
"""Called by the main process with the update, its prompts' indices, the rollout and its final scores; what it
returns is logged beside TRL's figures, such as the gold score of what was sampled."""


class PPOTrainer(Keeping):
    """PPO; with LoRA, the reference is the same model with its adapters off.

    Args:
        args: the config section, or TRL's ``PPOConfig``.
        processing_class: tokenizer of the policy.
        model: the policy: a PEFT model, or a causal LM that ``peft_config`` adapts or that is trained whole.
        ref_model: reference of its own; by default adapters off, or a copy of a model without adapters.
        reward_model: a scorer, or a sequence classifier with the policy's tokenizer, as TRL takes it.
        train_dataset: prompts: a dataset with ``input_ids`` or ``prompt`` (texts or conversations), or a list.
        value_model: a sequence classifier; by default what ``args.value_model`` says.
        eval_dataset: held-out prompts, sampled every ``eval_steps`` updates.
        check: scorer of what was sampled on them, never trained on.
        on_rollout: see :data:`OnRollout`.
        checkpoints: where the run's state is kept; ``output_dir`` by default, with ``save_strategy``.
    """

    def __init__(
        self,
        args: PPOConfig,
        processing_class: Any,
        model: Any,
        ref_model: Any = None,
        reward_model: Any = None,
        train_dataset: Any = None,
        value_model: Any = None,
        data_collator: Any = None,
        eval_dataset: Any = None,
        optimizers: tuple[Any, Any] = (None, None),
        callbacks: list[Any] | None = None,
        peft_config: Any = None,
        *,
        check: Scorer | None = None,
        on_rollout: OnRollout | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        section = PPOSection.of(args)
        if section.response_length is None:
            raise ValueError("response_length is not set: give the most tokens of a completion")
        self.prompts = read_prompts(
            train_dataset, processing_class, model, section.response_length, "train_dataset"
        )
        held_out = [] if eval_dataset is None else list(eval_dataset)[: section.eval_prompts]
        if len(held_out) == 1:  # a task of one prompt: each of its completions is a sample of its own
            held_out *= section.eval_prompts
        self.held_out: Prompts | None = None
        if held_out and section.eval_strategy != "no":
            self.held_out = read_prompts(
                held_out, processing_class, model, section.response_length, "eval_dataset"
            )
        if section.bf16:
            in_bf16(model, adapted=peft_config is not None)
        set_seed(section.seed)
        if checkpoints is None and section.save_strategy != "no":
            checkpoints = Checkpoints(Path(str(section.output_dir)), section.save_total_limit or 2)
        self.check, self.on_rollout, self.checkpoints = check, on_rollout, checkpoints
        with _wrapper_class(PolicyAndValue):
            super().__init__(
                args=section,
                processing_class=processing_class,
                model=model,
                ref_model=ref_model,
                reward_model=nn.Identity(),  # pyright: ignore[reportArgumentType] - the scorer takes its place
                train_dataset=Dataset.from_dict({"input_ids": self.prompts.ids}),
                value_model=as_value_model(value_model, model, section),  # pyright: ignore[reportArgumentType]
                data_collator=data_collator,
                eval_dataset=None,
                optimizers=optimizers,
                callbacks=callbacks,
                peft_config=peft_config,
            )
        self.console = add_console(self)
        wrapper: Any = self.accelerator.unwrap_model(self.model)
        fuse_lora(wrapper)
        if section.gradient_checkpointing:
            wrapper.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs=section.gradient_checkpointing_kwargs
            )
        # Losses are already divided by the tokens of the whole step; Accelerate would divide once more.
        self.accelerator.gradient_accumulation_steps = 1
        self.scorer = as_scorer(reward_model, self.accelerator.device)
        own = wrapper.policy if self.ref_model is None else self.ref_model
        self.reference = Role(own, self.ref_adapter_name)
        wrapper.trunk_layers = section.trunk_layers
        require_free_trunk(wrapper.policy, section.trunk_layers)
        adapter = self.model_adapter_name or ("policy" if self.is_peft_model else None)
        if self.is_peft_model and adapter not in wrapper.policy.peft_config:
            adapter = wrapper.policy.active_adapter
        exact = output_embedding(wrapper.policy).dtype == torch.float32
        self.sampling = Sampling(
            max_new_tokens=section.response_length,
            temperature=section.temperature,
            stop_id=cast("int | None", self.stop_token_id),
            batch_size=section.local_rollout_forward_batch_size,
            policy=adapter,
            rescore=not exact if section.rescore is None else section.rescore,
        )
        self.kl_controller = AdaptiveKL(section.kl_coef, section.kl_target, section.kl_horizon)
        self.moments = RunningMoments()
        self.watch = Watch(section.kl_budget, section.fall_patience, diversity_floor=section.diversity_floor)
        self.copies: dict[str, dict[str, Tensor]] = {}
        self.within: list[float] | None = None
        self.stopped: str | None = None
        self.went_back: int | None = None
        self.timer = SaveInTime(section.save_seconds)
        if checkpoints is not None and section.save_seconds > 0:
            self.add_callback(self.timer)

    def train(self, resume_from_checkpoint: Path | str | None = None) -> None:
        """Run every update; see :meth:`step` for one.

        Args:
            resume_from_checkpoint: a directory that :meth:`save_checkpoint` wrote; the run goes on as if it had
                never ended.
        """
        args: Any = self.args
        updates = self.updates
        self.state.global_step, self.state.episode = 0, 0
        self.state.max_steps = updates
        self.state.num_train_epochs = args.total_episodes / self.train_dataset_len
        self.state.compute_steps(args, updates)
        if resume_from_checkpoint is not None:
            self.load_checkpoint(Path(resume_from_checkpoint))
        self.control = self.callback_handler.on_train_begin(args, self.state, self.control)
        if self.held_out is not None and self.state.global_step == 0:
            self.log(self.evaluate_held_out())
        while self.state.global_step < updates and self.stopped is None:
            update = self.state.global_step
            self.control = self.callback_handler.on_step_begin(args, self.state, self.control)
            started = time.perf_counter()
            metrics = self.step(update)
            seconds = time.perf_counter() - started
            metrics["eps"] = args.batch_size / seconds
            metrics["tokens_per_second"] = metrics["length/mean"] * args.batch_size / seconds
            self.state.global_step = update + 1
            self.state.epoch = self.state.episode / self.train_dataset_len
            self.control = self.callback_handler.on_step_end(args, self.state, self.control)
            if self.held_out is not None and self.stopped is None and self.control.should_evaluate:
                metrics |= self.evaluate_held_out()
            elif self.held_out is not None and self.stopped is not None and args.diversity_floor is not None:
                self.evaluate_held_out()  # the policy that was put back has to be above the floor as well
            self.log(metrics)
            if self.control.should_save:
                self.save_checkpoint()
            if self.control.should_training_stop:
                break
        if args.keep_best and "best" in self.copies:
            state.put_back(self.trained, self.copies["best"])
        self.control = self.callback_handler.on_train_end(args, self.state, self.control)

    @property
    def updates(self) -> int:
        """How many the run has: ``total_episodes`` in batches, or ``max_steps`` if that is less."""
        args: Any = self.args
        return min(args.num_total_batches, args.max_steps) if args.max_steps > 0 else args.num_total_batches

    def step(self, update: int) -> dict[str, float]:
        """One update: sample, score, penalise, estimate advantages, optimise, measure."""
        args: Any = self.args
        indices = self.prompt_indices(update)
        rollout = self.sample(self.prompts, indices, generator_of(args.seed, update))
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
        if self.over_budget(update, metrics["objective/kl"]):
            return metrics
        metrics |= training_metrics(self.optimise(update, rollout, whiten(advantages, mask), returns))
        self.kl_controller.update(metrics["objective/kl"], len(rollout))
        return metrics

    def sample(self, prompts: Prompts, indices: Sequence[int], generator: torch.Generator) -> Rollout:
        """Sample ``prompts`` at ``indices``, every rank its share, and hand all of it to every rank.

        The noise is drawn for all rows, so how many ranks there are changes no completion.
        """
        wrapper: Any = self.accelerator.unwrap_model(self.model)
        noise = uniforms(len(indices), self.sampling.max_new_tokens, generator)
        share = math.ceil(len(indices) / self.accelerator.num_processes)
        first = share * self.accelerator.process_index
        # A rank past the end samples the last row again: ranks must not wait for one that has nothing to do.
        mine = [min(i, len(indices) - 1) for i in range(first, first + share)]
        given = [prompts.given[indices[i]] for i in mine]
        rollout = collect_rollout(
            wrapper,
            self.reference,
            self.scorer,
            [prompts.ids[indices[i]] for i in mine],
            self.sampling,
            noise[mine],
            self.processing_class,
            None if None in given else given,
        )
        whole = gathered(rollout, self.accelerator)
        return whole.take(torch.arange(len(indices), device=whole.input_ids.device))

    def prompt_indices(self, update: int) -> list[int]:
        """Which prompts this update samples: a function of (seed, position) alone, a new shuffle every pass.

        With ``num_generations`` of each, all of them come once before the first comes again.
        """
        args: Any = self.args
        size = args.batch_size // args.num_generations
        first, count = update * size, len(self.prompts.ids)
        passes = range(first // count, (first + size - 1) // count + 1)
        shuffles = [torch.randperm(count, generator=generator_of(args.seed, p, 1)) for p in passes]
        order: list[int] = torch.cat(shuffles).tolist()
        start = first - passes.start * count
        return order[start : start + size] * args.num_generations

    def final_score(self, rollout: Rollout) -> Tensor:
        """(B,) the score that enters the reward: scaled, clipped, less the penalty where no stop token came."""
        args: Any = self.args
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


@contextmanager
def _wrapper_class(cls: type[nn.Module]):
    """Have TRL's constructor prepare ``cls`` instead of its own wrapper, whose forward runs a second backbone."""
    original = trl_ppo.PolicyAndValueWrapper
    trl_ppo.PolicyAndValueWrapper = cls  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        trl_ppo.PolicyAndValueWrapper = original
