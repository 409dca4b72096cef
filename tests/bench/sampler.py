"""What asking a server for completions costs this side: ours against httpx alone, in milliseconds a completion.

The server answers at once, from another process on another core: what is left is the client. Ours also reads the
prompt's tokens, keeps each completion on the disk, and puts all into order. Run by itself:

    python -m tests.bench.sampler
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from pipeline.formats.messages import render_plain
from pipeline.served.prompts import Turns
from pipeline.served.sampling import ServedSampling
from pipeline.workflow.samplers import SamplerOptions
from tests.conftest import tiny_tokenizer

PROMPTS, EACH, AT_ONCE, ROUNDS = 1500, 2, 32, 3

SERVER = """
import asyncio, os
from tests.helpers.completion_server import CompletionServer
os.sched_setaffinity(0, {0})
async def main():
    listening = await asyncio.start_server(CompletionServer().serve, "127.0.0.1", 0, backlog=512)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()
asyncio.run(main())
"""


def ours(url: str, out: Path) -> None:
    list(
        ServedSampling(
            SamplerOptions(url, "m", concurrency=AT_ONCE),
            [f"w{i % 50} prompt {i}" for i in range(PROMPTS)],
            tokenizer=tiny_tokenizer(),
            turns=Turns(render_plain, False, "x"),
            journal=out,
            completion_tokens=8,
            per_prompt=EACH,
            temperature=1.0,
            seed=0,
        )
    )


def httpx_alone(url: str, _: Path) -> None:
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    with httpx.Client(limits=limits, verify=False) as client, ThreadPoolExecutor(AT_ONCE) as pool:

        def ask(i: int) -> str:
            body = {"model": "m", "prompt": f"w{i % 50} prompt {i // EACH}", "max_tokens": 8, "seed": i}
            return client.post(f"{url}/completions", content=json.dumps(body)).json()["choices"][0]["text"]

        list(pool.map(ask, range(PROMPTS * EACH)))


def milliseconds(run: Callable[[str, Path], None], url: str, out: Path) -> tuple[float, float]:
    """(wall, CPU of this process), a completion."""
    wall, cpu = time.perf_counter(), time.process_time()
    run(url, out)
    count = PROMPTS * EACH
    return (time.perf_counter() - wall) / count * 1000, (time.process_time() - cpu) / count * 1000


def main() -> None:
    os.environ["NO_PROXY"] = "127.0.0.1"
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        with tempfile.TemporaryDirectory() as directory:
            times: dict[str, list[tuple[float, float]]] = {"ours": [], "httpx": []}
            for i in range(ROUNDS):
                times["httpx"].append(milliseconds(httpx_alone, url, Path(directory)))
                times["ours"].append(milliseconds(ours, url, Path(directory) / str(i)))
        for name, rows in times.items():
            wall, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
            print(f"{name:<6} {wall:.2f} ms of wall, {cpu:.2f} ms of CPU a completion")
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
