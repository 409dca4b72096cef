"""A real model behind OpenAI's API on this machine: ``transformers serve``, and llama.cpp's server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.helpers.free_port import free_port


@contextmanager
def transformers_serve(log: Path) -> Iterator[str]:
    """Its address; skips the test where fastapi, uvicorn or openai are not installed."""
    for package in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(package)
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1"]
    port = free_port()
    with _running([*command, "--port", str(port), "--device", "cpu"], log, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}/v1"


_LLAMA_CPP = """
import sys, threading
import xllamacpp
options = xllamacpp.CommonParams()
options.model.path, options.hostnames, options.port = sys.argv[1], ["127.0.0.1"], int(sys.argv[2])
options.n_parallel, options.n_ctx, options.warmup = 4, 4096, False
server = xllamacpp.Server(options)
threading.Event().wait()
"""


@contextmanager
def llama_cpp_serve(gguf: str, log: Path) -> Iterator[str]:
    """The address of llama.cpp's server, as the package xllamacpp has it; skips the test where that is missing."""
    pytest.importorskip("xllamacpp")
    port = free_port()
    command = [sys.executable, "-c", _LLAMA_CPP, gguf, str(port)]
    with _running(command, log, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def _running(command: Sequence[str], log: Path, health: str) -> Iterator[None]:
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        for _ in range(600):
            assert server.poll() is None, log.read_text()[-2000:]
            try:
                if httpx.get(health, trust_env=False).is_success:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        yield
    finally:
        server.terminate()
        server.wait(30)
