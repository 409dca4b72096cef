"""sft and reward on two ranks whose base is sharded (FSDP2), by Accelerate's own code, on CPUs.

Accelerate 1.15 drops FSDP where there is no GPU: here its state is told otherwise, and all that follows (sharding,
training, gathering) are the calls that a GPU would see, through gloo. Mixed precision and NCCL are not among them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.test_several_hosts import TOLERANCE, WORKER, Launcher, apart, weights
from tests.helpers.forks import Commands
from tests.helpers.two_hosts import Host, TwoHosts
from tests.stages.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHARDED = (
    WORKER.replace("def work(", "def launched(")
    + """
import accelerate.state
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from pipeline.trainers import common, sharded

begun = accelerate.state.AcceleratorState.__init__
gathered = sharded.gathered

def as_on_gpus(self, *args, fsdp_plugin=None, **kwargs):
    begun(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin

def counted(model):
    parts = [p for p in model.parameters() if isinstance(p, DTensor)]  # those of the blocks at least
    print(f"sharded: {sum(p.to_local().numel() for p in parts)} of {sum(p.numel() for p in parts)}")
    return gathered(model)

def work(*arguments):
    accelerate.state.AcceleratorState.__init__ = as_on_gpus
    common.check_launch = lambda stage: None
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


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    project = Project(tmp_path_factory.mktemp("sharded"))
    project.write()
    for stage in ("sft", "collect"):
        assert project.run(stage) == 0
    commands, here = Commands(SHARDED), Host("here", "127.0.0.1", None, "lo")
    yield Launcher(TwoHosts(here, here), commands, project)
    commands.close()


@pytest.mark.parametrize("stage", ["sft", "reward"])
def test_a_sharded_base_ends_in_the_same_weights(stage: str, launcher: Launcher):
    whole, ours = launcher.copy(f"{stage}-whole"), launcher.copy(f"{stage}-sharded")
    launcher.run(stage, whole)
    said = launcher.run(stage, ours, environment=FSDP2)
    assert "no checkpoints under FSDP" in said
    held, _, parameters = said.partition("sharded: ")[2].split()[:3]
    assert 20_000 < int(parameters) < 2.1 * int(held) < 1.2 * int(parameters)
    # Seen failing with: the trained model measured as it is, of which the first rank holds a part.
    assert apart(weights(ours, stage), weights(whole, stage)) < TOLERANCE[stage]
