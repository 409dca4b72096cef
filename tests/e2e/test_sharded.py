"""sft and reward on two ranks whose base is sharded (FSDP2), by Accelerate's own code, on CPUs.

Accelerate 1.15 drops FSDP where there is no GPU: here its state is told otherwise, and all that follows (sharding,
training, gathering) are the calls that a GPU would see, through gloo. NCCL is not among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.e2e.test_several_hosts import NONE, TOLERANCE, WORKER, Launcher, apart, kill_past, weights
from tests.helpers.forks import Commands
from tests.helpers.two_hosts import Host, TwoHosts
from tests.stages.conftest import NO_SHAPE, Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHARDED = (
    WORKER.replace("def work(", "def launched(")
    + """
import accelerate.state
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from pipeline.trainers import arguments as of_launch, sharded

begun = accelerate.state.AcceleratorState.__init__
gathered = sharded.gathered

def as_on_gpus(self, *args, fsdp_plugin=None, **kwargs):
    begun(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        if self._mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self._mixed_precision)

def counted(model):
    parts = [p for p in model.parameters() if isinstance(p, DTensor)]  # those of the blocks at least
    print(f"sharded: {sum(p.to_local().numel() for p in parts)} of {sum(p.numel() for p in parts)}")
    return gathered(model)

def work(*arguments):
    accelerate.state.AcceleratorState.__init__ = as_on_gpus
    of_launch.check_launch = lambda stage: None
    sharded.gathered = counted
    launched(*arguments)
"""
)
FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
"""What ``accelerate launch`` makes of configs/accelerate/fsdp2.yaml."""


LIKES = {"annotator_args": {"view": "vader", "like_above": 0.0}}


def launcher_of(root: Path, stages: tuple[str, ...], **changes: Any) -> Launcher:
    """Two ranks on this machine, and a project that has got as far as these stages."""
    project = Project(root)
    project.write(**changes)
    (root / "data").mkdir()
    for stage in stages:
        assert project.run(stage) == 0
    here = Host("here", "127.0.0.1", None, "lo")
    return Launcher(TwoHosts(here, here), Commands(SHARDED), project)


@pytest.fixture(scope="module")
def launchers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Launcher]]:
    """By what is trained: all weights in sft and LoRA in reward, LoRA in sft, likes and dislikes in reward."""
    roots = [tmp_path_factory.mktemp(name) for name in ("pairs", "pretrained", "likes")]
    made = {"pairs": launcher_of(roots[0], ("sft", "collect"))}
    base = str(made["pairs"].project.latest("base").path)
    made["pretrained"] = launcher_of(roots[1], (), base_model=base, sft=NO_SHAPE)
    made["likes"] = launcher_of(roots[2], ("sft", "collect"), collect=LIKES, reward={"loss": "pointwise"})
    yield made
    for launcher in made.values():
        launcher.commands.close()


WHAT = {"sft": "pairs", "reward": "pairs", "sft-lora": "pretrained", "reward-pointwise": "likes"}
BF16 = {"sft-lora": "sft.bf16=true", "reward": "reward.bf16=true", "reward-pointwise": "reward.bf16=true"}


@pytest.mark.parametrize("name", WHAT)
def test_a_sharded_base_ends_in_the_same_weights(name: str, launchers: dict[str, Launcher]):
    stage, launcher = name.partition("-")[0], launchers[WHAT[name]]
    whole, ours = launcher.copy(f"{name}-whole"), launcher.copy(f"{name}-sharded")
    launcher.run(stage, whole)
    said = launcher.run(stage, ours, environment=FSDP2)
    held, _, parameters = said.partition("sharded: ")[2].split()[:3]
    assert 20_000 < int(parameters) < 2.1 * int(held) < 1.2 * int(parameters)
    # Seen failing with: the trained model measured as it is, of which the first rank holds a part; readers' heads
    # looked for by the other ranks too, which waits for the first forever.
    assert apart(weights(ours, stage), weights(whole, stage)) < TOLERANCE[stage]


# Where the base is sharded, Accelerate's mixed precision casts LoRA to bf16 too; otherwise only the base is cast.
# So the weights of both differ as those of bf16 and fp32 do, by 0.002 to 0.008.
@pytest.mark.parametrize("name", BF16)
def test_in_bf16_it_is_as_close_to_fp32_as_without_sharding(name: str, launchers: dict[str, Launcher]):
    stage, launcher = name.partition("-")[0], launchers[WHAT[name]]
    exact, whole, ours = (launcher.copy(f"{name}-{kind}") for kind in ("exact", "whole-bf16", "sharded-bf16"))
    launcher.run(stage, exact)
    launcher.run(stage, whole, BF16[name])
    launcher.run(stage, ours, BF16[name], environment=FSDP2)
    trained = weights(ours, stage)
    assert {tensor.dtype for tensor in trained.values()} == {torch.float32}
    noise = apart(weights(whole, stage), weights(exact, stage))
    # Seen failing with: Accelerate's state without the plugin's precision, which trains in fp32.
    assert 0.1 * noise < apart(trained, weights(exact, stage)) < 3 * noise


def killed_at(step: int, launcher: Launcher, stage: str, data: Path) -> None:
    ranks = launcher.start(stage, data, environment=FSDP2)
    kill_past(step, data, stage, ranks[0])
    for rank in ranks:
        rank.wait()


@pytest.mark.parametrize(
    ("stage", "then", "ranks"), [("reward", FSDP2, 3), ("reward", NONE, 1), ("sft", FSDP2, 2)]
)
def test_one_that_died_goes_on(stage: str, then: Mapping[str, str], ranks: int, launchers: dict[str, Launcher]):
    """On other ranks, and without sharding where one machine is large enough after all."""
    launcher = launchers["pairs"]
    whole, ours = launcher.copy(f"{stage}-{ranks}-left"), launcher.copy(f"{stage}-{ranks}-killed")
    launcher.run(stage, whole, environment=FSDP2)
    killed_at(5, launcher, stage, ours)
    said = launcher.run(stage, ours, ranks=ranks, environment=then)
    assert "resuming at step" in said
    # Seen failing with: the learning rate of the first step, as the optimiser was not told of the schedule's.
    assert apart(weights(ours, stage), weights(whole, stage)) < TOLERANCE[stage]
