"""What a run keeps and when it ends: the KL budget, held-out figures, the floor of diversity, the best policy,
checkpoints.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from pipeline.base.errors import ModelError
from pipeline.functional.kl import AdaptiveKL, kl_k1
from pipeline.functional.moments import RunningMoments
from pipeline.scoring.scorer import Samples, Scorer
from pipeline.store.checkpoints import Checkpoints
from pipeline.texts.diversity import closings, effective_number
from pipeline.texts.sentences import same
from pipeline.trainers.checkpointing import SaveInTime, readable
from pipeline.trainers.ppo import state
from pipeline.trainers.ppo.console import Console
from pipeline.trainers.ppo.inputs import Prompts
from pipeline.trainers.ppo.optimise import Optimising, generator_of
from pipeline.trainers.ppo.rollout import Rollout
from pipeline.trainers.ppo.section import PPOSection
from pipeline.trainers.ppo.stopping import Held, Watch


class Keeping(Optimising):
    """State beside the weights, and the rules that read it."""

    held_out: Prompts | None
    check: Scorer | None
    checkpoints: Checkpoints | None
    kl_controller: AdaptiveKL
    moments: RunningMoments
    watch: Watch
    timer: SaveInTime
    copies: dict[str, dict[str, Tensor]]
    """Weights set aside, by what they are: the best so far, the last within the budget or above the floor."""
    within: list[float] | None
    """Update and KL of the last policy within the budget."""
    console: Console | None
    stopped: str | None
    """Why the run ended before its last update."""
    went_back: int | None
    """The update whose policy was put back; None where the weights are the last ones."""

    def sample(self, prompts: Prompts, indices: Sequence[int], generator: torch.Generator) -> Rollout:
        """See :class:`pipeline.trainers.ppo.trainer.PPOTrainer`."""
        raise NotImplementedError

    @property
    def published(self) -> int:
        """After how many updates the policy is that the weights are of, once the run has ended."""
        if cast("PPOSection", self.args).keep_best and self.watch.best is not None:
            return self.watch.best.update
        return self.state.global_step if self.went_back is None else self.went_back

    def over_budget(self, update: int, kl: float) -> bool:
        """Keep the policy that was just measured while it is within ``kl_budget``; past it, go back and stop."""
        budget = cast("PPOSection", self.args).kl_budget
        if budget is None:
            return False
        if kl <= budget:
            self.copies["within_budget"], self.within = state.copy_of(self.trained), [update, kl]
            return False
        back, back_kl = (update, kl) if self.within is None else (int(self.within[0]), self.within[1])
        self.go_back("within_budget", back)
        if self.published != back and self.watch.best is not None:
            back, back_kl = self.watch.best.update, self.watch.best.kl
        where = f"back to the policy after update {back}, KL {back_kl:.2f}"
        where = "no policy was within it" if self.within is None and back == update else where
        self.stopped = f"KL {kl:.2f} after update {update} is over kl_budget {budget}: {where}"
        return True

    def go_back(self, copy: str, update: int) -> None:
        """Put the weights back that were set aside as ``copy``, those of the policy after ``update``."""
        if copy in self.copies:
            state.put_back(self.trained, self.copies[copy])
        self.went_back = update

    def below_floor(self, held: Held) -> bool:
        """Keep the policy just measured while it is above ``diversity_floor``; below, go back and stop."""
        watch = self.watch
        if watch.diversity_floor is None:
            return False
        if watch.above_floor(held):
            self.copies["varied"] = state.copy_of(self.trained)
            return False
        assert watch.varied is not None  # the first evaluation is above any floor
        self.go_back("varied", watch.varied.update)
        back = watch.varied if self.published == watch.varied.update else watch.best
        self.stopped = (
            f"{watch.described(held)} held out after update {held.update}, {watch.first_closings:.1f} before the "
            f"first, is below diversity_floor {watch.diversity_floor:g}: back to the policy after update "
            f"{back.update if back else 0}, with {watch.described(back)}"
        )
        return True

    def evaluate_held_out(self) -> dict[str, float]:
        """Sample the held-out prompts, always with the same noise; keep the best policy, notice a fall."""
        args: Any = self.args
        assert self.held_out is not None
        prompts = self.held_out
        indices = list(range(len(prompts.ids)))
        rollout = self.sample(prompts, indices, generator_of(args.seed, 0, 1000))
        kl = (kl_k1(rollout.old_logprobs, rollout.ref_logprobs) * rollout.completion_mask).sum(1).mean()
        update = self.state.global_step if self.went_back is None else self.went_back
        held = Held(update, float(kl), float(rollout.score.mean()))
        samples = Samples(prompts.ids, rollout.completions(), self.processing_class, prompts.given)
        ends = closings(samples.completions, rollout.ended.tolist())
        held.closings = effective_number(Counter(map(same, ends)).values())
        if self.check is not None:
            # One rank judges for all: a judge that draws from a generator must not part them.
            held.checks = broadcast_object_list([self.check(samples).double().tolist()])[0]
        if self.console is not None and self.is_world_process_zero():
            self.console.take_held_out(samples, rollout.score.tolist(), held.checks)
        if self.watch.take(held):
            self.copies["best"] = state.copy_of(self.trained)
        best = self.watch.top
        if self.below_floor(held):
            pass
        elif self.watch.overoptimised and best is not None:
            self.stopped = (
                f"the held-out check fell from {best.check:.3f} at update {best.update} to {held.check:.3f} "
                f"while the score rose from {best.score:.3f} to {held.score:.3f}"
            )
        figures = {
            "eval/scores": held.score,
            "eval/kl": held.kl,
            "eval/length": float(rollout.lengths.float().mean()),
            "eval/closings": held.closings,
        }
        if (left := self.watch.left(held)) is not None:
            figures["eval/closings_left"] = left
        if held.check is not None:
            error = statistics.pstdev(held.checks) / math.sqrt(max(len(held.checks) - 1, 1))
            figures |= {"eval/check": held.check, "eval/check_error": error}
        if held.fall_error is not None:
            figures["eval/check_fall_error"] = held.fall_error
        return figures

    def save_checkpoint(self) -> None:
        """Write all that :meth:`train` needs to go on, atomically, from rank 0."""
        # Sharded parameters would need every rank's share; a run under FSDP or DeepSpeed starts anew.
        if self.checkpoints is None or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return
        started = time.monotonic()
        ranks = gather_object([state.random_state()])
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
                "within": self.within,
                "went_back": self.went_back,
            }
            with self.checkpoints.writing(self.state.global_step) as directory:
                state.save(directory, self.trained, _inner(self.optimizer), self.copies, numbers, ranks)
        self.accelerator.wait_for_everyone()
        self.timer.wrote(time.monotonic() - started)

    def load_checkpoint(self, directory: Path) -> None:
        """Put everything back as :meth:`save_checkpoint` found it.

        Raises:
            ModelError: it is of another model or of another number of ranks.
        """
        with readable(str(directory)):
            numbers = state.numbers(directory)
            if len(numbers["ranks"]) != self.accelerator.num_processes:
                raise ModelError(
                    str(directory),
                    f"was written by {len(numbers['ranks'])} ranks, not {self.accelerator.num_processes}.",
                    "Launch as many, or start anew.",
                )
            self.copies = state.load(directory, self.trained, _inner(self.optimizer))
        self.state.global_step, self.state.episode = numbers["global_step"], numbers["episode"]
        self.state.log_history = numbers["log_history"]
        self.state.epoch = self.state.episode / self.train_dataset_len
        self.lr_scheduler.load_state_dict(numbers["scheduler"])
        for group, rate in zip(self.optimizer.param_groups, numbers["scheduler"]["_last_lr"], strict=True):
            group["lr"] = rate
        self.kl_controller.coef = numbers["kl_coef"]
        self.moments = RunningMoments(**numbers["moments"])
        self.watch = Watch.of(numbers["watch"])
        self.stopped = numbers["stopped"]
        self.within, self.went_back = numbers.get("within"), numbers.get("went_back")
        state.set_random_state(numbers["ranks"][self.accelerator.process_index])


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    return getattr(optimizer, "optimizer", optimizer)
