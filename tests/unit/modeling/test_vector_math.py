"""The first call of each vector function is one thread's: two at once may compute at low accuracy."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from typing import Any
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.modeling.vector_math import FUNCTIONS, PRECISIONS, choose_code


class Calls(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.made: dict[tuple[str, torch.dtype], int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.made[func.overloadpacket.__name__, result.dtype] = result.numel()
        return result


def test_each_function_is_called_on_one_element():
    with Calls() as calls:
        choose_code()
    # Mutation caught: float64 left out; a tensor large enough for two threads.
    assert {(f, dtype): 1 for f in FUNCTIONS for dtype in PRECISIONS}.items() <= calls.made.items()


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_who_can_load_a_model_has_called_them(monkeypatch: pytest.MonkeyPatch):
    exp = mock.Mock(wraps=torch.exp)
    monkeypatch.setattr(torch, "exp", exp)
    runpy.run_module("pipeline.modeling.loading")
    # Mutation caught: choose_code() not called at import.
    assert exp.called


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="forks")
def test_forked_processes_agree_on_their_first_call():
    """Without :func:`choose_code`, 3 in 1,000 gave another first result on two cores."""
    code = (
        "import os, torch; import pipeline.modeling.loading; torch.set_num_threads(1)\n"
        "x = torch.rand(2**17) + .1\n"
        "for k in range(500):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        torch.set_num_threads(2)\n"
        "        f = (torch.exp, torch.log, torch.sin, torch.tanh)[k % 4]\n"
        "        os._exit(not torch.equal(f(x), f(x)))\n"
        "    assert os.waitpid(child, 0)[1] == 0, k\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
