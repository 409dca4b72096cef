"""Completions from a server: each place filled once, in the prompts' order, whatever the server does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.base.errors import ConfigError, ModelError, StoreError
from pipeline.base.files import hold
from pipeline.formats.messages import render_plain
from pipeline.served.prompts import Turns, turns_reader
from pipeline.served.sampling import ServedSampling
from pipeline.workflow.key_checks.unknown_and_mistyped import parse_options
from pipeline.workflow.samplers import SamplerOptions
from tests.conftest import tiny_tokenizer
from tests.helpers.completion_server import CompletionServer, serving, text_for

KEY = "sk-very-secret"
PROMPTS = [f"w{i % 20} w{i % 7} w{i}" for i in range(12)]
FAULTS = (None, None, "429", "500", "cut", None, "wrong", "html", None, "none", "abort", None, "slow", None)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SAMPLER_KEY", KEY)


def ids_of(text: str) -> list[int]:
    return tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]


def sampling(server: CompletionServer, journal: Path, turns: Turns | None = None, **more: Any) -> ServedSampling:
    prompts = more.pop("prompts", PROMPTS)
    options = {"url": server.url, "model": "m", "key_env": "SAMPLER_KEY", "concurrency": 4, "timeout": 5.0, **more}
    return ServedSampling(
        SamplerOptions(**options),
        prompts,
        tokenizer=tiny_tokenizer(),
        turns=turns or Turns(render_plain, False, "x.yaml"),
        journal=journal,
        completion_tokens=8,
        per_prompt=3,
        temperature=0.7,
        seed=0,
        backoff=0.001,
    )


def rows(some: ServedSampling) -> list[dict[str, Any]]:
    return list(some.rows(lambda _: True))


# Catches: rows in order of arrival; a seed that depends on the thread; a retry that takes another seed.
def test_faults_change_no_row(tmp_path: Path) -> None:
    with serving(CompletionServer()) as server:
        calm = sampling(server, tmp_path / "calm")
        comparisons, expected, report = list(calm), rows(calm), calm.report()
        rough = CompletionServer(lambda body, n: FAULTS[(n * 7 + body["seed"]) % 17 % len(FAULTS)])
        server.faults = rough.faults
        other = sampling(server, tmp_path / "rough", attempts=30, concurrency=7)
        assert list(other) == comparisons
        assert rows(other) == expected
        assert other.report() == report
    assert [i for i, _ in comparisons] == [i for i in range(12) for _ in range(3)]
    assert [r["completion"] for r in expected] == [text_for(r["prompt"], r["seed"]) for r in expected]
    assert len({r["seed"] for r in expected}) == 36
    assert [r["ended"] for r in expected] == [r["seed"] % 2 == 0 for r in expected]
    said = report["sampler"]
    assert (said["completions"], said["ended"] + said["cut"], said["server"]) == (36, 36, "vllm")
    assert (said["system_fingerprints"], said["model"]["root"]) == ({"fp-1": 36}, "/models/m")
    assert said["chat_template"].startswith("ours")


def test_the_request_asks_for_plain_sampling_of_the_prompt_as_it_is(tmp_path: Path) -> None:
    with serving(CompletionServer()) as server:
        list(
            sampling(server, tmp_path / "a", prompts=PROMPTS[:1], request={"min_p": None, "logit_bias": {"5": -1}})
        )
    body = server.bodies[0]
    assert body.pop("seed") in server.answered
    assert body == {
        "model": "m",
        "prompt": PROMPTS[0],
        "max_tokens": 8,
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": -1,
        "repetition_penalty": 1.0,
        "return_token_ids": True,
        "add_special_tokens": False,
        "logit_bias": {"5": -1},
    }
    assert server.paths[0] == "/v1/completions"
    assert (
        f"Authorization: Bearer {KEY}" in server.headers[0] or f"authorization: Bearer {KEY}" in server.headers[0]
    )


# What is received is asked for no more, after a failure too; nothing of the key is kept.
def test_received_completions_are_kept_over_a_failure(tmp_path: Path) -> None:
    with serving(CompletionServer(lambda _, n: "401" if n >= 20 else None)) as server:
        with pytest.raises(ModelError, match=r"HTTP 401: the key in SAMPLER_KEY is not accepted"):
            list(sampling(server, tmp_path / "j"))
        first = set(server.answered)
        journal = tmp_path / "j" / "completions.jsonl"
        kept = [json.loads(line) for line in journal.read_text().splitlines()]
        assert len(kept) == len(first)
        journal.write_bytes(journal.read_bytes()[:-9])  # killed while writing the last
        server.faults, server.answered = lambda _, __: None, []
        again = sampling(server, tmp_path / "j", concurrency=3, timeout=9.0)
        list(again)
        assert len(rows(again)) == 36
        assert len(set(server.answered)) == len(server.answered) == 36 - len(first) + 1
        assert KEY not in journal.read_text() + json.dumps(again.report()) + repr(again.options)


def test_another_temperature_is_another_completion(tmp_path: Path) -> None:
    with serving(CompletionServer()) as server:
        list(sampling(server, tmp_path / "j"))
        before = len(server.answered)
        list(sampling(server, tmp_path / "j", request={"top_p": 0.9}))
    assert len(server.answered) == 2 * before


def test_only_one_process_asks(tmp_path: Path) -> None:
    (tmp_path / "j").mkdir()
    held = hold(tmp_path / "j")
    with serving(CompletionServer()) as server:
        some = sampling(server, tmp_path / "j")
        with pytest.raises(StoreError, match="another process"):
            list(some)
    os.close(held)


def test_llama_cpp_takes_any_name_and_the_model_that_it_has_is_recorded(tmp_path: Path) -> None:
    with serving(CompletionServer(owner="llamacpp")) as server:
        some = sampling(server, tmp_path / "j", model="whatever")
        list(some)
    assert some.report()["sampler"]["model"]["id"] == "m"


# Catches: a refusal that ends the run, or that is a completion of no text.
def test_a_refused_prompt_is_in_no_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def long_one(body: dict[str, Any], _: int) -> str | None:
        return "refused" if body["prompt"] == PROMPTS[3] else None

    with serving(CompletionServer(long_one)) as server:
        some = sampling(server, tmp_path / "j")
        assert {i for i, _ in some} == set(range(12)) - {3}
        asked = len(server.bodies)
        list(sampling(server, tmp_path / "j"))
        assert len(server.bodies) == asked  # nor is it asked again
    assert [r["completion"] for r in rows(some)[9:12]] == [None] * 3
    assert some.report()["sampler"]["refused"] == {"too_long": 3}
    assert "3 of 36 completions were refused and are in no comparison" in capsys.readouterr().out


class TestTokenIds:
    """The text is decoded from the ids where the server read the prompt as the base's tokenizer does."""

    @pytest.mark.parametrize("owner", ["vllm", "sglang", "llamacpp"])
    def test_ids_are_kept_and_read(self, tmp_path: Path, owner: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tests.helpers.completion_server.text_for", lambda prompt, seed: f"w{seed % 50} w3")
        with serving(CompletionServer(owner=owner, encode=ids_of)) as server:
            some = sampling(server, tmp_path / "j")
            list(some)
        assert some.report()["sampler"]["text"] == "decoded from token ids"
        assert [r["token_ids"] for r in rows(some)] == [ids_of(f"w{r['seed'] % 50} w3") for r in rows(some)]
        assert rows(some)[0]["completion"] == f"w{rows(some)[0]['seed'] % 50} w3"
        assert server.paths[0] == ("/completion" if owner == "llamacpp" else "/v1/completions")
        assert ("add_special_tokens" in server.bodies[0]) == (owner == "vllm")

    # Catches: ids of another vocabulary read by ours.
    def test_another_tokenizers_ids_are_not_read(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(CompletionServer(encode=lambda text: [7, *map(ord, text)])) as server:
            some = sampling(server, tmp_path / "j")
            list(some)
        assert [r["completion"] for r in rows(some)] == [text_for(r["prompt"], r["seed"]) for r in rows(some)]
        assert some.report()["sampler"]["text"] == "the server's"
        assert "the server read the prompts of 36 of 36 completions as other tokens" in capsys.readouterr().out

    def test_the_token_that_ended_a_completion_is_not_in_its_text(self, tmp_path: Path) -> None:
        eos = tiny_tokenizer().eos_token_id
        with serving(
            CompletionServer(encode=lambda text: [*ids_of("w1 w2"), eos] if text[0] == " " else ids_of(text))
        ) as s:
            some = sampling(s, tmp_path / "j", prompts=PROMPTS[:2])
            with pytest.raises(ModelError, match="gave equal completions of each of 2 prompts"):
                list(some)
        assert {r["completion"] for r in rows(some)} == {"w1 w2"}


class TestChat:
    """``api: chat`` sends turns, and refuses a prompt that it cannot read back."""

    def test_plain_conversations_are_read_back(self, tmp_path: Path) -> None:
        turns = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}]
        prompts = [render_plain(turns, "")[0], "no conversation"]
        with serving(CompletionServer(owner=None)) as server:
            some = sampling(server, tmp_path / "j", prompts=prompts, api="chat")
            list(some)
        sent = [body["messages"] for body in server.bodies]
        assert sent[0] == turns
        assert [{"role": "user", "content": "no conversation"}] in sent
        assert server.paths[0] == "/v1/chat/completions"
        # As GPT-2's tokens begin with a blank, so does a completion after `Assistant:`.
        assert rows(some)[0]["completion"] == text_for("Why?", rows(some)[0]["seed"])
        report = some.report()["sampler"]
        assert (report["server"], report["chat_template"]) == ("other", "the server's: it gets turns")

    def test_a_template_is_read_back_or_refused(self) -> None:
        tokenizer = tiny_tokenizer()
        tokenizer.chat_template = (
            "{% if messages[0].role != 'system' %}<|im_start|>system\nHelp.<|im_end|>\n{% endif %}"
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "<|im_start|>assistant{{ '\n' }}"
        )
        reader = turns_reader(tokenizer, "base", "x.yaml")
        for turns in (
            [{"role": "user", "content": "Hi"}],
            [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}],
        ):
            prompt = reader.render(turns, "")[0]
            assert reader.render(reader.messages(prompt), "")[0] == prompt
        with pytest.raises(ConfigError, match="is not to be read as such"):
            reader.messages("<start_of_turn>user\nHi")
        assert reader.completion("Yes.") == "Yes."


def test_a_server_without_the_model_is_told(tmp_path: Path) -> None:
    with (
        serving(CompletionServer(model="other")) as server,
        pytest.raises(ModelError, match=r"serves other\. Set"),
    ):
        list(sampling(server, tmp_path / "j"))


# Catches: no limit; the limit of each thread instead of all.
def test_the_rate_is_of_all_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The clock stands still, so that no time is spent but by waiting for turns.
    monkeypatch.setattr("pipeline.scoring.endpoint.time", SimpleNamespace(monotonic=lambda: 1000.0))
    with serving(CompletionServer()) as server:
        some = sampling(server, tmp_path / "j", rate=50.0, prompts=PROMPTS[:4])
        waited: list[float] = []
        waits = some._endpoint.stopping.wait
        monkeypatch.setattr(some._endpoint.stopping, "wait", lambda t: (waited.append(t), waits(0))[1])
        list(some)
    # The question for the model has the first turn, the twelve completions the next: each is 20 ms after the last.
    assert sorted(waited) == pytest.approx([0.02 * n for n in range(1, 13)])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "localhost:8000"}, "not an address"),
        ({"url": "http://user:pw@h/v1"}, "holds a user"),
        ({"model": " "}, "model is empty"),
        ({"request": {"seed": 1, "n": 2}}, "n, seed is not yours"),
        ({"api": "responses"}, "should be one of completions, chat"),
        ({"concurency": 0}, "unknown key"),
    ],
)
def test_bad_options_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_options(SamplerOptions, {"url": "http://h/v1", "model": "m", **given}, "x.yaml", "collect.sampler.")
