"""Call torch's vector functions once on one thread, before two threads can make the first call together.

oneMKL picks the code of a vector function at its first call. In the builds inside torch's wheels (2024.2 in torch
2.13) two threads that make this call together may get different code: one computes its half of the tensor at low
accuracy, with relative errors of 1e-4, and every later call is right (pytorch/pytorch#188792). A stage that meets
it writes other bytes than the same stage run again.
"""

from __future__ import annotations

import torch

FUNCTIONS = (
    *("acos", "asin", "atan", "cos", "erf", "erfc", "erfinv", "exp"),
    *("log", "log10", "log2", "sin", "sqrt", "tan", "tanh", "trunc"),
)
"""Those that torch leaves to oneMKL: aten/src/ATen/cpu/vml.h."""
PRECISIONS = (torch.float32, torch.float64)


def choose_code() -> None:
    """Let oneMKL choose the code of every function; processes forked from this one have it too."""
    for dtype in PRECISIONS:
        value = torch.full((1,), 0.5, dtype=dtype)  # one element is the work of one thread
        for name in FUNCTIONS:
            getattr(torch, name)(value)
