"""The root of a store: empty, in the way, not writable; and that importing it is cheap."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.base.errors import StoreError
from pipeline.store.store import Store
from tests.helpers.versions import new


def test_an_empty_store_says_so(store: Store) -> None:
    assert store.names() == []
    assert store.versions("prefs") == []
    with pytest.raises(StoreError, match="nothing yet"):
        store.resolve("prefs")


def test_a_file_where_the_root_should_be(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("I am a file")
    store = Store(tmp_path / "data")
    with pytest.raises(StoreError, match=r"nothing was published.*in the way"), new(store):
        pass
    with pytest.raises(StoreError, match="Not a directory"):
        store.names()


def test_a_root_that_cannot_be_written() -> None:
    # Tests may run as root, whom permissions do not stop; the kernel's own file systems do.
    with pytest.raises(StoreError, match=r"^/proc/[^:]*: .*nothing was published"), new(Store("/proc/data")):
        pass


def imported(modules: str, suspects: tuple[str, ...]) -> list[str]:
    """Which of ``suspects`` a fresh interpreter has loaded after importing ``modules``."""
    code = f"import sys, {modules}; print(*(m for m in {suspects} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_the_store_is_cheap() -> None:
    suspects = ("torch", "pyarrow", "datasets", "huggingface_hub", "yaml", "numpy")
    assert imported("pipeline.store.store, pipeline.stages.data.data", suspects) == []


def test_making_a_card_needs_no_torch_and_no_network_client() -> None:
    suspects = ("torch", "transformers", "datasets", "httpx", "httpx2", "pandas")
    assert imported("pipeline.store.model_card, huggingface_hub.repocard_data", suspects) == []
