"""Last and mean states of the base alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipeline.scoring.base_states import base_states
from tests.conftest import with_lora

ROWS = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [2, 2]]


# Mutations caught: adapters left on; padding in the mean; the last state of the width; rows in sorted order.
def test_each_row_alone_without_adapters(base: Any) -> None:
    with torch.no_grad():
        states = [base.base_model(torch.tensor([row])).last_hidden_state[0] for row in ROWS]
    wanted = [torch.cat([s[-1], s.mean(0)]).double().numpy() for s in states]
    np.testing.assert_allclose(base_states(with_lora(base), ROWS, batch_size=3), wanted, atol=1e-5)
