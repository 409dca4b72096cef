"""PPO with LoRA roles on one base: TRL's PPOTrainer with its loop cut into named steps.

Kept from TRL 1.12: its config, constructor, optimiser, scheduler, callbacks, state and logging keys, so that it
goes where TRL's goes. Replaced: ``train()``, whose masks look for padding ids, whose score lands on padding, whose
minibatches and seeds do not do what they say, and which cannot resume.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
import trl.experimental.ppo.ppo_trainer as trl_ppo
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from torch import Tensor, nn
from transformers import set_seed
from trl.experimental.ppo import PPOConfig
from trl.experimental.ppo import PPOTrainer as TRLPPOTrainer

from pipeline.core.checkpoints import Checkpoints
from pipeline.core.errors import ModelError
from pipeline.core.records import digest
from pipeline.functional.advantages import gae, token_rewards, whiten
from pipeline.functional.kl import AdaptiveKL, kl_k1, kl_k3
from pipeline.functional.losses import policy_loss, value_loss
from pipeline.functional.moments import RunningMoments
from pipeline.modeling.generation import uniforms
from pipeline.modeling.lora import fuse_lora
from pipeline.modeling.roles import output_embedding
from pipeline.modeling.samples import Samples, Scorer
from pipeline.trainers import ppo_state
from pipeline.trainers.checkpointing import SaveInTime, readable
from pipeline.trainers.common import show_progress
from pipeline.trainers.measure import rollout_metrics, training_metrics
from pipeline.trainers.policy import PolicyAndValue
from pipeline.trainers.ppo_config import PPOSection
from pipeline.trainers.ppo_inputs import (
    Prompts,
    adapter_parameters,
    as_scorer,
    as_value_model,
    in_bf16,
    read_prompts,
    require_free_trunk,
)
from pipeline.trainers.rollout import Reference, Rollout, Sampling, collect_rollout, gathered
from pipeline.trainers.stopping import Held, Watch

OnRollout = Callable[[int, list[int], Rollout, Tensor], dict[str, float]]
"""Called by the main process with the update, its prompts' indices, the rollout and its final scores; what it
returns is logged beside TRL's figures, such as the gold score of what was sampled."""


class PPOTrainer(TRLPPOTrainer):
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
        show_progress(self)
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
        self.reference = Reference(own, self.ref_adapter_name)
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
        self.watch = Watch(section.kl_budget, section.fall_patience)
        self.copies: dict[str, dict[str, Tensor]] = {}
        self.stopped: str | None = None
        self.timer = SaveInTime(section.save_seconds)
        if checkpoints is not None and section.save_seconds > 0:
            self.add_callback(self.timer)

    # ------------------------------------------------------------------ the run

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
            if self.held_out is not None and self.control.should_evaluate:
                metrics |= self.evaluate_held_out()
            self.log(metrics)
            if self.control.should_save:
                self.save_checkpoint()
            if self.control.should_training_stop:
                break
        if args.keep_best and "best" in self.copies:
            ppo_state.put_back(self.trained, self.copies["best"])
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
        rollout = self.sample(self.prompts, indices, _generator(args.seed, update))
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
        self.state.episode += len(rollout)
        metrics |= {"kl_coef": self.kl_controller.coef, "lr": self.optimizer.param_groups[0]["lr"]}
        metrics |= {"update": update + 1, "episode": self.state.episode}
        if self.over_budget(metrics["objective/kl"]):
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
        """Which prompts this update samples: a function of (seed, position) alone, a new shuffle every pass."""
        args: Any = self.args
        first, count = update * args.batch_size, len(self.prompts.ids)
        passes = range(first // count, (first + args.batch_size - 1) // count + 1)
        order = [i for p in passes for i in torch.randperm(count, generator=_generator(args.seed, p, 1)).tolist()]
        start = first - passes.start * count
        return order[start : start + args.batch_size]

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

    # ----------------------------------------------------------- the optimisation

    def optimise(
        self, update: int, rollout: Rollout, advantages: Tensor, returns: Tensor
    ) -> list[dict[str, float]]:
        """Several epochs over the rollout in shuffled minibatches; one optimiser step for each."""
        args: Any = self.args
        value_only = update < args.value_warmup_updates
        steps: list[dict[str, float]] = []
        for epoch in range(args.num_ppo_epochs):
            order = torch.randperm(len(rollout), generator=_generator(args.seed, update, 2 + epoch))
            epoch_steps = [
                self.minibatch_step(rollout, advantages, returns, rows, value_only)
                for rows in order.split(args.mini_batch_size)
            ]
            if not steps:
                self.require_same_logprobs(epoch_steps[0])
            steps += epoch_steps
            if (
                args.target_kl is not None
                and training_metrics(epoch_steps)["policy/approxkl_avg"] > args.target_kl
            ):
                break
        self.lr_scheduler.step()
        return steps

    def minibatch_step(
        self, rollout: Rollout, advantages: Tensor, returns: Tensor, rows: Tensor, value_only: bool = False
    ) -> dict[str, float]:
        """One optimiser step on ``rows`` of all ranks; the loss is divided by the tokens of all of them."""
        args: Any = self.args
        model: Any = self.model
        tokens = rollout.completion_mask[rows].sum()
        ranks = self.accelerator.num_processes
        sums: dict[str, Tensor] = {}
        micro_batches = self.micro_batches(rollout, rows)
        for i, (micro, counts) in enumerate(micro_batches):
            part = rollout.take(micro)
            mask, width = part.completion_mask, part.width
            last = i == len(micro_batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(model):
                logprobs, entropy, values = model(
                    part.input_ids,
                    part.prompt_lengths,
                    part.completion_ids,
                    mask,
                    part.trunk,
                    args.temperature,
                    args.entropy_coef != 0.0,
                    value_only,
                )
                pg, ratio, pg_clipped = policy_loss(
                    logprobs, part.old_logprobs[mask], advantages[micro, :width][mask], args.cliprange
                )
                vf, vf_clipped = value_loss(
                    values, part.old_values[mask], returns[micro, :width][mask], args.cliprange_value
                )
                policy_weight = 0.0 if value_only else 1.0
                loss = policy_weight * (pg.sum() - args.entropy_coef * entropy.sum()) + args.vf_coef * vf.sum()
                # Ranks average their gradients; what is wanted is the sum.
                self.accelerator.backward(counts * ranks * loss / tokens)
            with torch.no_grad():
                change = logprobs - part.old_logprobs[mask]
                row = {"pg": pg, "vf": vf, "entropy": entropy, "pg_clipped": pg_clipped, "vf_clipped": vf_clipped}
                row |= {"approxkl": 0.5 * change**2, "ratio": ratio, "ratio2": ratio**2}
                sums = {k: sums.get(k, 0.0) + counts * v.detach().double().sum() for k, v in row.items()}
        norm = self.accelerator.clip_grad_norm_(self.trained.values(), args.max_grad_norm or float("inf"))
        with self.frozen_policy() if value_only else nullcontext():
            self.optimizer.step()
        self.optimizer.zero_grad()
        totals = cast("Tensor", self.accelerator.reduce(torch.stack(list(sums.values())), "sum")) / tokens
        return dict(zip(sums, totals.tolist(), strict=True)) | {"grad_norm": float(cast("Tensor", norm))}

    def micro_batches(self, rollout: Rollout, rows: Tensor) -> list[tuple[Tensor, float]]:
        """This rank's share of a minibatch in pieces that fit the machine, rows of like length together.

        Every rank gets as many pieces, so that none waits for another for ever: where rows run out, one row stands
        in that counts 0 instead of 1.
        """
        args: Any = self.args
        ranks, size = self.accelerator.num_processes, args.per_device_train_batch_size
        rows = rows[(rollout.prompt_lengths + rollout.lengths).cpu()[rows].argsort(stable=True)]
        pieces = math.ceil(math.ceil(len(rows) / ranks) / size)
        mine = rows[self.accelerator.process_index :: ranks].split(size) if len(rows) else ()
        found = [(piece, 1.0) for piece in mine if len(piece)]
        return found + [(rows[:1], 0.0)] * (pieces - len(found))

    def require_same_logprobs(self, first: dict[str, float]) -> None:
        """The first minibatch sees the policy that sampled, so its ratio is 1 up to rounding.

        Raises:
            ModelError: it is not: the passes that sample and that train differ, and every gradient would be wrong.
        """
        fp32 = output_embedding(self.accelerator.unwrap_model(self.model).policy).dtype == torch.float32
        if not first["approxkl"] < (1e-5 if fp32 else 5e-3):
            raise ModelError(
                "ppo",
                f"sampling and training give other log-probabilities: approxkl {first['approxkl']:.2g} and ratio "
                f"{first['ratio']:.4f} before the first step.",
                "Set ppo.rescore: true; if it is, this model is not supported.",
            )

    @contextmanager
    def frozen_policy(self):
        """Take an optimiser step that leaves the policy where it is."""
        group = self.optimizer.param_groups[0]
        rate, group["lr"] = group["lr"], 0.0
        try:
            yield
        finally:
            group["lr"] = rate

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW with the value model in a group of its own: a fresh linear head wants larger steps than LoRA."""
        del model
        args: Any = self.args
        wrapper: Any = self.model
        if self.optimizer is not None:
            return self.optimizer
        policy = [p for p in wrapper.policy.parameters() if p.requires_grad]
        head = list(wrapper.value_model.parameters())
        if wrapper.value_model.adapter is not None:
            own = {id(p) for p in adapter_parameters(wrapper.policy, wrapper.value_model.adapter)}
            head += [p for p in policy if id(p) in own]
            policy = [p for p in policy if id(p) not in own]
        head_rate = args.value_learning_rate
        if head_rate is None:
            head_rate = args.learning_rate * (10 if wrapper.value_model.shares_states else 1)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": policy, "lr": args.learning_rate, "weight_decay": args.weight_decay},
                {"params": head, "lr": head_rate, "weight_decay": 0.0},
            ],
            betas=(args.adam_beta1, args.adam_beta2),
            eps=args.adam_epsilon,
        )
        return self.optimizer

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by name."""
        return ppo_state.trained_parameters(self.accelerator.unwrap_model(self.model))

    # --------------------------------------------------- when to stop, what to keep

    def over_budget(self, kl: float) -> bool:
        """Keep the policy that was just measured while it is within ``kl_budget``; past it, go back and stop."""
        budget = cast("PPOSection", self.args).kl_budget
        if budget is None:
            return False
        if kl <= budget:
            self.copies["within_budget"] = ppo_state.copy_of(self.trained)
            return False
        if "within_budget" in self.copies:
            ppo_state.put_back(self.trained, self.copies["within_budget"])
        self.stopped = f"KL {kl:.2f} is over kl_budget {budget}: back to the last policy within it"
        return True

    def evaluate_held_out(self) -> dict[str, float]:
        """Sample the held-out prompts, always with the same noise; keep the best policy, notice a fall."""
        args: Any = self.args
        assert self.held_out is not None
        prompts = self.held_out
        indices = list(range(len(prompts.ids)))
        rollout = self.sample(prompts, indices, _generator(args.seed, 0, 1000))
        kl = (kl_k1(rollout.old_logprobs, rollout.ref_logprobs) * rollout.completion_mask).sum(1).mean()
        held = Held(self.state.global_step, float(kl), float(rollout.score.mean()))
        if self.check is not None:
            samples = Samples(prompts.ids, rollout.completions(), self.processing_class, prompts.given)
            # One rank judges for all: a judge that draws from a generator must not part them.
            held.checks = broadcast_object_list([self.check(samples).double().tolist()])[0]
        if self.watch.take(held):
            self.copies["best"] = ppo_state.copy_of(self.trained)
        best = self.watch.best
        if self.watch.overoptimised and best is not None:
            self.stopped = (
                f"the held-out check fell from {best.check:.3f} at update {best.update} to {held.check:.3f} "
                f"while the score rose from {best.score:.3f} to {held.score:.3f}"
            )
        figures = {
            "eval/scores": held.score,
            "eval/kl": held.kl,
            "eval/length": float(rollout.lengths.float().mean()),
        }
        return figures | ({} if held.check is None else {"eval/check": held.check})

    # ------------------------------------------------------------------ checkpoints

    def save_checkpoint(self) -> None:
        """Write all that :meth:`train` needs to go on, atomically, from rank 0."""
        # Sharded parameters would need every rank's share; a run under FSDP or DeepSpeed starts anew.
        if self.checkpoints is None or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return
        started = time.monotonic()
        ranks = gather_object([ppo_state.random_state()])
        if self.is_world_process_zero():
            numbers = {
                "global_step": self.state.global_step,
                "episode": self.state.episode,
                "log_history": self.state.log_history,
                "scheduler": self.lr_scheduler.state_dict(),
                "kl_coef": self.kl_controller.coef,
                "moments": dataclasses.asdict(self.moments),
                "watch": dataclasses.asdict(self.watch),
                "stopped": self.stopped,
            }
            with self.checkpoints.writing(self.state.global_step) as directory:
                ppo_state.save(directory, self.trained, _inner(self.optimizer), self.copies, numbers, ranks)
        self.accelerator.wait_for_everyone()
        self.timer.wrote(time.monotonic() - started)

    def load_checkpoint(self, directory: Path) -> None:
        """Put everything back as :meth:`save_checkpoint` found it.

        Raises:
            ModelError: it is of another model or of another number of ranks.
        """
        with readable(str(directory)):
            numbers = ppo_state.numbers(directory)
            if len(numbers["ranks"]) != self.accelerator.num_processes:
                raise ModelError(
                    str(directory),
                    f"was written by {len(numbers['ranks'])} ranks, not {self.accelerator.num_processes}.",
                    "Launch as many, or start anew.",
                )
            self.copies = ppo_state.load(directory, self.trained, _inner(self.optimizer))
        self.state.global_step, self.state.episode = numbers["global_step"], numbers["episode"]
        self.state.log_history = numbers["log_history"]
        self.state.epoch = self.state.episode / self.train_dataset_len
        self.lr_scheduler.load_state_dict(numbers["scheduler"])
        for group, rate in zip(self.optimizer.param_groups, numbers["scheduler"]["_last_lr"], strict=True):
            group["lr"] = rate
        self.kl_controller.coef = numbers["kl_coef"]
        self.moments = RunningMoments(**numbers["moments"])
        best = numbers["watch"].pop("best")
        self.watch = Watch(**numbers["watch"], best=best and Held(**best))
        self.stopped = numbers["stopped"]
        ppo_state.set_random_state(numbers["ranks"][self.accelerator.process_index])


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    return getattr(optimizer, "optimizer", optimizer)


def _generator(*numbers: int) -> torch.Generator:
    """A CPU generator that is a function of ``numbers`` alone, so a step can be repeated from its position."""
    return torch.Generator().manual_seed(int(digest(list(numbers))[:15], 16))


@contextmanager
def _wrapper_class(cls: type[nn.Module]):
    """Have TRL's constructor prepare ``cls`` instead of its own wrapper, whose forward runs a second backbone."""
    original = trl_ppo.PolicyAndValueWrapper
    trl_ppo.PolicyAndValueWrapper = cls  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        trl_ppo.PolicyAndValueWrapper = original
