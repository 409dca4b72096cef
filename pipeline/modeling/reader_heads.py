"""The heads that a shared reward model learns for readers beside its own, on the same trunk.

A reader's score is (head + reader's head) times the state. Their file lies beside the adapter, which needs it not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pipeline.base.errors import ModelError, first_line
from pipeline.store.version import READER_HEADS


def save_reader_heads(directory: Path, heads: Mapping[str, Tensor]) -> None:
    """Write the (1, H) head of each reader, by what versions call them."""
    from safetensors.torch import save_file

    path = directory / READER_HEADS
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: head.detach().cpu().contiguous() for name, head in heads.items()}, path)


def read_reader_head(directory: Path, reader: str) -> Tensor | None:
    """The (1, H) head of a reader; None where the reward model has none for them.

    Raises:
        ModelError: the file is damaged.
    """
    from safetensors import safe_open

    path = directory / READER_HEADS
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as heads:  # pyright: ignore[reportUnknownVariableType]
            return heads.get_tensor(reader) if reader in heads.keys() else None  # noqa: SIM118
    except Exception as err:  # a damaged file can raise anything
        what = f"its {READER_HEADS} is damaged ({first_line(err)})."
        raise ModelError(str(directory), what, "Train it again: make reward") from err
