"""A Slurm of the tests' own: a controller and two nodes of this machine, no accounting (Debian's slurm-wlm)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.free_port import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={root}/munge
SlurmUser=root
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
DefMemPerCPU=200
ReturnToService=2
KillWait=2
SlurmdTimeout=30
SchedulerParameters=requeue_delay=1
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=1000
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.2 Port={ports[2]} CPUs=2 RealMemory=1000
PartitionName=all Nodes=node1,node2 Default=YES State=UP
"""


class SlurmCluster:
    """Two nodes of two processors each, and one partition.

    Attributes:
        environment: in which Slurm's commands talk to it.
    """

    def __init__(self) -> None:
        if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
            pytest.skip(f"Slurm is not installed ({missing[0]}): apt-get install slurm-wlm munge")
        if os.geteuid() != 0:
            pytest.skip("slurmd needs root")
        self.root = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: a socket's path has 107 bytes at most
        for name in ("state", "node1", "node2"):
            (self.root / name).mkdir()
        ports = [free_port() for _ in range(3)]
        host = socket.gethostname().partition(".")[0]
        (self.root / "slurm.conf").write_text(CONF.format(root=self.root, host=host, ports=ports))
        (self.root / "key").write_bytes(os.urandom(128))
        (self.root / "key").chmod(0o400)
        self.environment = {**os.environ, "SLURM_CONF": str(self.root / "slurm.conf")}

    def start(self) -> None:
        files = [f"--{name}={self.root / file}" for name, file in
                 (("socket", "munge"), ("key-file", "key"), ("pid-file", "munged.pid"), ("log-file", "munged.log"),
                  ("seed-file", "seed"))]  # fmt: skip
        self.run("munged", "--force", *files)
        self.run("slurmctld")
        for node in ("node1", "node2"):
            self.run("slurmd", "-N", node)
        self.wait_for("idle", "sinfo", "--noheader", "--states=idle", "--format=%t")

    def run(self, *words: str) -> str:
        """One of Slurm's commands, or a daemon, which goes on by itself."""
        done = subprocess.run(
            words, env=self.environment, check=True, stdout=subprocess.PIPE, text=True, timeout=60
        )  # a daemon keeps stderr
        return done.stdout

    def wait_for(self, text: str, *words: str, seconds: float = 120) -> None:
        """Until the output of one of Slurm's commands has ``text`` in it."""
        said, until = "", time.monotonic() + seconds
        while time.monotonic() < until:
            with contextlib.suppress(subprocess.SubprocessError):
                said = self.run(*words)
            if text in said:
                return
            time.sleep(0.5)
        raise AssertionError(f"{words[0]} says {said!r}, not {text!r}")

    def jobs(self) -> list[str]:
        """The numbers of the jobs that wait or run."""
        return self.run("squeue", "--noheader", "--format=%i").split()

    def close(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            for job in self.jobs():
                self.run("scancel", job)
            self.wait_for("0", "sh", "-c", "squeue --noheader | wc -l", seconds=20)
        for name in ("node1.pid", "node2.pid", "slurmctld.pid", "munged.pid"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((self.root / name).read_text()), signal.SIGTERM)
        shutil.rmtree(self.root, ignore_errors=True)


@contextlib.contextmanager
def slurm_cluster() -> Iterator[SlurmCluster]:
    """A started cluster; skips the test where Slurm is not installed."""
    cluster = SlurmCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()
