"""``collect`` with completions of a real small model, served by transformers on this machine. Slow.

RLHF_CHAT_MODEL names a directory with a chat model, such as the base that configs/smollm2.yaml leaves
(data/smollm2-base/versions/v000001); the server needs fastapi, uvicorn and openai.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from pipeline import collect
from pipeline.base.errors import ModelError
from pipeline.modeling import tokens
from pipeline.modeling.loading import load_tokenizer
from pipeline.store.store import Store
from tests.helpers.served_model import transformers_serve

MODEL = os.environ.get("RLHF_CHAT_MODEL", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not MODEL, reason="RLHF_CHAT_MODEL names no directory with a chat model"),
]

SAMPLES = json.dumps({"do_sample": True, "max_new_tokens": 16})
"""For ``transformers serve``, which takes the rest of how to sample from the model's generation_config.json."""


def test_a_served_model_is_sampled_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with transformers_serve(tmp_path / "log") as url:
        sampler = {
            "url": url,
            "model": MODEL,
            "concurrency": 2,
            "timeout": 300,
            "request": {"generation_config": SAMPLES},
        }
        config = {
            "name": "served",
            "data_dir": str(tmp_path / "data"),
            "task": "requests",
            "task_args": {
                "chat_template": "base",
                "system": "Answer in one short sentence.",
                "completion_tokens": 16,
            },
            "base_model": MODEL,
            "collect": {
                "comparisons": 6,
                "completions": 2,
                "test_share": 0.34,
                "temperature": 0.7,
                "sampler": sampler,
            },
        }
        (tmp_path / "served.yaml").write_text(yaml.safe_dump(config))
        argv = ["--config", str(tmp_path / "served.yaml")]
        greedy = {"generation_config": json.dumps({"do_sample": False, "max_new_tokens": 16})}
        with pytest.raises(ModelError, match="gave equal completions of each of 3 prompts"):
            collect.main([*argv, "collect.comparisons=3", f"collect.sampler.request={json.dumps(greedy)}"])
        assert collect.main(argv) == 0
        chat = [*argv, "name=chat", "collect.sampler.api=chat"]
        assert collect.main(chat) == 0
    tokenizer = load_tokenizer(MODEL)
    for name in ("served", "chat"):
        version = Store(tmp_path / "data").resolve(f"{name}-comparisons")
        said = version.manifest.stats["sampler"]
        rows = [row for split in ("train", "test") for row in version.rows(split, "completions")]
        print(f"\n{name}: {json.dumps(said)}")
        for row in rows[:20]:
            print(f"  {row['finish_reason']:<6} {row['prompt'][-70:]!r} -> {row['completion']!r}")
        assert (said["completions"], said["server"], said["text"]) == (12, "other", "the server's")
        # The template is the same, ours or theirs: as many tokens of a prompt as the base's tokenizer has.
        assert said["prompts_read_otherwise"] == 0
        assert said["ended"] + said["cut"] == 12
        for row in rows:
            length = len(tokens.encode_completions(tokenizer, [row["completion"]])[0])
            assert length <= 16 + 1
            assert row["completion"].strip()
