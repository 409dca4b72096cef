"""The rows of a step, dealt to other ranks than the run began with: the same loss, and no rank without a pass."""

from __future__ import annotations

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset

from pipeline.base.errors import StoreError
from pipeline.trainers.rank_batches import Deal, RankBatches, dealt_loader

VALUES = torch.arange(100, dtype=torch.double) ** 2


def batches(rows: int, size: int) -> BatchSampler:
    return BatchSampler(SeedableRandomSampler(range(rows), data_seed=3), size, drop_last=False)


def losses_as_begun(rows: int, size: int, begun: int, accumulation: int) -> list[float]:
    """The loss of each step of an epoch: the mean of the micro-batches' means, by Accelerate's own shards."""
    dealt = [list(BatchSamplerShard(batches(rows, size), begun, rank)) for rank in range(begun)]
    if begun == 1:  # Accelerate leaves the sampler of a single process as it is
        dealt = [list(batches(rows, size))]
    means = torch.tensor([[VALUES[part].mean() for part in rank] for rank in dealt])
    return [step.mean().item() for step in means.split(accumulation, dim=1)]


# Seen failing with: a stand-in with a share of 1; shares not scaled; the last batch of a single process filled up.
@pytest.mark.parametrize("now", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("rows", "size", "begun", "accumulation"),
    [(80, 8, 2, 1), (85, 8, 1, 4), (85, 8, 2, 2), (53, 4, 4, 2), (9, 8, 2, 1), (3, 8, 1, 1), (40, 4, 3, 1)],
)
def test_the_loss_of_every_step_is_kept(rows: int, size: int, begun: int, accumulation: int, now: int):
    deal = Deal(begun, accumulation, now)
    ranks = [RankBatches(batches(rows, size), deal, rank) for rank in range(now)]
    passes = [list(rank) for rank in ranks]
    assert len({len(p) for p in passes}) == 1  # or one would wait for the others for ever
    assert len(passes[0]) == len(ranks[0])
    assert all(0 < len(p) <= size for rank in passes for p in rank)
    losses = [
        [part[0][1].share * VALUES[[row for row, _ in part]].mean().item() for part in rank] for rank in passes
    ]
    for turn in zip(*passes, strict=True):
        assert {part[0][1].largest for part in turn} == {max(map(len, turn))}
    steps = torch.tensor(losses, dtype=torch.double).split(deal.now, dim=1)
    ours = [step.mean().item() for step in steps]
    assert ours == pytest.approx(losses_as_begun(rows, size, begun, accumulation), rel=1e-9)


def test_every_epoch_has_its_own_order():
    rank = RankBatches(batches(16, 4), Deal(2, 1, 1), 0)
    first = list(rank)
    assert list(rank) == first
    rank.set_epoch(1)
    assert list(rank) != first


class Rows(Dataset[int]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        return index


def test_rows_in_an_order_of_their_own_are_refused():
    loader = DataLoader(Rows(), batch_size=2, shuffle=True)  # from the process's own generator
    with pytest.raises(
        StoreError, match="was begun with 2 ranks, and rows ordered by length cannot be dealt to 1"
    ):
        dealt_loader(loader, Deal(2, 1, 1), 0, True)


def test_a_stand_in_has_no_labels():
    def collate(rows: list[int]) -> dict[str, torch.Tensor]:
        return {"labels": torch.tensor(rows)}

    sampler = SeedableRandomSampler(range(8), data_seed=0)
    loader = DataLoader(Rows(), batch_sampler=BatchSampler(sampler, 4, drop_last=False), collate_fn=collate)
    # Two micro-batches of one rank, of which the third of three ranks gets none.
    dealt = [list(dealt_loader(loader, Deal(1, 3, 3), rank, True)) for rank in range(3)]
    assert [len(rank) for rank in dealt] == [1, 1, 1]
    assert all((rank[0]["labels"] >= 0).all() for rank in dealt[:2])
    assert dealt[2][0]["labels"].tolist() == [-100]
