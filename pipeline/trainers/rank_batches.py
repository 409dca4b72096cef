"""The rows of each step: their order, and batches for a run that goes on with another number of ranks.

Accelerate deals whole micro-batches to the ranks in turn and fills up the last of an epoch from its first rows, so
the rows of a step depend on the number of ranks that the run began with. Here those micro-batches are dealt anew
to the ranks there are now, so that each step gets the rows it would have had. A step's loss is the mean of the
means of its micro-batches, whoever computes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler, SkipBatchSampler
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from pipeline.base.errors import StoreError
from pipeline.functional.token_loss import IGNORED

Piece = tuple[list[int], float]
"""Rows of a batch, and its share: what its mean loss is multiplied by."""


class SameOrder(SeedableRandomSampler):
    """The order of accelerate's sampler, of which torch makes a list: 40 bytes a row, where the tensor has 8."""

    def __init__(self, sampler: SeedableRandomSampler) -> None:
        vars(self).update(vars(sampler))

    def __iter__(self) -> Generator[int]:
        if self.generator is None:
            self.generator = torch.Generator()
        self.generator.manual_seed(self.epoch + self.initial_seed)
        for part in torch.randperm(len(self.data_source), generator=self.generator).split(8192):
            yield from part.tolist()
        self.set_epoch(self.epoch + 1)


@dataclass(frozen=True)
class Place:
    """A batch among those of the other ranks.

    Attributes:
        share: what its mean loss is multiplied by.
        largest: rows of the largest of the batches that the ranks have at this time.
    """

    share: float
    largest: int


@dataclass(frozen=True)
class Deal:
    """How the micro-batches of a step are dealt.

    Attributes:
        begun_with, accumulation: ranks and micro-batches of each at the beginning of the run.
        ranks: there are now.
    """

    begun_with: int
    accumulation: int
    ranks: int

    @property
    def whole(self) -> bool:
        """Whether ranks get whole micro-batches; else each rank gets a part of every one."""
        return self.begun_with * self.accumulation % self.ranks == 0

    def count(self, micro_batches: int) -> int:
        """Batches of each rank in a step of so many micro-batches."""
        return math.ceil(micro_batches / self.ranks) if self.whole else micro_batches

    @property
    def now(self) -> int:
        """``gradient_accumulation_steps`` of the ranks there are now."""
        return self.count(self.begun_with * self.accumulation)

    def turns(self, step: Sequence[list[int]]) -> Iterator[list[Piece]]:
        """The batches of all ranks, turn by turn; one without rows gets a stand-in with a share of 0.

        A trainer divides by the batches of a rank, and DDP by the ranks: the shares undo that.
        """
        count = self.count(len(step))
        scale = count * self.ranks / len(step)
        for turn in range(count):
            if self.whole:
                dealt: list[Piece] = [(rows, scale) for rows in step[turn * self.ranks :][: self.ranks]]
            else:
                rows = step[turn]
                # Another rank begins each time, so that none gets all the longer parts.
                parts = [rows[(rank + turn) % self.ranks :: self.ranks] for rank in range(self.ranks)]
                dealt = [(part or rows[:1], scale * len(part) / len(rows)) for part in parts]
            yield dealt + [(step[0][:1], 0.0)] * (self.ranks - len(dealt))


class RankBatches:
    """One rank's batches of rows, each with the batch's :class:`Place`, epoch by epoch.

    Args:
        batches: of one process, with a sampler whose order is a function of seed and epoch.
        even: fill up the last batches of an epoch, as Accelerate does by default.
    """

    def __init__(self, batches: BatchSampler, deal: Deal, rank: int, even: bool = True) -> None:
        self.deal, self.rank = deal, rank
        self.sampler: Any = batches.sampler
        several = deal.begun_with > 1  # a single process has a smaller last batch
        self.shards: list[Any] = [
            BatchSamplerShard(batches, deal.begun_with, number, even_batches=even) if several else batches
            for number in range(deal.begun_with)
        ]
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        begun, accumulation = self.deal.begun_with, self.deal.accumulation
        full, left = divmod(len(self.shards[0]), accumulation)
        return full * self.deal.now + self.deal.count(left * begun)

    def __iter__(self) -> Iterator[list[tuple[int, Place]]]:
        for step in self._steps():
            for turn in self.deal.turns(step):
                rows, share = turn[self.rank]
                place = Place(share, max(len(others) for others, _ in turn))
                yield [(row, place) for row in rows]

    def _steps(self) -> Iterator[list[list[int]]]:
        """The micro-batches of each step, in the order in which the ranks at the beginning would have met them."""
        dealt: list[list[list[int]]] = []
        for shard in self.shards:
            if isinstance(self.sampler, SeedableRandomSampler):  # which goes on to the next epoch by itself
                self.sampler.set_epoch(self.epoch)
            dealt.append(list(shard))
        turns = list(zip(*dealt, strict=True))
        for first in range(0, len(turns), self.deal.accumulation):
            yield [rows for turn in turns[first : first + self.deal.accumulation] for rows in turn]


class _Batches(SkipBatchSampler):
    """Lets transformers set the epoch, for which it looks inside of what wraps a batch sampler."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)


class _WithPlace(Dataset[Any]):
    """Rows with the place of their batch."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: tuple[int, Place]) -> tuple[Any, Place]:
        row, place = index
        return self.rows[row], place


class _Collate:
    """Collates rows, and adds their ``place``; labels of tokens are counted, so there a stand-in loses them."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, rows: list[tuple[Any, Place]]) -> Any:
        batch, place = self.collate([row for row, _ in rows]), rows[0][1]
        if "labels" not in batch:
            return {**batch, "place": place}
        for name in ("labels", "shift_labels"):
            if place.share == 0.0 and name in batch:
                batch[name] = torch.full_like(batch[name], IGNORED)
        return batch


@contextmanager
def gathering_ragged(accelerator: Any) -> Generator[None]:
    """Let Accelerate gather tensors of which each rank has another number of rows, for figures that TRL logs."""
    gather = accelerator.gather

    def padded(tensor: Tensor) -> Tensor:
        if tensor.dim() == 0:
            return gather(tensor)
        rows = gather(accelerator.pad_across_processes(tensor.float(), pad_index=math.nan))
        return rows[~rows.flatten(1).isnan().any(1) if rows.dim() > 1 else ~rows.isnan()]

    accelerator.gather = padded
    try:
        yield
    finally:
        accelerator.gather = gather


def dealt_loader(loader: Any, deal: Deal, rank: int, even: bool) -> DataLoader[Any]:
    """The loader of one rank, made from the one that Accelerate prepared for it.

    Raises:
        StoreError: the order of rows is not a function of the seed.
    """
    sampler = loader.batch_sampler
    batches = sampler.batch_sampler if isinstance(sampler, BatchSamplerShard) else sampler
    if not isinstance(getattr(batches, "sampler", None), SeedableRandomSampler | SequentialSampler):
        raise StoreError(
            "checkpoint",
            f"was begun with {deal.begun_with} ranks, and rows ordered by length cannot be dealt to {deal.ranks}.",
            f"Launch {deal.begun_with}, or start over: add --fresh.",
        )
    return DataLoader(
        _WithPlace(loader.dataset),
        batch_sampler=_Batches(RankBatches(batches, deal, rank, even)),
        collate_fn=_Collate(loader.collate_fn),
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        worker_init_fn=loader.worker_init_fn,
        persistent_workers=loader.persistent_workers,
        prefetch_factor=loader.prefetch_factor,
    )
