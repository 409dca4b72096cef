"""Completions from a server that misbehaves, by a client that is killed again and again; 50,000, 20 kills. Slow.

None is lost, none is there twice, and none that was kept is asked for again. It leaves out the model.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline.base.records import digest
from tests.helpers.completion_server import text_for
from tests.helpers.forks import Commands

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EACH = 4

SERVER = """
import asyncio, random, sys
from tests.helpers.completion_server import CompletionServer

draw, record = random.Random(0), open(sys.argv[1], "a", buffering=1)
faults = ["429"] * 3 + ["500"] * 3 + ["cut"] * 3 + ["wrong"] * 2 + ["none"] * 2 + ["abort"] * 2 + ["slow"] * 5
server = CompletionServer(
    lambda body, n: draw.choice(faults) if draw.random() < 0.2 else None,
    record=lambda seed: record.write(f"{seed}\\n"),
)

async def main():
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=512)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()

asyncio.run(main())
"""

CLIENT = """
import json
from pathlib import Path
from pipeline.formats.messages import render_plain
from pipeline.served.prompts import Turns
from pipeline.served.sampling import ServedSampling
from pipeline.workflow.samplers import SamplerOptions
from tests.conftest import tiny_tokenizer

tokenizer = tiny_tokenizer()

def work(port, prompts, each, journal, out):
    some = ServedSampling(
        SamplerOptions(f"http://127.0.0.1:{port}/v1", "m", concurrency=32, attempts=30),
        [f"w{i % 50} prompt {i}" for i in range(int(prompts))],
        tokenizer=tokenizer,
        turns=Turns(render_plain, False, "x"),
        journal=Path(journal),
        completion_tokens=8,
        per_prompt=int(each),
        temperature=1.0,
        seed=0,
        backoff=0.001,
    )
    comparisons = [[i, c.id] for i, c in some]
    keys = ("id", "prompt", "number", "seed", "completion")
    rows = [[row[key] for key in keys] for row in some.rows(lambda _: True)]
    Path(out).write_text(json.dumps([rows, comparisons, some.report()]))
"""


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


# The first is what CI runs.
@pytest.mark.parametrize(
    ("prompts", "kills"), [pytest.param(500, 3, id="survives"), pytest.param(12_500, 20, id="all of 50,000")]
)
def test_none_is_lost_and_none_is_doubled(
    prompts: int, kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    record, journal, out = tmp_path / "record", tmp_path / "journal" / "completions.jsonl", tmp_path / "rows.json"
    record.touch()
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(record)], stdout=subprocess.PIPE, text=True)
    client = Commands(CLIENT)
    try:
        assert server.stdout is not None
        arguments = [server.stdout.readline().strip(), str(prompts), str(EACH), str(journal.parent), str(out)]
        before: list[tuple[int, int]] = []  # at each start: lines of the server's record and of the journal
        for kill in range(1, kills + 1):
            before.append((lines(record), lines(journal)))
            command = client.start(arguments, tmp_path / "o", tmp_path / "e")
            while lines(journal) < prompts * EACH * kill / (kills + 1):
                time.sleep(0.05)
            os.kill(command.pid, signal.SIGKILL)
            assert command.wait() == -signal.SIGKILL
        before.append((lines(record), lines(journal)))
        assert client.start(arguments, tmp_path / "o", tmp_path / "e").wait() == 0, (tmp_path / "e").read_text()[
            -2000:
        ]
    finally:
        client.close()
        server.kill()
        server.wait()
    rows, comparisons, report = json.loads(out.read_text())
    places = [(row[1], row[2]) for row in rows]
    assert places == [(f"w{i % 50} prompt {i}", k) for i in range(prompts) for k in range(EACH)]
    assert all(text == text_for(prompt, seed) for _, prompt, _, seed, text in rows)
    assert report["sampler"]["completions"] == len(rows) == prompts * EACH
    assert len(comparisons) == prompts * EACH * (EACH - 1) // 2
    seeds = {key: seed for key, _, _, seed, _ in rows}
    kept: list[str] = []
    for line in journal.read_text().splitlines():
        try:
            kept.append(json.loads(line)["key"])
        except ValueError:  # cut by a kill, and asked for again
            continue
    assert Counter(kept).most_common(1)[0][1] == 1
    assert set(kept) == seeds.keys()
    asked = record.read_text().split()
    for recorded, journaled in before:
        durable = {str(seeds[key]) for key in kept[: max(0, journaled - kills)]}
        assert not durable & set(asked[recorded:])
    print(f"\n{len(rows)} completions, {kills} kills; the server answered {len(asked)}: {digest(rows)[:12]}")
