"""Checkpoints of TRL's trainers: Hugging Face's files, published by one atomic rename, and the running figures.

They hold what ``transformers.Trainer`` writes and reads itself, without its pickled arguments and the tokenizer.
All is read through safetensors, JSON or ``torch.load(weights_only=True)``, so no file runs code. Hugging Face's
readers of sharded models unpickle: under FSDP2 :mod:`pipeline.trainers.sharded` writes and reads the tensors, and
there are no checkpoints under DeepSpeed and FSDP1.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from accelerate.data_loader import SeedableRandomSampler
from accelerate.utils import broadcast_object_list, gather_object
from peft import PeftModel
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from pipeline.base.files import read_json
from pipeline.base.process import say
from pipeline.modeling.weights import norms, require_moved
from pipeline.store.checkpoints import Checkpoints, damage, resuming
from pipeline.trainers import sharded
from pipeline.trainers.callbacks import closed_bar
from pipeline.trainers.rank_batches import Deal, SameOrder, dealt_loader
from pipeline.trainers.shared_checkpointing import SaveInTime, readable, seed_anew

FIGURES = "figures_{}.json"
"""A rank's running counts in a checkpoint."""


class _Continue(TrainerCallback):
    """Restores a resumed trainer's figures after Hugging Face has set them to zero."""

    def __init__(self, trainer: Checkpointed) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.trainer.start is not None:
            state.compute_steps(args, state.max_steps)  # the logging interval may have changed
            if state.best_global_step:  # the data directory may have moved
                state.best_model_checkpoint = str(self.trainer.best_checkpoint(state.best_global_step))
            self.trainer.set_figures(self.trainer.own_figures(self.trainer.start))


# For the type checker a Trainer; at run time a mixin in front of TRL's class.
class Checkpointed(Trainer if TYPE_CHECKING else object):
    """Resumes from the newest checkpoint in ``output_dir``, with the result of an uninterrupted run."""

    _metrics: dict[str, dict[str, list[float]]]
    _total_train_tokens: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        limit = self.args.save_total_limit
        keep = 2 if limit is None else limit if limit > 0 else 10**9
        self.checkpoints = Checkpoints(Path(str(self.args.output_dir)), keep)
        self.start: Path | None = None
        self.begun_with = self.args.world_size
        self.deal: Deal | None = None
        self.sharded = self.is_fsdp_enabled and cast("Any", self.accelerator.state).fsdp_plugin.fsdp_version == 2
        self.saves = self.sharded or not (self.is_fsdp_enabled or self.is_deepspeed_enabled)
        self.timer = SaveInTime(getattr(self.args, "save_seconds", 0.0))
        if self.saves and self.timer.least > 0:
            self.add_callback(self.timer)
        self.add_callback(_Continue(self))

    def train_on(self, stage: str) -> float:
        """Train, from the newest checkpoint if there is one.

        Returns:
            The mean loss of all steps, those before an interruption included.
        Raises:
            StoreError: a checkpoint cannot be read or written.
            ModelError: no weight has moved.
        """
        if not self.saves:
            say(stage, "no checkpoints under FSDP1 or DeepSpeed: a killed run starts over")
        self.start = self._newest(stage)
        if self.start is not None:
            say(stage, resuming(self.start, read_json(self.start / TRAINER_STATE_NAME)["max_steps"]))
            self._keep_batches(stage, self.start)
        # Sharding replaces the parameters in the first step.
        model = self._whole_model()
        whole = self.saves and not self.sharded
        trained = [p for p in model.parameters() if p.requires_grad] if whole else []
        before = norms(trained)
        with closed_bar(self):
            self.train(resume_from_checkpoint=str(self.start) if self.start else None)
        if trained and self.start is None:
            require_moved(before, trained, stage, self.state.global_step)
        return self._mean_loss()

    def _keep_batches(self, stage: str, start: Path) -> None:
        """Deal the rows of each step to the ranks there are now, where the run was begun with another number."""
        args = self.args
        saved = self._saved_figures(start)
        self.begun_with = int(saved[0].get("begun_with", len(saved)))
        if self.begun_with == args.world_size:
            return
        self.deal = Deal(self.begun_with, args.gradient_accumulation_steps, args.world_size)
        say(
            stage,
            f"begun with {self.begun_with} ranks, now {args.world_size}: each accumulates {self.deal.now} batches "
            f"instead of {self.deal.accumulation}, so that a step has the same rows",
        )
        args.gradient_accumulation_steps = self.deal.now
        if draws_noise(cast("nn.Module", self.model)) or args.neftune_noise_alpha:
            say(stage, "dropout draws other noise than with as many ranks as before: the result will differ by it")

    def get_train_dataloader(self) -> Any:
        """Transformers' own, whose order of rows is drawn as a tensor, not as a list of numbers.

        For a run that was begun with another number of ranks, one with the rows that it would have had.
        """
        loader: Any = super().get_train_dataloader()
        sampler = loader.get_sampler() if hasattr(loader, "get_sampler") else None
        if type(sampler) is SeedableRandomSampler and not sampler.replacement:
            loader.set_sampler(SameOrder(sampler))
        if self.deal is None:
            return loader
        return dealt_loader(loader, self.deal, self.args.process_index, self.accelerator.even_batches)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the mean loss of all steps at the end; Hugging Face's is of the steps since the last start only."""
        if "train_loss" in logs:
            logs["train_loss"] = self._mean_loss()
        super().log(logs, start_time)

    def figures(self) -> dict[str, Any]:
        """This rank's running counts, which Hugging Face does not save."""
        return {
            "total_loss": self._total_loss_scalar,
            "loss": self._tr_loss.item(),
            "last_logged": self._globalstep_last_logged,
            "tokens": self._total_train_tokens,
            "metrics": self._metrics["train"],
            "begun_with": self.begun_with,
        }

    def own_figures(self, start: Path) -> dict[str, Any]:
        """This rank's :meth:`figures` in a checkpoint.

        Of another number of ranks: the mean of their losses, and what all had in common.
        """
        saved = self._saved_figures(start)
        if len(saved) == self.args.world_size:
            return saved[self.args.process_index]
        return {**saved[0], "loss": sum(figures["loss"] for figures in saved) / len(saved)}

    def _saved_figures(self, start: Path) -> list[dict[str, Any]]:
        """The :meth:`figures` of each rank that was there when the checkpoint was written."""
        with readable(start):
            return [
                read_json(start / FIGURES.format(rank))
                for rank in range(len(list(start.glob(FIGURES.format("*")))))
            ]

    def set_figures(self, figures: dict[str, Any]) -> None:
        """Restore :meth:`figures`."""
        self._total_loss_scalar, self._globalstep_last_logged = figures["total_loss"], figures["last_logged"]
        self._tr_loss.fill_(figures["loss"])
        self._total_train_tokens = figures["tokens"]
        self._metrics["train"].update(figures["metrics"])

    def _mean_loss(self) -> float:
        return self._total_loss_scalar / max(self.state.global_step, 1)

    def _newest(self, stage: str) -> Path | None:
        """The newest intact checkpoint that can be resumed.

        Raises:
            StoreError: this rank does not see what the main process has chosen.
        """
        newest: list[Path | None] = [None]
        if self.is_world_process_zero():
            newest = [self.checkpoints.newest_intact(partial(say, stage), partial(self._can_go_on, stage))]
        if self.args.world_size > 1:
            broadcast_object_list(newest)
        return self.checkpoints.same_here(newest[0])

    def _can_go_on(self, stage: str, path: Path) -> bool:
        """Whether it has steps left (else Hugging Face trains one too many), and the best one so far exists."""
        with readable(path):
            state = read_json(path / TRAINER_STATE_NAME)
            left, best = state["global_step"] < state["max_steps"], state.get("best_global_step")
        if best and self.args.load_best_model_at_end and best != state["global_step"]:
            kept = self.best_checkpoint(best)
            if not kept.is_dir() or damage(kept):
                say(stage, f"the checkpoint of step {best}, the best so far, is damaged or gone")
                return False
        return left

    def best_checkpoint(self, step: int) -> Path:
        """The path of the best step's checkpoint."""
        return self.checkpoints.directory / f"checkpoint-{step}"

    def _save_checkpoint(self, model: object, trial: object) -> None:
        """Write Hugging Face's files, in its order, into a directory that is renamed when it is complete."""
        del model, trial
        state = self.state
        # After the last step the version itself is written, unless the best checkpoint has to be read again.
        last = state.global_step >= state.max_steps and not self.args.load_best_model_at_end
        if last or not self.saves:
            return
        started = time.monotonic()
        self.store_flos()
        with self._writing(state.global_step, state.best_global_step) as path:
            if self.sharded:
                sharded.save(path, self._whole_model(), *self._training_state())
            else:
                self.save_model(str(path), _internal_call=True)
                self._save_optimizer_and_scheduler(str(path))
            self._save_scaler(str(path))
            self._save_rng_state(str(path))
            ranks = gather_object([json.dumps(self.figures(), default=float)])
            if self.args.should_save:
                for rank, figures in enumerate(ranks):
                    (path / FIGURES.format(rank)).write_text(figures)
                if state.best_global_step:
                    state.best_model_checkpoint = str(self.best_checkpoint(state.best_global_step))
                state.save_to_json(str(path / TRAINER_STATE_NAME))
        self.timer.wrote(time.monotonic() - started)

    def _save_rng_state(self, output_dir: str) -> None:
        """Save the generators of all ranks from the main process; the others may see another disk."""
        with tempfile.TemporaryDirectory() as own:
            super()._save_rng_state(own)
            states = gather_object([{p.name: p.read_bytes() for p in Path(own).iterdir()}])
        for name, state in (pair for files in states for pair in files.items()) if self.args.should_save else ():
            (Path(output_dir) / name).write_bytes(state)

    @contextmanager
    def _writing(self, step: int, spare: int | None) -> Generator[Path]:
        """The new checkpoint's directory, which the main process creates, writes and renames for all ranks."""
        together = self.accelerator.wait_for_everyone
        if self.is_world_process_zero():
            with self.checkpoints.writing(step, spare) as path:
                together()
                yield path
                together()
        else:
            together()
            yield self.checkpoints.staging(step)
            together()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save the weights, without pickled arguments and tokenizer, which nothing reads."""
        if self.args.should_save:
            model = cast("PreTrainedModel | PeftModel", self.accelerator.unwrap_model(self.model))
            # Else PEFT asks the Hub whether the vocabulary has grown.
            options: dict[str, Any] = {"save_embedding_layers": False} if isinstance(model, PeftModel) else {}
            model.save_pretrained(str(output_dir), state_dict=state_dict, **options)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        with readable(resume_from_checkpoint):
            if self._is_gathered(resume_from_checkpoint):
                sharded.load_parameters(Path(resume_from_checkpoint), self._whole_model())
            else:
                super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self._is_gathered(str(self.state.best_model_checkpoint)):
            self._load_from_checkpoint(str(self.state.best_model_checkpoint))
        else:
            super()._load_best_model()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with readable(checkpoint):
            if checkpoint is not None and self._is_gathered(checkpoint):
                sharded.load_optimizer(Path(checkpoint), self._whole_model(), *self._training_state())
            else:
                super()._load_optimizer_and_scheduler(checkpoint)

    def _is_gathered(self, checkpoint: str) -> bool:
        """Whether a checkpoint is a sharded model's: any number of ranks go on from it, sharded or not."""
        return self.sharded or (Path(checkpoint) / sharded.TENSORS).is_file()

    def _training_state(self) -> tuple[Optimizer, LRScheduler]:
        """Optimiser and schedule, which are there once training has begun."""
        return cast("Any", self.optimizer), cast("Any", self.lr_scheduler)

    def _whole_model(self) -> nn.Module:
        return cast("nn.Module", self.accelerator.unwrap_model(self.model))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None and len(self._saved_figures(Path(checkpoint))) != self.args.world_size:
            seed_anew(self.args.seed, self.state.global_step, self.args.process_index)
            return
        with readable(checkpoint):
            super()._load_rng_state(checkpoint)


def draws_noise(model: nn.Module) -> bool:
    """Whether dropout is on in a part of the model."""
    return any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules())
