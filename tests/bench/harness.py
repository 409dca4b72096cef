"""Measure works beside each other: interleaved rounds, busy cores refused, peak memory in a process of its own.

``QUICK=1`` asks the stages for smaller shapes and one round, ``ROUNDS`` for a number of rounds.
"""

from __future__ import annotations

import importlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUICK = os.environ.get("QUICK", "") not in ("", "0")
ROUNDS = int(os.environ.get("ROUNDS") or (1 if QUICK else 2))
BUSY = 0.1
"""Share of the cores that others may use while a sample is taken."""
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "asimd", "bf16", "sve")
"""What a processor's speed in fp32 and bf16 hangs on, by the system's names."""


class Case:
    """A work that is measured again and again."""

    def run(self) -> float | None:
        """Do it once. Returns the seconds that count, None for all that the call takes."""
        raise NotImplementedError

    def warm(self) -> None:
        """Do what pays for memory that is touched for the first time."""
        self.run()


class Work(Case):
    """A function as a case.

    Args:
        cold: do not run it beforehand.
        least: repeat it for so many seconds and give the mean: the system counts others' use in hundredths of one.
    """

    def __init__(self, work: Callable[[], object], cold: bool = False, least: float = 0.0) -> None:
        self.work, self.cold, self.least = work, cold, least

    def run(self) -> float:
        started, runs = time.perf_counter(), 0
        while not runs or time.perf_counter() - started < self.least:
            self.work()
            runs += 1
        return (time.perf_counter() - started) / runs

    def warm(self) -> None:
        if not self.cold:
            self.work()


@dataclass(frozen=True)
class Timing:
    """Of one case: its least seconds, and the median of the first case's seconds over its own, round by round."""

    seconds: float
    ratio: float


def compare(
    title: str,
    makers: Mapping[str, Callable[[], Case]],
    rounds: int = 0,
    amount: tuple[float, str] | None = None,
    busy: float = BUSY,
) -> dict[str, Timing]:
    """Measure every case once a round; the first is the one that the others are compared with.

    Args:
        amount: what one run does, as a number and its unit, to print rates.
        busy: a round in which others used a larger share of the cores is dropped.
    Raises:
        SystemExit: others used the cores in too many rounds.
    """
    rounds = rounds or ROUNDS
    say(f"\n{title}")
    cases: dict[str, Case] = {}
    for name, make in makers.items():
        say(f"  {name}: preparing and warming up")
        cases[name] = make()
        cases[name].warm()
    taken: list[dict[str, float]] = []
    dropped = 0
    while len(taken) < rounds:
        samples = {name: timed(case.run) for name, case in cases.items()}
        others = max(share for _, share in samples.values())
        if others > busy:
            dropped += 1
            say(f"  dropped: others used {others:.0%} of the cores")
            if dropped > 2 * rounds + 2:
                raise SystemExit("error: the cores were never free. Stop what else is running, and run again.")
            continue
        taken.append({name: seconds for name, (seconds, _) in samples.items()})
        say(f"  round {len(taken)} of {rounds}: " + ", ".join(f"{n} {s:.3g} s" for n, s in taken[-1].items()))
    return summed_up(taken, amount)


def summed_up(taken: list[dict[str, float]], amount: tuple[float, str] | None = None) -> dict[str, Timing]:
    """Print the table of the rounds' seconds by case; give each case's :class:`Timing`."""
    first = next(iter(taken[0]))
    width = max(8, *(len(name) for name in taken[0]))
    say(f"  {'':{width}}{'min':>9}{'median':>9}{'max':>9}   {first}'s time over it: min median max")
    timings: dict[str, Timing] = {}
    for name in taken[0]:
        seconds = [row[name] for row in taken]
        ratios = [row[first] / row[name] for row in taken]
        cells = ["".join(f"{f(v):9.3g}" for f in (min, statistics.median, max)) for v in (seconds, ratios)]
        rate = f"   {amount[0] / min(seconds):,.4g} {amount[1]}/s" if amount else ""
        say(f"  {name:{width}}{cells[0]}   {cells[1]}{rate}")
        timings[name] = Timing(_digits(min(seconds), 4), _digits(statistics.median(ratios), 3))
    return timings


def _digits(number: float, count: int) -> float:
    return float(f"{number:.{count}g}")


def timed(work: Callable[[], float | None]) -> tuple[float, float]:
    """Seconds, and the share of the cores that others used meanwhile.

    The seconds are those that the work itself gives, if it does; the share is always of the whole call.
    """
    before, own, started = _busy(), _own(), time.perf_counter()
    counted = work()
    _wait_for_gpu()
    wall = time.perf_counter() - started
    others = _busy() - before - (_own() - own)
    return wall if counted is None else counted, max(others, 0.0) / (wall * len(cores()))


def _wait_for_gpu() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def cores() -> set[int]:
    """The cores that this process may run on."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return affinity(0) if affinity else set(range(os.cpu_count() or 1))


def _own() -> float:
    """Processor seconds of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _busy() -> float:
    """Processor seconds that all processes have used so far on our cores; 0 where the system does not say."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return 0.0
    total = 0.0
    for core, numbers in re.findall(r"^cpu(\d+) (.*)$", stat.read_text(), re.MULTILINE):
        if int(core) in cores():
            user, nice, system, _, _, irq, soft, *_ = map(float, numbers.split()[:8])
            total += user + nice + system + irq + soft
    return total / os.sysconf("SC_CLK_TCK")


def peaks(stage: str, *cases: str) -> dict[str, float]:
    """Peak memory in GB of a process that runs one of the stage's ``peak_cases`` once, for each."""
    found: dict[str, float] = {}
    for case in cases:
        command = [sys.executable, "-m", "tests.bench", "peak", stage, case]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"error: measuring the memory of {stage}'s {case} failed:\n{done.stderr[-2000:]}")
        found[case] = float(done.stdout.splitlines()[-1])
        say(f"  peak memory of a process, {case}: {found[case]:.2f} GB")
    return found


def measure_peak(stage: str, case: str) -> None:
    """In a process of its own: run the case once, and print the peak in GB."""
    module: Any = importlib.import_module(f"tests.bench.{stage}")
    with tempfile.TemporaryDirectory() as out:
        module.peak_cases(Path(out))[case]().run()
    # Not ru_maxrss, which a child inherits from the process that started it.
    peak_kb = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert peak_kb is not None
    print(round(int(peak_kb[1]) / 1e6, 3))


def processor() -> dict[str, Any]:
    """Its name, the cores that we may use, and which of :data:`INSTRUCTIONS` it has; as far as Linux says."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.is_file() else ""
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    flags = set(" ".join(re.findall(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)[:1]).split())
    return {
        "name": name[1] if name else "unknown",
        "cores": len(cores()),
        "instructions": [flag for flag in INSTRUCTIONS if flag in flags],
    }


def say(line: str) -> None:
    print(line, flush=True)
